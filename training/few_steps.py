"""Run 4: an adapter with which a model draws in few steps what it drew in many; negative prompts still act.

Each step of the short schedule learns to land where several steps of the long one land, both with guidance
(progressive distillation, arXiv 2202.00512, of the guided sampler into a LoRA, as in arXiv 2311.05556). What
the network has to say for that follows from the model's own scheduler, whose steps are affine in it, so that
drawing needs the adapter and a small number of steps, and nothing else.
Knows nothing of pixels.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ldm_pipeline.pipeline import LatentDiffusionPipeline
from ldm_pipeline.request import GenerationDefaults
from training.attention import plain_attention
from training.bases import Base
from training.data.cache import cached, content_key
from training.data.postcards import words_key
from training.draws import generator, samples_at
from training.loop import Batch, FitConfig, Progress, fingerprint, fit
from training.lora import LoraShape, add_lora
from training.scenes.caption import draw_caption
from training.scenes.claims import Sight
from training.scenes.scene import sample_scene
from training.scenes.world import World

EVERY_LAYER = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "conv1", "conv2")
PATHS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class FewStepsRun:
    """How an adapter for few steps is trained."""

    fit: FitConfig
    lora: LoraShape = LoraShape(rank=16, alpha=16.0, targets=EVERY_LAYER)
    seed: int = 6
    steps: int = 4
    """Denoising steps that the adapter is for."""
    parts: int = 4
    """Steps of the long schedule for each of them."""
    paths: int = 2_048
    """Drawings of the long schedule that are learned from."""
    held_out_paths: int = 64
    negative_share: float = 0.25
    """Share of the drawings with a negative prompt; the others have the empty one."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("parts", 2), ("paths", 1), ("held_out_paths", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"few_steps.{name}={getattr(self, name)}: must be at least {least}.")
        if not 0 <= self.negative_share <= 1:
            raise ValueError(f"few_steps.negative_share={self.negative_share}: is a share; choose 0 to 1.")


@dataclass(frozen=True)
class Paths:
    """Drawings of the long schedule, seen where the short one stops."""

    latents: NDArray[np.float16]
    """[paths, steps + 1, c, h, w], from noise to the end."""
    states: NDArray[np.float16]
    """Token states of negative prompt and prompt, [paths, 2, tokens, width]."""
    prompts: tuple[str, ...]
    negatives: tuple[str, ...]
    key: str


class FewStepsObjective(nn.Module):
    """Squared error of the guided prediction, of which a step of the short schedule is made."""

    def __init__(self, unet: UNet2DConditionModel, *, guidance_scale: float):
        super().__init__()
        self.unet, self.guidance_scale = unet, guidance_scale

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`latents` and `wanted` [n, c, h, w]; `timesteps` [n]; `states` [n, 2, tokens, width]."""
        x_t = batch["latents"].contiguous(memory_format=torch.channels_last)
        negative, prompt = batch["states"].unbind(1)
        with plain_attention(x_t.device):
            both = self.unet(
                torch.cat([x_t, x_t]), batch["timesteps"].repeat(2), torch.cat([negative, prompt])
            ).sample.float()
        without, told = both.chunk(2)
        guided = without + self.guidance_scale * (told - without)
        return {"loss": (guided - batch["wanted"]).square().mean()}


def check_schedules(scheduler: Any, run: FewStepsRun) -> None:
    """ValueError unless the short schedule stops only where the long one does, and neither draws noise."""
    short, long = laid_out(scheduler, run.steps), laid_out(scheduler, run.steps * run.parts)
    name = type(scheduler).__name__
    if not hasattr(short, "sigmas") or "sde" in str(scheduler.config.get("algorithm_type", "")):
        raise ValueError(
            f"few_steps: {name} has no noise levels or draws noise; take DPMSolverMultistepScheduler."
        )
    stops = long.sigmas[:: run.parts]
    if stops.shape != short.sigmas.shape or not torch.allclose(stops, short.sigmas, atol=1e-3):
        raise ValueError(
            f"few_steps.steps={run.steps}, parts={run.parts}: the short schedule of {name} stops at noise "
            "levels that the long one leaves out; choose another spacing of timesteps."
        )


def check_guidance(base: Base) -> None:
    """ValueError unless the base guides every step alike, which is what the objective computes."""
    own = base.pipeline.generation_defaults
    if own.guidance_scale <= 1:
        raise ValueError(
            f"guidance_scale={own.guidance_scale} of {base.name}: few steps are learned with guidance, "
            "without which negative prompts do nothing; choose another model."
        )
    plain = GenerationDefaults()
    for name in ("guidance_rescale", "guidance_interval", "negative_start"):
        if getattr(own, name) != getattr(plain, name):
            raise ValueError(
                f"{name}={getattr(own, name)} of {base.name}: few steps are learned with the same guidance "
                "in every step; take it out of the folder's generation_defaults.json."
            )


def laid_out(scheduler: Any, steps: int) -> Any:
    """A copy of a scheduler with a schedule of so many steps."""
    run = copy.deepcopy(scheduler)
    run.set_timesteps(steps)
    return run


def wanted_outputs(
    scheduler: Any, path: Float[Tensor, "rows stops c h w"]
) -> tuple[Float[Tensor, "rows steps c h w"], Tensor]:
    """What the network must predict so that each step of the short schedule lands on the path's next stop.

    The scheduler is asked what it makes of zero and of one; between these its step is linear, element by
    element. Its memory of earlier steps holds what was wanted there. Also gives the timesteps, [steps].
    """
    steps = path.shape[1] - 1
    run = laid_out(scheduler, steps)
    timesteps, wanted = run.timesteps.clone(), []
    for number, timestep in enumerate(timesteps):
        here, there = path[:, number], path[:, number + 1]
        at_zero, at_one = (
            copy.deepcopy(run).step(make(here), timestep, here).prev_sample
            for make in (torch.zeros_like, torch.ones_like)
        )
        output = (there - at_zero) / (at_one - at_zero)
        run.step(output, timestep, here)
        wanted.append(output)
    return torch.stack(wanted, dim=1), timesteps.float()


def prompts_of(
    world: World, run: FewStepsRun, *, stream: int, first: int, last: int
) -> tuple[list[str], list[str]]:
    """Captions of scenes `first` to `last` of a stream, and a negative prompt for each.

    A negative prompt is empty or names a kind of thing that the caption does not; no picture is drawn.
    """
    prompts, negatives = [], []
    for index in range(first, last):
        scene = sample_scene(stream, index, world)
        caption = draw_caption(scene, Sight.everything(scene), seed=run.seed)
        draws = random.Random(f"few_steps/{run.seed}/{stream}/{index}")
        named = {thing.kind for thing in caption.truth.things}
        others = [kind for kind in world.kinds if kind not in named]
        prompts.append(caption.text)
        negatives.append(draws.choice(others) if others and draws.random() < run.negative_share else "")
    return prompts, negatives


def build_paths(
    run: FewStepsRun, base: Base, world: World, *, stream: int, count: int, folder: Path
) -> Paths:
    """Draw `count` paths that are not in `folder` yet, with the base's own guidance and scheduler.

    Raises:
        ValueError: the base's schedules do not fit each other, or it draws without guidance.
    """
    pipeline = base.pipeline
    check_schedules(pipeline.scheduler, run)
    check_guidance(base)
    side = base.resolution // pipeline.vae_scale_factor
    shape = (pipeline.unet.config.in_channels, side, side)
    key = content_key(
        pipeline.unet, pipeline.text_encoder, pipeline.scheduler.to_json_string(), words_key(),
        str(pipeline.generation_defaults), repr(world), run.seed, run.steps, run.parts,
        str(run.negative_share), stream, count, side,
    )  # fmt: skip

    def make_paths(first: int, last: int) -> Tensor:
        prompts, negatives = prompts_of(world, run, stream=stream, first=first, last=last)
        noise = torch.stack(
            [torch.randn(shape, generator=generator(run.seed, "path", stream, i)) for i in range(first, last)]
        )
        stops = [noise]

        def stop(_pipe: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if (step + 1) % run.parts == 0:
                stops.append(tensors["latents"].detach().float().cpu())
            return tensors

        drawn_from(pipeline, prompts, negatives, noise, steps=run.steps * run.parts, each_step=stop)
        return torch.stack(stops, dim=1)

    def make_states(first: int, last: int) -> Tensor:
        prompts, negatives = prompts_of(world, run, stream=stream, first=first, last=last)
        return token_states(pipeline, prompts, negatives)

    prompts, negatives = prompts_of(world, run, stream=stream, first=0, last=count)
    return Paths(
        latents=cached(
            folder / f"paths-{key}.npy", make_paths, count=count, batch_size=PATHS_AT_ONCE, title="paths"
        ),
        states=cached(folder / f"path-states-{key}.npy", make_states, count=count, title="captions"),
        prompts=tuple(prompts),
        negatives=tuple(negatives),
        key=key,
    )


def drawn_from(
    pipeline: LatentDiffusionPipeline,
    prompts: Sequence[str],
    negatives: Sequence[str],
    noise: Tensor,
    *,
    steps: int,
    each_step: Callable[..., dict[str, Any]] | None = None,
) -> Tensor:
    """Final latents [prompts, c, h, w] in float32, from given noise and with the folder's own guidance."""
    factor = pipeline.vae_scale_factor
    drawn = pipeline(
        list(prompts),
        negative_prompt=list(negatives),
        latents=noise.to(pipeline.unet.dtype),
        height=noise.shape[2] * factor,
        width=noise.shape[3] * factor,
        num_inference_steps=steps,
        output_type="latent",
        exact=False,
        callback_on_step_end=each_step,
    ).images
    assert isinstance(drawn, Tensor)
    return drawn.detach().float().cpu()


@torch.no_grad()
def token_states(
    pipeline: LatentDiffusionPipeline, prompts: Sequence[str], negatives: Sequence[str]
) -> Float[Tensor, "prompts 2 tokens width"]:
    """Token states of negative prompts and prompts in float32, as the pipeline computes them."""
    told, without = pipeline.encode_prompt(prompts, negative_prompt=negatives)
    assert without is not None
    return torch.stack([without, told], dim=1).float().cpu()


def build_objective(run: FewStepsRun, base: Base) -> FewStepsObjective:
    """Freeze the base's U-Net and put an adapter beside it that changes nothing yet; in place."""
    unet = base.pipeline.unet
    add_lora(unet, run.lora, targets=run.lora.targets, draws=generator(run.seed, "adapters"))
    objective = FewStepsObjective(unet, guidance_scale=base.pipeline.generation_defaults.guidance_scale)
    objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return objective


def training_batch(run: FewStepsRun, data: Paths, scheduler: Any, step: int) -> Batch:
    """Stretches of paths, each at one step of the short schedule; a function of (seed, step)."""
    chosen = samples_at(run.seed, step, batch_size=run.fit.batch_size, count=len(data.latents) * run.steps)
    rows, places = (chosen // run.steps).tolist(), chosen % run.steps
    path = torch.from_numpy(np.stack([data.latents[row] for row in rows])).float()
    wanted, timesteps = wanted_outputs(scheduler, path)
    every = torch.arange(len(rows))
    return {
        "latents": path[every, places],
        "wanted": wanted[every, places],
        "timesteps": timesteps[places],
        "states": torch.from_numpy(np.stack([data.states[row] for row in rows])).float(),
    }


def train(
    run: FewStepsRun,
    objective: FewStepsObjective,
    data: Paths,
    scheduler: Any,
    *,
    run_folder: Path,
    accelerator: Accelerator,
) -> Iterator[Progress]:
    """Train the adapter on stretches of the paths; yields `Progress`."""
    yield from fit(
        objective,
        lambda step: training_batch(run, data, scheduler, step),
        config=run.fit,
        run_folder=run_folder,
        accelerator=accelerator,
        identity=fingerprint("few_steps", run, data.key),
    )


def landing_error(base: Base, held_out: Paths, *, steps: int) -> tuple[float, Tensor]:
    """Mean squared distance of drawings in `steps` steps from where the long schedule ends, and the drawings.

    With the weights that the base's U-Net holds; over the variance of the ends, so that 1 is as bad as
    drawing their mean.
    """
    ends = torch.from_numpy(np.array(held_out.latents[:, -1])).float()
    noise = torch.from_numpy(np.array(held_out.latents[:, 0])).float()
    parts = [
        drawn_from(
            base.pipeline,
            held_out.prompts[first : first + PATHS_AT_ONCE],
            held_out.negatives[first : first + PATHS_AT_ONCE],
            noise[first : first + PATHS_AT_ONCE],
            steps=steps,
        )
        for first in range(0, len(noise), PATHS_AT_ONCE)
    ]
    drawn = torch.cat(parts)
    return float((drawn - ends).square().mean() / ends.var()), drawn
