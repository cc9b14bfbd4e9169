"""What each way to draw faster saves and costs on the bundled model: seconds, PSNR, and the judge's answers.

Run by hand: `python tests/benchmarks/fidelity.py [--prompts 64]`. No test: it asserts neither time nor score.

Every prompt is drawn in every way in turn, one picture a call, with the same seed; the first way is what the
others are held against. The prompts are the evaluation's own, since nothing is chosen here.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.devices import fastest_dtype
from ldm_pipeline.judge import Recogniser
from training.evaluation import answers
from training.evaluation.prompts import fresh_prompts
from training.evaluation.report import machine
from training.recipes import RECIPES

MODELS = Path(__file__).resolve().parents[2] / "ldm_pipeline" / "models"
CPU = torch.device("cpu")
WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    'dtype="auto"': {"dtype": "auto"},
    "guidance_interval=(0, 0.7)": {"guidance_interval": (0.0, 0.7)},
    "guidance_interval=(0.15, 0.85)": {"guidance_interval": (0.15, 0.85)},
    "step_cache_interval=2": {"step_cache_interval": 2},
    "step_cache_interval=3": {"step_cache_interval": 3},
    "all three": {"dtype": "auto", "guidance_interval": (0.0, 0.7), "step_cache_interval": 2},
}
FIRST_SEED = 30_000_000


def main() -> None:
    """Draw, judge and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Measure what faster ways to draw cost.")
    parser.add_argument("--prompts", type=int, default=64, help="one picture each")
    parser.add_argument("--recipe", default="postcards128", choices=RECIPES, help="world and size")
    options = parser.parse_args()
    recipe = RECIPES[options.recipe]
    asked = fresh_prompts(recipe.world, size=recipe.size, count=options.prompts)
    pipes = {name: LatentDiffusionPipeline.from_pretrained(dtype=name) for name in ("float32", "auto")}
    for pipe in pipes.values():
        pipe.to(CPU)
        pipe.set_progress_bar_config(disable=True)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    drawn: dict[str, list[NDArray[np.float32]]] = {way: [] for way in WAYS}
    for i, prompt in enumerate(tqdm([asked[0], *asked], unit="prompt")):  # the first time warms up
        for way, settings in WAYS.items():
            given = {"dtype": "float32", **settings}
            pipe = pipes[given.pop("dtype")]
            began = time.perf_counter()
            picture: Any = pipe(prompt.text, seed=FIRST_SEED + i, output_type="np", **given).images[0]
            if i:
                seconds[way].append(time.perf_counter() - began)
                drawn[way].append(picture)
    judge = Recogniser.load(MODELS / "judge")
    print(f"{len(asked)} prompts, one picture each, {machine()}; auto is {fastest_dtype(CPU)}.\n")
    print("| way | s a picture | of the first | PSNR, dB (worst) | " + " | ".join(answers.TASKS) + " |")
    print("| --- " * (4 + len(answers.TASKS)) + "|")
    base = statistics.median(seconds["float32"])
    for way in WAYS:
        took = statistics.median(seconds[way])
        pictures = np.stack([(picture * 255).round().astype(np.uint8) for picture in drawn[way]])
        right = answers.confirmed(answers.read(judge, pictures), [prompt.claims for prompt in asked])
        scores = [statistics.mean(row[task] for row in right) for task in answers.TASKS]
        told = " | ".join(f"{score:.1%}" for score in scores)
        print(f"| {way} | {took:.3f} | {took / base:.2f} | {psnr(drawn[way], drawn['float32'])} | {told} |")


def psnr(drawn: Sequence[NDArray[np.float32]], exact: Sequence[NDArray[np.float32]]) -> str:
    """Write the median and the worst peak signal-to-noise ratio of pictures in [0, 1], "-" for equal ones."""
    errors = [float(np.square(one - other).mean()) for one, other in zip(drawn, exact, strict=True)]
    if not any(errors):
        return "-"
    decibels = [-10 * np.log10(max(error, 1e-12)) for error in errors]
    return f"{statistics.median(decibels):.1f} ({min(decibels):.1f})"


if __name__ == "__main__":
    main()
