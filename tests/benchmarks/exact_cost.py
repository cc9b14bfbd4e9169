"""What `exact` costs: batches with every picture computed alone against batches computed at once.

Run by hand: `python tests/benchmarks/exact_cost.py large bundled`. No test: it asserts nothing about time.

Both ways draw the same seeds with one pipeline in one process, in turns, after one call each to warm up. The
cost is the median over the turns of a turn's own ratio, so that a machine that slows down slows both ways.
Sections: `large` Stable Diffusion 1.5's shapes with random weights, `bundled` the model in this package.
`--tiny` takes the tests' tiny networks in place of the large ones, to see that the script works.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ldm_pipeline import LatentDiffusionPipeline, load_pipeline  # noqa: E402
from tests import tiny  # noqa: E402
from tests.benchmarks import pipeline_speed  # noqa: E402

SECTIONS = ("large", "bundled")
WAYS = (True, False)


def main() -> None:
    """Print one Markdown table per section."""
    parser = argparse.ArgumentParser(description="Time exact=True against exact=False.")
    parser.add_argument("sections", nargs="*", default=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 4], help="pictures of a call")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="number types")
    parser.add_argument("--steps", type=int, default=2, help="denoising steps of the large networks")
    parser.add_argument("--size", type=int, default=512, help="pixels of a side of their pictures")
    parser.add_argument("--turns", type=int, default=3, help="times that each way is measured")
    parser.add_argument("--tiny", action="store_true", help="tiny networks in place of the large ones")
    options = parser.parse_args()
    if unknown := {*options.sections} - {*SECTIONS}:
        parser.error(f"{', '.join(sorted(unknown))}: use some of {', '.join(SECTIONS)}")
    cpu = platform.processor() or platform.machine()
    print(f"{date.today()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {cpu}")
    own = {"num_inference_steps": options.steps, "height": options.size, "width": options.size}
    for section in options.sections:
        print(f"\n### {section}\n", flush=True)
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            if section == "large":
                write_networks(Path(folder), small=options.tiny)
            for dtype in options.dtypes:
                large = section == "large"
                pipe = load_pipeline(folder if large else None, device="cpu", dtype=dtype)
                pipe.set_progress_bar_config(disable=True)
                settings = {"guidance_scale": 7.5, **own} if large else dict(pipeline_speed.BUNDLED)
                for batch in options.batches:
                    rows.append((dtype, *measure(pipe, settings, batch=batch, turns=options.turns)))
        head = ("number type", "batch", "s a call, exact", "s a call, at once", "exact / at once")
        pipeline_speed.print_table(head, rows)


def write_networks(folder: Path, *, small: bool) -> None:
    """Write a pipeline folder of random weights, of Stable Diffusion 1.5's shapes or tiny."""
    if small:
        tiny.write_folder(folder)
    else:
        pipeline_speed.write(folder=str(folder), shape="sd15")


def measure(
    pipe: LatentDiffusionPipeline, settings: dict[str, Any], *, batch: int, turns: int
) -> tuple[str, ...]:
    """Draw `turns` times each way, after once to warm up; gives a row of the table."""
    seconds: list[list[float]] = [[], []]
    for _ in range(turns + 1):
        for way, took in zip(WAYS, seconds, strict=True):
            began = time.perf_counter()
            pipe(
                pipeline_speed.PROMPT,
                negative_prompt=pipeline_speed.NEGATIVE,
                num_images_per_prompt=batch,
                seed=1,
                exact=way,
                **settings,
            )
            took.append(time.perf_counter() - began)
    exact, at_once = (took[1:] for took in seconds)
    ratios = [one / other for one, other in zip(exact, at_once, strict=True)]
    cost = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return str(batch), f"{statistics.median(exact):.2f}", f"{statistics.median(at_once):.2f}", cost


if __name__ == "__main__":
    main()
