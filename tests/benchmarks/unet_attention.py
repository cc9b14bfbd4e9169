"""What trains the UNet faster here, in turns: bf16 or fp32, torch's fused attention or plain matrix products.

Run by hand: `python tests/benchmarks/unet_attention.py`. No test: it asserts nothing about time.
"""

import itertools
import statistics
import time

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor

from training.networks import UNetShape, build_unet

BATCH, TURNS, STEPS = 32, 5, 2
TEXT_WIDTH, LATENT_CHANNELS = 192, 8


def main() -> None:
    """Print samples per second of all four, measured A B C D A B ..., as median and range."""
    unet = build_unet(UNetShape(), latent_channels=LATENT_CHANNELS, text_width=TEXT_WIDTH)
    unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, fused=True)
    draws = torch.Generator().manual_seed(0)
    latents = torch.randn(BATCH, LATENT_CHANNELS, 16, 16, generator=draws)
    states = torch.randn(BATCH, 77, TEXT_WIDTH, generator=draws)
    timesteps = torch.rand(BATCH, generator=draws) * 1000
    processors = {"fused": AttnProcessor2_0(), "matrix products": AttnProcessor()}
    variants = list(itertools.product(("bf16", "fp32"), processors))
    speeds: dict[tuple[str, str], list[float]] = {variant: [] for variant in variants}

    def step(target: Tensor, *, half: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            predicted = unet(latents, timesteps, states).sample
        (predicted.float() - target).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    for turn in range(TURNS + 1):
        for precision, attention in variants:
            unet.set_attn_processor(processors[attention])
            began = time.perf_counter()
            for _ in range(STEPS):
                step(latents, half=precision == "bf16")
            if turn:  # the first turn warms up
                speeds[precision, attention].append(BATCH * STEPS / (time.perf_counter() - began))
    for (precision, attention), values in speeds.items():
        name = f"{precision}, {attention}"
        print(f"{name}: {statistics.median(values):.1f} samples/s ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()
