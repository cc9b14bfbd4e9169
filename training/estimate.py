"""What a run will take before it starts: parameters, memory, samples, hours.

Knows nothing of the run's data or of earlier runs; the hours follow from counting operations on one sample.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from training.claims import class_counts
from training.clip import ClipRun, initial_clip
from training.clip_objective import ClipObjective
from training.networks import VAE_FACTOR, build_unet
from training.recogniser import RecogniserObjective, RecogniserRun, build_recogniser
from training.unet import UNetObjective, UNetRun
from training.vae import VaeObjective, VaeRun, initial_vae

BYTES_PER_PARAMETER = 4 * 5
"""Weights, gradients, two AdamW moments and the moving average, all fp32."""
CPU_OPERATIONS_PER_SECOND_PER_CORE = 1.2e11
"""bf16, measured in training these networks on a Zen 5, 2026-11-21; other machines differ."""
CAPTION_TOKENS = 24
"""Of a usual wrong caption, without its padding."""


@dataclass(frozen=True)
class Stage:
    """A stretch of a run whose samples cost the same."""

    steps: int
    batch_size: int
    operations_per_sample: float
    """Forward and backward."""


def estimate_recogniser(run: RecogniserRun, *, size: int, name: str) -> None:
    """Print the estimate of a recogniser's run on pictures of `size` pixels."""
    objective = RecogniserObjective(build_recogniser(run))
    codes = torch.zeros(1, len(class_counts()), dtype=torch.int64)
    operations = operations_of(objective, {"pictures": torch.zeros(1, 3, size, size), "codes": codes})
    print_estimate(objective, [Stage(run.fit.total_steps, run.fit.batch_size, operations)], name=name)


def estimate_vae(run: VaeRun, recogniser: RecogniserRun) -> None:
    """Print the estimate of a VAE's run; a step of whole pictures costs as much as one of crops."""
    vae = initial_vae(run)
    side = run.crop // VAE_FACTOR
    batch = {
        "pictures": torch.zeros(1, 3, run.crop, run.crop),
        "noise": torch.zeros(1, run.shape.latent_channels, side, side),
    }
    operations = operations_of(VaeObjective(vae, build_recogniser(recogniser), run), batch)
    print_estimate(vae, [Stage(run.fit.total_steps, run.fit.batch_size, operations)], name="vae")


def estimate_clip(run: ClipRun) -> None:
    """Print the estimate of a CLIP's run, wrong captions included."""
    clip = initial_clip(run)
    objective = ClipObjective(clip, class_counts=class_counts(), record_weight=run.record_weight)
    ids = torch.zeros(1, 77, dtype=torch.int64)
    ids[:, CAPTION_TOKENS - 1 :] = run.vocab_size - 1
    batch = {
        "pictures": torch.zeros(1, 3, run.image_size, run.image_size),
        "ids": ids,
        "negative_ids": ids[:, None].repeat(1, run.wrong_captions, 1),
        "claims": torch.zeros(1, len(class_counts()), dtype=torch.int64),
        "also_true": torch.ones(1, 1, dtype=torch.bool),
        "row": torch.zeros(1, dtype=torch.int64),
    }
    operations = operations_of(objective, batch)
    print_estimate(objective, [Stage(run.fit.total_steps, run.fit.batch_size, operations)], name="clip")


def estimate_unet(run: UNetRun, *, latent_channels: int, text_width: int, size: int) -> None:
    """Print the estimate of a UNet's run on pictures of `size` pixels, its half-size steps apart."""
    with torch.random.fork_rng(devices=[]):
        unet = build_unet(run.shape, latent_channels=latent_channels, text_width=text_width)
    objective, side = UNetObjective(unet, run), size // VAE_FACTOR

    def operations(side: int) -> float:
        noise = torch.zeros(1, latent_channels, side, side)
        latents, uniform = torch.zeros(1, 2 * latent_channels, side, side), torch.full((1, 2), 0.5)
        batch = {"latents": latents, "noise": noise, "posterior_noise": noise, "uniform": uniform}
        return operations_of(objective, {**batch, "states": torch.zeros(1, 77, text_width)})

    total = run.fit.total_steps
    half = min(run.half_size_steps, total)
    stages = [Stage(total - half, run.fit.batch_size, operations(side))]
    if half:
        stages.insert(0, Stage(half, run.half_size_batch, operations(side // 2)))
    print_estimate(unet, stages, name="unet")


def print_estimate(module: nn.Module, stages: Sequence[Stage], *, name: str) -> None:
    """Print one line a fact, for `--dry-run`."""
    parameters = sum(p.numel() for p in module.parameters())
    gibibytes = parameters * BYTES_PER_PARAMETER / 2**30
    samples = sum(stage.steps * stage.batch_size for stage in stages)
    work = sum(stage.steps * stage.batch_size * stage.operations_per_sample for stage in stages)
    cores = os.cpu_count() or 1
    hours = work / (CPU_OPERATIONS_PER_SECOND_PER_CORE * cores) / 3600
    batches = " + ".join(f"{stage.steps:,} steps of {stage.batch_size:,}" for stage in stages)
    print(f"{name}: {parameters / 1e6:.1f} M parameters")
    print(f"memory: {gibibytes:.2f} GiB for weights, optimizer and average, plus activations")
    print(f"samples: {samples:,} in {batches}")
    print(f"hours: about {hours:.2g} on {cores} CPU cores ({work:.1e} operations; an estimate)")


@torch.no_grad()
def operations_of(module: nn.Module, *inputs: object) -> float:
    """Floating-point operations of a training step over `inputs`: three times those of a forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return 3.0 * counter.get_total_flops()
