"""Attention in bfloat16 on the CPU: torch's fused kernel against blocks of matrix products, in turns.

Run by hand: `python tests/benchmarks/blocked_attention.py`. No test: it asserts nothing about time.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ldm_pipeline.attention import attend

SHAPES = {
    "SD 1.5, 64 x 64": (2, 8, 4096, 40),
    "SD 1.5, 32 x 32": (2, 8, 1024, 80),
    "SD 1.5, 16 x 16": (2, 8, 256, 160),
    "SD 2.1, 64 x 64": (2, 5, 4096, 64),
    "VAE, 64 x 64": (1, 1, 4096, 512),
}
"""Batch, heads, tokens, width of a head."""
TURNS = 7


def main() -> None:
    """Print a Markdown table: milliseconds, and rounding errors relative to the answer's spread."""
    draw = torch.Generator().manual_seed(0)
    print("| shape | fused ms | blocks ms | blocks / fused | fused error | blocks error |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (batch, heads, tokens, width) in SHAPES.items():
        many = (torch.randn(batch, tokens, heads, width, generator=draw) for _ in range(3))
        query, key, value = (one.bfloat16().transpose(1, 2) for one in many)
        exact = scaled_dot_product_attention(query.double(), key.double(), value.double())
        ways: list[Callable[..., Tensor]] = [scaled_dot_product_attention, attend]
        seconds: list[list[float]] = [[], []]
        for _ in range(TURNS + 1):
            for way, took in zip(ways, seconds, strict=True):
                began = time.perf_counter()
                way(query, key, value)
                took.append(time.perf_counter() - began)
        fused, blocks = (statistics.median(took[1:]) * 1000 for took in seconds)
        errors = [float((way(query, key, value) - exact).std() / exact.std()) for way in ways]
        told = " | ".join(f"{error:.4f}" for error in errors)
        print(f"| {name} | {fused:.0f} | {blocks:.0f} | {blocks / fused:.2f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
