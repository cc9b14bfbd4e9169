"""Noise and pictures of fixed seeds to one file: what two processes are compared by.

Run as `python -m tests.promise_run FILE TYPE...`. Knows nothing of what is compared, nor of what the
processes differ in: threads and instruction sets are set by their environment.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.noise import draw_noise, generators_for
from tests import tiny

PROMPTS = ["Paris on a rainy day", "Tokyo at night"]
SEEDS = [7, 8]
STEPS = 3
SHAPES = {"even": (2, 8, 16, 16), "520 px": (2, 8, 65, 65), "568 px": (2, 4, 71, 71)}
"""Latents of 520 and 568 pixels have no multiple of 16 numbers."""
BUNDLED = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def write(file: Path, kinds: Sequence[str], threads: Sequence[int]) -> None:
    """Draw with a tiny model at 520 pixels and with the bundled one in number types of `BUNDLED`.

    All of it once for each number of threads, under names "1/noise even", "1/tiny", "1/float32", "2/...".
    """
    settings: dict[str, Any] = {"num_inference_steps": STEPS, "output_type": "pt"}
    small: Any = tiny.make_pipeline()
    bundled: dict[str, Any] = {
        kind: LatentDiffusionPipeline.from_pretrained(dtype=BUNDLED[kind]) for kind in kinds
    }
    found: dict[str, Tensor] = {}
    for count in threads:
        torch.set_num_threads(count)
        for name, shape in SHAPES.items():
            noise = draw_noise(shape, generators_for(SEEDS), dtype=torch.float32, device=torch.device("cpu"))
            found[f"{count}/noise {name}"] = noise
        drawn = small("paris", seed=7, guidance_scale=4.0, height=520, width=520, **settings).images
        found[f"{count}/tiny"] = drawn
        for kind, pipe in bundled.items():
            pipe.set_progress_bar_config(disable=True)
            found[f"{count}/{kind}"] = pipe(PROMPTS, seed=SEEDS, **settings).images
    save_file({key: value.contiguous() for key, value in found.items()}, file)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2].split(","), [int(count) for count in sys.argv[3].split(",")])
