"""diffusers' three pipelines and ours side by side: same tiny components, same generators, one comparison.

Knows nothing of which settings are compared; a difference is an AssertionError.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from ldm_pipeline import LatentDiffusionPipeline

THEIRS: dict[str, Any] = {
    "noise": diffusers.StableDiffusionPipeline,
    "picture": diffusers.StableDiffusionImg2ImgPipeline,
    "mask": diffusers.StableDiffusionInpaintPipeline,
}
"""What a run starts from, to the pipeline that does so."""
TOLERANCE = 1e-4
SETTINGS = {"prompt": "paris in the rain", "num_inference_steps": 4, "guidance_scale": 4.0}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""Stable Diffusion's noise schedule."""

Watch = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a run did."""

    timesteps: list[float]
    latents: Tensor
    """After the last step."""
    pictures: np.ndarray


def picture(width: int = 64, height: int = 64) -> Image.Image:
    """Smooth noise."""
    levels = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)


def mask(width: int = 64, height: int = 64) -> Image.Image:
    """A box whose edges lie inside latent cells."""
    levels = np.zeros((height, width), dtype=np.uint8)
    levels[5:50, 11 : width // 2 + 3] = 255
    return Image.fromarray(levels)


def generators(count: int) -> Any:
    """One for everything (0), or one per picture."""
    several = [Generator("cpu").manual_seed(7 + i) for i in range(max(count, 1))]
    return several if count else several[0]


def ours(parts: dict[str, Any], scheduler: Any) -> Any:
    """Our pipeline of the components."""
    pipe = LatentDiffusionPipeline(**{**parts, "scheduler": scheduler})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(parts: dict[str, Any], scheduler: Any, task: str) -> Any:
    """diffusers' pipeline of the components, with a scheduler of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it says that it corrects the scheduler's config
        pipe = THEIRS[task](**{**parts, "scheduler": copy.deepcopy(scheduler)})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, *, then: Watch | None = None, **settings: Any) -> Drawn:
    """Run a pipeline and note its steps; `then` is a callback of the caller's after each."""
    timesteps, latents = [], []

    def watch(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        timesteps.append(float(timestep))
        returned = tensors if then is None else then(pipe, step, timestep, tensors)
        latents.append(returned["latents"].clone())
        return returned

    with warnings.catch_warnings():
        # diffusers' image-to-image finds that a picture serves several prompts.
        warnings.filterwarnings("ignore", ".*Initial images are now duplicating", FutureWarning)
        pictures = pipe(**settings, callback_on_step_end=watch, output_type="np").images
    return Drawn(timesteps=timesteps, latents=latents[-1], pictures=pictures)


def check_close(one: Drawn, other: Drawn) -> None:
    """Compare two runs.

    The latents of these random networks grow to a spread of 20, a trained one's have 1: hence their share.
    """
    assert one.timesteps == other.timesteps
    allowed = TOLERANCE * max(1.0, float(other.latents.std()))
    torch.testing.assert_close(one.latents, other.latents, rtol=0.0, atol=allowed)
    assert np.abs(one.pictures - other.pictures).max() < TOLERANCE


def inputs(task: str, size: tuple[int, int] = (64, 64)) -> dict[str, Any]:
    """What a task needs beside the prompt, for a result of (width, height)."""
    width, height = size
    given: dict[str, Any] = {} if task == "noise" else {"image": picture(*size), "strength": 0.6}
    if task == "mask":
        given |= {"mask_image": mask(*size)}
    if task != "picture":
        given |= {"height": height, "width": width}
    return given


def check_equal(
    parts: dict[str, Any],
    scheduler: Any,
    task: str,
    *,
    size: tuple[int, int] = (64, 64),
    each: int = 0,
    then: Watch | None = None,
    **settings: Any,
) -> Drawn:
    """Draw with both and compare; `each` is the number of generators, 0 for one that draws everything."""
    settings = {**SETTINGS, **inputs(task, size), **settings}
    own = {"blend": "none"} if task == "mask" else {}
    drawn = draw(ours(parts, scheduler), then=then, **settings, **own, generator=generators(each))
    rival = draw(theirs(parts, scheduler, task), then=then, **settings, generator=generators(each))
    check_close(drawn, rival)
    assert drawn.pictures.shape[1:3] == size[::-1] and drawn.pictures.std() > 0.01
    return drawn
