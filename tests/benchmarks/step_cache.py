"""What the step cache saves and costs: seconds per picture and PSNR against whole steps, setting by setting.

Run by hand: `python tests/benchmarks/step_cache.py [FOLDER] [PICTURES]`, by default the bundled model and 16.
No test: it asserts nothing about time.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.denoise import StepState, denoise, predict
from ldm_pipeline.guidance import Guidance
from ldm_pipeline.latents import latents_to_picture
from ldm_pipeline.schedulers import first_noise, scheduler_for_run, set_steps
from ldm_pipeline.step_cache import cached_steps, layers_of
from ldm_pipeline.text import Branch, TextConditioning

BUNDLED = Path(__file__).resolve().parents[2] / "ldm_pipeline" / "models" / "postcards"
PROMPTS = (
    "Paris on a rainy day",
    "London at night with a red bus",
    "Cairo on a sunny morning",
    "a black cat and a red umbrella in a foggy Moscow",
)
STEPS, SCALE = 14, 4.0
INTERVALS = (2, 3)


def main(folder: Path, pictures: int) -> None:
    """Print a line per interval and depth, all settings of a picture measured in turns."""
    pipe = LatentDiffusionPipeline.from_pretrained(folder)
    depths = sorted({1, 2, 3, layers_of(pipe.unet) // 2})
    settings = [(1, 1), *((interval, depth) for interval in INTERVALS for depth in depths)]
    seconds: dict[tuple[int, int], list[float]] = {setting: [] for setting in settings}
    fidelity: dict[tuple[int, int], list[float]] = {setting: [] for setting in settings}
    draw(pipe, 0, *settings[-1])  # warms up
    for picture in range(pictures):
        exact = torch.empty(0)
        for interval, depth in settings:
            began = time.perf_counter()
            drawn = draw(pipe, picture, interval, depth)
            seconds[interval, depth].append(time.perf_counter() - began)
            exact = drawn if interval == 1 else exact
            fidelity[interval, depth].append(psnr(drawn, exact))
    whole = statistics.median(seconds[1, 1])
    for interval, depth in settings:
        took, near = statistics.median(seconds[interval, depth]), fidelity[interval, depth]
        print(
            f"interval {interval}, depth {depth}: {took:.2f} s per picture, {took / whole:.2f} of whole"
            f" steps, PSNR {statistics.median(near):.1f} dB (worst {min(near):.1f})"
        )


@torch.no_grad()
def draw(pipe: LatentDiffusionPipeline, picture: int, interval: int, depth: int) -> Tensor:
    """Draw one guided picture (1 3 height width) at the UNet's own size."""
    prompt, negative = pipe.encode_prompt(PROMPTS[picture % len(PROMPTS)])
    assert negative is not None, "guidance is on"
    unet, scheduler = pipe.unet, scheduler_for_run(pipe.scheduler)
    set_steps(scheduler, STEPS, timesteps=None, sigmas=None, device=torch.device("cpu"))
    side = unet.config.sample_size
    shape = (1, unet.config.in_channels, side, side)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(picture))
    texts = TextConditioning(prompts=(Branch(states=prompt),), negatives=(Branch(states=negative),))
    start = first_noise(scheduler, noise)
    with cached_steps(unet, predict, interval=interval, depth=depth) as predict_with:
        final = denoise(
            unet,
            scheduler,
            StepState(latents=start, conditioning=texts, guidance=Guidance(scale=SCALE)),
            timesteps=scheduler.timesteps,
            first_step=0,
            total_steps=len(scheduler.timesteps),
            step_arguments={},
            network_arguments={},
            joined=lambda model_input: model_input,
            put_back=lambda _, latents, __: latents,
            after_step=lambda _, __, state: state,
            interrupted=lambda: False,
            predict_with=predict_with,
        )
    return latents_to_picture(pipe.vae, final)


def psnr(drawn: Tensor, exact: Tensor) -> float:
    """Give the peak signal-to-noise ratio in dB; infinite for equal pictures."""
    error = (drawn - exact).square().mean()
    return float(-10 * torch.log10(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUNDLED, int(sys.argv[2]) if len(sys.argv) > 2 else 16)
