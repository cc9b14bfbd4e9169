"""What a run will take before it starts: parameters, memory, samples, hours.

Knows nothing of the run's data; the hours follow from a rough count of operations, and it says so.
"""

import os

import torch
from torch import nn

from training.loop import FitConfig

BYTES_PER_PARAMETER = 4 * 5
"""Weights, gradients, two AdamW moments and the moving average, all fp32."""
CPU_OPERATIONS_PER_SECOND_PER_CORE = 1.2e11
"""bf16, measured in training these networks on a Zen 5, 2026-11-21; other machines differ."""


def print_estimate(module: nn.Module, fit: FitConfig, *, name: str, operations_per_sample: float | None = None) -> None:
    """Print one line a fact, for `--dry-run`."""
    parameters = sum(p.numel() for p in module.parameters())
    samples = fit.total_steps * fit.batch_size
    print(f"{name}: {parameters / 1e6:.1f} M parameters")
    print(f"memory: {parameters * BYTES_PER_PARAMETER / 2**30:.2f} GiB for weights, optimizer and average, plus activations")
    print(f"samples: {samples:,} in {fit.total_steps:,} steps of {fit.batch_size}")
    if operations_per_sample is not None:
        speed = CPU_OPERATIONS_PER_SECOND_PER_CORE * (os.cpu_count() or 1)
        hours = samples * operations_per_sample / speed / 3600
        print(f"hours: about {hours:.1f} on {os.cpu_count()} CPU cores (estimated from the operations, not measured)")


@torch.no_grad()
def operations_of(module: nn.Module, *inputs: object, **named: object) -> float:
    """Floating-point operations of one training step over `inputs`: three times those of a forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        module(*inputs, **named)
    return 3.0 * counter.get_total_flops()
