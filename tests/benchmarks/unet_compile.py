"""What torch's compiler brings a step of the UNet's training with its text encoder, in turns.

Run by hand: `python tests/benchmarks/unet_compile.py [--frozen-text]`. It asserts nothing about time.
"""

import argparse
import statistics
import time

import torch
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel

from ldm_pipeline.folder import bundled_folder
from training.allocator import keep_freed_memory
from training.loop import Batch
from training.networks import UNetShape, build_unet
from training.recipes import POSTCARDS128
from training.unet import UNetObjective

BATCH, TURNS, STEPS = 64, 6, 3
CHANNELS, SIDE = 8, 16


def batch(draws: torch.Generator, *, text: CLIPTextModel | None) -> Batch:
    """Latents of noise and captions of random tokens: the values change no step's cost."""
    shape = (BATCH, CHANNELS, SIDE, SIDE)
    states = torch.randn(BATCH, 77, 192, generator=draws)
    if text is not None:
        states = torch.randint(0, text.config.vocab_size - 2, (BATCH, 77), generator=draws)
    return {
        "latents": torch.randn(BATCH, 2 * CHANNELS, SIDE, SIDE, generator=draws),
        "texts": states,
        "importance": torch.ones(BATCH, SIDE, SIDE),
        "posterior_noise": torch.randn(shape, generator=draws),
        "noise": torch.randn(shape, generator=draws),
        "uniform": torch.rand(BATCH, 2, generator=draws),
    }


def main() -> None:
    """Print samples per second without and with the compiler, as median and range, and its first step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frozen-text", action="store_true", help="the text encoder's states are given")
    frozen = parser.parse_args().frozen_text
    keep_freed_memory()
    text = None
    if not frozen:
        folder = bundled_folder("postcards") / "text_encoder"
        text = CLIPTextModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    unet = build_unet(UNetShape(), latent_channels=CHANNELS, text_width=192)
    unet.set_attn_processor(AttnProcessor())
    objective = UNetObjective(unet, POSTCARDS128.unet, text_encoder=text)
    objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-5, fused=True)
    given = batch(torch.Generator().manual_seed(0), text=text)
    variants = {"eager": objective, "inductor": torch.compile(objective)}
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(TURNS + 1):
        for name, model in variants.items():
            began = time.perf_counter()
            for _ in range(STEPS):
                with torch.autocast("cpu", torch.bfloat16):
                    loss = model(given)["loss"]
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            seconds = time.perf_counter() - began
            if turn:
                speeds[name].append(BATCH * STEPS / seconds)
            else:
                print(f"{name}: {seconds:.0f} s for the first {STEPS} steps", flush=True)
    for name, values in speeds.items():
        print(f"{name}: {statistics.median(values):.1f} samples/s ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()
