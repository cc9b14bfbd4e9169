"""Attention in training, bfloat16 on the CPU: torch's fused kernel against plain matrix products, in turns.

Run by hand: `python tests/benchmarks/plain_attention.py`. No test: it asserts nothing about time.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from training.attention import MOST_SCORES, attend

SHAPES = {
    "bundled, 16 x 16, itself": (32, 8, 256, 256, 16),
    "bundled, 8 x 8, text": (32, 8, 64, 77, 32),
    "SD 1.5 halved, 32 x 32, itself": (4, 8, 1024, 1024, 20),
    "SD 1.5 halved, 32 x 32, text": (4, 8, 1024, 77, 20),
    "SD 1.5, 32 x 32, text": (4, 8, 1024, 77, 80),
    "SD 1.5, 64 x 64, text": (2, 8, 4096, 77, 40),
    "SD 1.5, 16 x 16, itself": (4, 8, 256, 256, 160),
}
"""Batch, heads, queries, keys, width of a head."""
TURNS = 7


def main() -> None:
    """Print a Markdown table of forward and backward together."""
    draw = torch.Generator().manual_seed(0)
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.processor() or platform.machine()}")
    print("| shape | fused ms | plain ms | plain / fused | taken plain |")
    print("| --- | --- | --- | --- | --- |")
    for name, (batch, heads, queries, keys, width) in SHAPES.items():
        sizes = (queries, keys, keys)
        given = [
            torch.randn(batch, heads, tokens, width, generator=draw).bfloat16().requires_grad_()
            for tokens in sizes
        ]
        upstream = torch.randn(batch, heads, queries, width, generator=draw).bfloat16()
        ways: list[Callable[..., Tensor]] = [scaled_dot_product_attention, attend]
        seconds: list[list[float]] = [[], []]
        for _ in range(TURNS + 1):
            for way, took in zip(ways, seconds, strict=True):
                began = time.perf_counter()
                torch.autograd.grad(way(*given), given, upstream)
                took.append(time.perf_counter() - began)
        fused, plain = (statistics.median(took[1:]) * 1000 for took in seconds)
        taken = "yes" if queries * keys <= MOST_SCORES else "no"
        print(f"| {name} | {fused:.1f} | {plain:.1f} | {plain / fused:.2f} | {taken} |", flush=True)


if __name__ == "__main__":
    main()
