"""Named recipes: every number of a whole training, as typed values.

Knows nothing of how the runs work; each part's config stands beside its code.
"""

from dataclasses import dataclass, replace

from ldm_pipeline.request import GenerationDefaults
from training.clip import ClipRun
from training.few_steps import FewStepsRun
from training.loop import FitConfig
from training.networks import UNetShape, VaeShape
from training.optim import OptimizerConfig
from training.recogniser import RecogniserRun
from training.scenes.world import FLAT_WORLD, FULL_WORLD, World
from training.text_record import TextRun
from training.unet import UNetRun
from training.vae import VaeRun


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole training, from scenes to pipeline folder."""

    name: str
    world: World
    size: int
    """Pixels of the pictures' sides."""
    pictures: int
    held_out_pictures: int
    """Of another stream, for validation."""
    scene_seed: int = 1
    """Stream of the training scenes; a later leg may take another, so that it sees new pictures."""
    recogniser: RecogniserRun
    """Recogniser 1, for the perceptual loss."""
    judge: RecogniserRun
    """Recogniser 2: another seed and shape, never in a loss."""
    second_judge: RecogniserRun
    """Recogniser 3: yet another, to see where judges disagree."""
    judged_world: World = replace(FULL_WORLD, hold_out=False)
    """What judges learn to read: all styles, and the pairs that no other training sees."""
    judged_pictures: int = 40_960
    vae: VaeRun
    clip: ClipRun
    text: TextRun = TextRun(
        fit=FitConfig(
            optimizer=OptimizerConfig(learning_rate=5e-4, betas=(0.9, 0.98), cooldown_fraction=0.4),
            total_steps=1_600,
            batch_size=128,
            save_every_steps=400,
        )
    )
    """For warm legs: the text encoder learns on by itself, before the UNet does."""
    unet: UNetRun
    few_steps: FewStepsRun = FewStepsRun(
        fit=FitConfig(
            optimizer=OptimizerConfig(
                learning_rate=1e-3, weight_decay=0.0, warmup_steps=20, cooldown_fraction=0.5
            ),
            total_steps=1_000,
            batch_size=64,
            average_decay=0.99,
            save_every_steps=100,
        )
    )
    """Of the finished model: an adapter for four steps."""
    sampling: GenerationDefaults = GenerationDefaults(
        num_inference_steps=14, guidance_scale=6.0, scheduler="DPMSolverMultistepScheduler"
    )
    """How previews and the exported pipeline draw when a call does not say otherwise."""


SMOKE_WORLD = replace(
    FLAT_WORLD,
    cities=("paris", "cairo"),
    times=("day", "night"),
    weathers=("sunny", "rainy"),
    kinds=("umbrella", "dog"),
    colors=("red", "blue"),
)
_SMOKE_READER = FitConfig(
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=5),
    total_steps=40,
    batch_size=16,
    save_every_steps=10,
)
_JUDGE_FIT = FitConfig(
    optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.02),
    total_steps=3_000,
    batch_size=64,
    average_decay=0.9995,
    save_every_steps=300,
)

_JUDGE = RecogniserRun(
    widths=(24, 48, 96, 128),
    seed=11,
    merged=64,
    decoder_layers=2,
    part_weight=0.5,
    point_weight=0.1,
    mirrored_share=0.5,
    fit=_JUDGE_FIT,
)

SMOKE = Recipe(
    name="smoke",
    world=SMOKE_WORLD,
    size=64,
    pictures=256,
    held_out_pictures=32,
    recogniser=RecogniserRun(widths=(8, 16, 24), blocks=0, seed=1, fit=_SMOKE_READER),
    judged_world=replace(SMOKE_WORLD, hold_out=False),
    judged_pictures=256,
    judge=RecogniserRun(
        widths=(8, 16, 32),
        blocks=0,
        merged=16,
        decoder_layers=1,
        part_weight=0.5,
        seed=11,
        fit=_SMOKE_READER,
    ),
    second_judge=RecogniserRun(
        widths=(8, 16), blocks=0, merged=8, decoder_layers=1, part_weight=0.5, seed=21, fit=_SMOKE_READER
    ),
    vae=VaeRun(
        shape=VaeShape(channels=(8, 16, 16, 16), latent_channels=4),
        crop=64,
        fit=FitConfig(
            optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=5),
            total_steps=40,
            batch_size=8,
            save_every_steps=10,
        ),
    ),
    clip=ClipRun(
        width=64,
        layers=2,
        heads=2,
        vocab_size=640,
        fit=FitConfig(
            optimizer=OptimizerConfig(
                learning_rate=1e-3, betas=(0.9, 0.98), weight_decay=0.1, warmup_steps=5
            ),
            total_steps=30,
            batch_size=16,
            save_every_steps=10,
        ),
    ),
    unet=UNetRun(
        shape=UNetShape(channels=(32, 64), attention=(False, True), sample_size=8),
        fit=FitConfig(
            optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=5),
            total_steps=40,
            batch_size=16,
            save_every_steps=10,
        ),
    ),
    few_steps=FewStepsRun(
        paths=32,
        held_out_paths=4,
        fit=FitConfig(
            optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=0.0, warmup_steps=5),
            total_steps=40,
            batch_size=16,
            average_decay=0.9,
            save_every_steps=20,
        ),
    ),
)
"""Minutes on a CPU, to see every part work; its pictures are blurs."""

POSTCARDS128 = Recipe(
    name="postcards128",
    world=FLAT_WORLD,
    size=128,
    pictures=30_720,
    held_out_pictures=1_024,
    recogniser=RecogniserRun(
        widths=(24, 48, 96, 128, 160),
        seed=1,
        fit=FitConfig(
            optimizer=OptimizerConfig(learning_rate=1.5e-3, weight_decay=0.02),
            total_steps=700,
            batch_size=64,
            save_every_steps=250,
        ),
    ),
    judge=_JUDGE,
    second_judge=replace(_JUDGE, widths=(32, 48, 64, 96, 128), seed=21, merged=48),
    vae=VaeRun(
        fit=FitConfig(
            optimizer=OptimizerConfig(learning_rate=1.2e-3),
            total_steps=8_000,
            batch_size=16,
            save_every_steps=500,
        ),
    ),
    clip=ClipRun(
        fit=FitConfig(
            optimizer=OptimizerConfig(learning_rate=1e-3, betas=(0.9, 0.98), weight_decay=0.1),
            total_steps=1_000,
            batch_size=64,
            save_every_steps=250,
        ),
    ),
    unet=UNetRun(
        half_size_steps=1_000,
        fit=FitConfig(
            optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=200),
            total_steps=3_600,
            batch_size=64,
            average_decay=0.9995,
            save_every_steps=400,
        ),
    ),
)
"""One drawing style and ten cities at 128 px, for two CPU cores and one session of three hours.

2026-11-21, two AMD EPYC (Zen 5) cores, 97 minutes: city 98.8 %, weather 99.2, time 99.6, named thing 48.4.
The VAE came in four legs, which the model card lists, not in one run as here. Two warm legs of the UNet with
`thing_weight`, 106 minutes of two Xeon cores, gave 98.0, 99.2, 100.0 and 85.5. A fourth leg led to the
bundled model: 97.3, 99.2, 100.0 and 92.2 (by the judge of that time, now the bundled second judge).
2026-11-30, Zen 4: the bundled judge, 3,000 steps without points and mirror in 46 minutes, then 4,000 with
both (`--init-from`) in 74, reads of 2,730 held-out renders in all styles: weather, time, style and side
100 %, city, present and color 99.9, count and garment present 99.2, garment color 99.8.
"""

POSTCARDS64 = replace(
    POSTCARDS128,
    name="postcards64",
    size=64,
    pictures=16_384,
    unet=replace(POSTCARDS128.unet, shape=UNetShape(sample_size=8), half_size_steps=0),
)
"""The same world at 64 px: a quarter of the cost, and things of a few pixels."""

POSTCARDS256 = replace(
    POSTCARDS128,
    name="postcards256",
    world=FULL_WORLD,
    size=256,
    pictures=131_072,
    held_out_pictures=4_096,
    vae=VaeRun(
        shape=VaeShape(channels=(32, 64, 128, 128)),
        crop=128,
        fit=FitConfig(
            optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=200),
            total_steps=12_000,
            batch_size=128,
            save_every_steps=500,
        ),
    ),
    clip=ClipRun(
        fit=FitConfig(
            optimizer=OptimizerConfig(learning_rate=1e-3, betas=(0.9, 0.98), weight_decay=0.1),
            total_steps=6_000,
            batch_size=512,
            save_every_steps=500,
        ),
    ),
    unet=UNetRun(
        shape=UNetShape(channels=(96, 192, 256), attention=(True, True, True), sample_size=32),
        shift=2.0,
        half_size_steps=4_000,
        half_size_batch=2_048,
        fit=FitConfig(
            optimizer=OptimizerConfig(learning_rate=7e-4, warmup_steps=500),
            total_steps=14_000,
            batch_size=1_024,
            average_decay=0.9995,
            save_every_steps=500,
        ),
    ),
)
"""The whole world at 256 px, sized for one accelerator; not yet run."""

RECIPES = {recipe.name: recipe for recipe in (SMOKE, POSTCARDS64, POSTCARDS128, POSTCARDS256)}
