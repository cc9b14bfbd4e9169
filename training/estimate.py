"""What a run will take before it starts: parameters, memory, samples, hours.

Knows nothing of the run's data or of earlier runs; the hours follow from counting operations on one sample.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel

from training.claims import class_counts
from training.clip import ClipRun, initial_clip
from training.clip_objective import ClipObjective
from training.data.postcards import PART_CELL
from training.networks import VAE_FACTOR, build_unet
from training.recogniser import RecogniserRun, build_objective, build_recogniser
from training.text_record import TextObjective, TextRun
from training.text_tower import export_text_encoder
from training.unet import UNetObjective, UNetRun, learning_encoder
from training.vae import VaeObjective, VaeRun, initial_vae

GPU_SHARE = 0.15
"""Of a GPU's speed in one large product, what training these networks is assumed to reach; not measured."""
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
    cost: "Cost"
    """Of one sample."""
    parts: int = 1
    """Micro-batches of a step, one of which is in memory at a time."""


@dataclass(frozen=True)
class Cost:
    """What one sample takes in a training step."""

    operations: float
    """Floating-point operations, forward and backward."""
    bytes_kept: int
    """Activations kept for the backward pass, in bf16 where training is."""


def estimate_recogniser(run: RecogniserRun, *, size: int, name: str) -> None:
    """Print the estimate of a recogniser's run on pictures of `size` pixels."""
    objective = build_objective(run)
    codes = torch.zeros(1, len(class_counts()), dtype=torch.int64)
    parts = torch.zeros(1, size // PART_CELL, size // PART_CELL, dtype=torch.int64)
    cost = cost_of(
        objective,
        {"pictures": torch.zeros(1, 3, size, size), "codes": codes, "parts": parts, "points": parts},
    )
    print_estimate(objective, [Stage(run.fit.total_steps, run.fit.batch_size, cost)], name=name)


def estimate_vae(run: VaeRun, recogniser: RecogniserRun) -> None:
    """Print the estimate of a VAE's run; a step of whole pictures costs as much as one of crops."""
    vae = initial_vae(run)
    side = run.crop // VAE_FACTOR
    noise = torch.zeros(1, run.shape.latent_channels, side, side)
    batch = {
        "pictures": torch.zeros(1, 3, run.crop, run.crop),
        "noise": noise,
        "disturbance": noise,
        "weights": torch.ones(1, 1, run.crop, run.crop),
    }
    cost = cost_of(VaeObjective(vae, build_recogniser(recogniser), run), batch)
    print_estimate(vae, [Stage(run.fit.total_steps, run.fit.batch_size, cost)], name="vae")


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
    cost = cost_of(objective, batch)
    print_estimate(objective, [Stage(run.fit.total_steps, run.fit.batch_size, cost)], name="clip")


def estimate_text(run: TextRun, encoder: CLIPTextModel) -> None:
    """Print the estimate of a text encoder's run on captions alone; every step is counted as a short one."""
    objective = TextObjective(encoder, anchor_weight=run.anchor_weight)
    batch = {
        "ids": torch.zeros(1, CAPTION_TOKENS, dtype=torch.int64),
        "end": torch.full((1,), CAPTION_TOKENS - 1),
        "claims": torch.zeros(1, len(class_counts()), dtype=torch.int64),
    }
    cost = cost_of(objective, batch)
    print_estimate(objective, [Stage(run.fit.total_steps, run.fit.batch_size, cost)], name="text")


def estimate_unet(run: UNetRun, *, clip: ClipRun, latent_channels: int, size: int) -> None:
    """Print the estimate of a UNet's run on pictures of `size` pixels, its half-size steps apart.

    A text encoder that learns too is counted in, in the shape that `clip` trains.
    """
    with torch.random.fork_rng(devices=[]):
        unet = build_unet(run.shape, latent_channels=latent_channels, text_width=clip.width)
    learner = (
        export_text_encoder(initial_clip(clip), bos_token_id=0, pad_token_id=1) if run.text_share else None
    )
    learner = learning_encoder(run, learner)
    objective, side = UNetObjective(unet, run, text_encoder=learner), size // VAE_FACTOR
    texts = torch.zeros(1, 77, clip.width) if learner is None else torch.zeros(1, 77, dtype=torch.int64)

    def cost(side: int) -> Cost:
        noise = torch.zeros(1, latent_channels, side, side)
        latents, uniform = torch.zeros(1, 2 * latent_channels, side, side), torch.full((1, 2), 0.5)
        batch = {"latents": latents, "noise": noise, "posterior_noise": noise, "uniform": uniform}
        return cost_of(objective, {**batch, "texts": texts, "importance": torch.ones(1, side, side)})

    total = run.fit.total_steps
    half = min(run.half_size_steps, total)
    stages = [Stage(total - half, run.fit.batch_size, cost(side))]
    if half:
        stages.insert(0, Stage(half, run.half_size_batch, cost(side // 2)))
    print_estimate(objective, stages, name="unet")


def print_estimate(module: nn.Module, stages: Sequence[Stage], *, name: str) -> None:
    """Print one line a fact, for `--dry-run`."""
    parameters = sum(p.numel() for p in module.parameters())
    learning = sum(p.numel() for p in module.parameters() if p.requires_grad)
    weights = (learning * BYTES_PER_PARAMETER + (parameters - learning) * 4) / 2**30
    activations = max(stage.batch_size * stage.cost.bytes_kept / stage.parts for stage in stages) / 2**30
    samples = sum(stage.steps * stage.batch_size for stage in stages)
    work = sum(stage.steps * stage.batch_size * stage.cost.operations for stage in stages)
    batches = " + ".join(f"{stage.steps:,} steps of {stage.batch_size:,}" for stage in stages)
    machine, speed = machine_speed()
    kept = "" if learning == parameters else f", of which {learning / 1e6:.3f} M learn"
    print(f"{name}: {parameters / 1e6:.1f} M parameters{kept}")
    print(
        f"memory: {weights + activations:.2f} GiB: {weights:.2f} for weights, optimizer and average,"
        f" {activations:.2f} for activations"
    )
    print(f"samples: {samples:,} in {batches}")
    print(f"hours: about {work / speed / 3600:.2g} on {machine} ({work:.1e} operations; an estimate)")


def machine_speed() -> tuple[str, float]:
    """This machine in words, and its bf16 operations per second in training; a CPU is not measured."""
    if not torch.cuda.is_available():
        cores = os.cpu_count() or 1
        return f"{cores} CPU cores", CPU_OPERATIONS_PER_SECOND_PER_CORE * cores
    side, products = 8192, 20
    matrix = torch.ones(side, side, device="cuda", dtype=torch.bfloat16)
    for count in (1, products):  # once to warm up
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(count):
            torch.mm(matrix, matrix)
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / products
    return torch.cuda.get_device_name(), GPU_SHARE * 2 * side**3 / seconds


def cost_of(module: nn.Module, batch: dict[str, Tensor]) -> Cost:
    """What a training step over `batch`, one sample, takes: its forward pass is done, and counted thrice."""
    from torch.utils.flop_counter import FlopCounterMode

    weights = {tuple(sorted(p.shape)) for p in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tuple(sorted(tensor.shape)) not in weights:  # a weight's copy in bf16 is no activation
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        FlopCounterMode(display=False) as counter,
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        losses = module(batch)  # held until all is counted, so that no storage's address comes twice
    assert losses["loss"].requires_grad
    return Cost(operations=3.0 * counter.get_total_flops(), bytes_kept=sum(kept.values()))
