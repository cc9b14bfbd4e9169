"""Pictures to latents and back through the VAE, and the three places where a run can start.

Knows nothing of prompts, guidance or the UNet.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ldm_pipeline.noise import Generators, draw_noise
from ldm_pipeline.schedulers import first_noise, noised


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run begins: text-to-image, image-to-image and inpainting differ in this value only."""

    latents: Float[Tensor, "batch channels height width"]
    """At the noise level of `timesteps[0]`, (pictures channels height width)."""
    timesteps: Tensor
    """The steps to run, (steps,), a tail of the scheduler's."""
    first_step: int
    """Index of `timesteps[0]` in the whole schedule."""
    total_steps: int
    """Length of the whole schedule."""
    clean: Float[Tensor, "batch channels height width"] | None = None
    """Latents of the picture to keep; only for a masked start."""
    noise: Float[Tensor, "batch channels height width"] | None = None
    """The noise that `clean` is brought to each step's level with."""
    mask: Float[Tensor, "batch 1 height width"] | None = None
    """(pictures 1 height width) at latent size: 1 is painted anew, 0 is kept."""

    def put_back(self, scheduler: Any, latents: Tensor, step: int) -> Tensor:
        """Replace the kept part by the picture, noised to the level that `latents` have after `step`."""
        if self.mask is None or self.clean is None or self.noise is None:
            return latents
        last = step == len(self.timesteps) - 1
        kept = self.clean if last else noised(scheduler, self.clean, self.noise, self.timesteps[step + 1])
        return (1 - self.mask) * kept + self.mask * latents


def prepare_start(
    vae: Any,
    scheduler: Any,
    *,
    steps: int,
    strength: float | None,
    shape: tuple[int, int, int, int],
    generators: Generators,
    noise: Tensor | None,
    picture: Tensor | None,
    mask: Tensor | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Start:
    """Make whichever start was asked for, with random draws in diffusers' order: picture latents, then noise.

    `shape` is the latents' (pictures channels height width), `noise` replaces the drawn one, `picture` and
    `mask` are padded pixels in [0, 1], one per picture (pictures 3|1 height width).
    """
    clean = None if picture is None else picture_to_latents(vae, picture, generators, device=device).to(dtype)
    if noise is None:
        noise = draw_noise(shape, generators, dtype=dtype, device=device)
    noise = noise.to(device=device, dtype=dtype)
    if clean is None or strength is None:
        return start_from_noise(scheduler, noise)
    if mask is None:
        return start_from_picture(scheduler, clean, noise, steps=steps, strength=strength)
    skip_posterior_draw(clean, generators)
    small = latent_mask(mask, mask.shape[-1] // clean.shape[-1]).to(clean)
    return start_from_masked_picture(scheduler, clean, noise, small, steps=steps, strength=strength)


def start_from_noise(scheduler: Any, noise: Tensor) -> Start:
    """Start text-to-image: the whole schedule, from `noise` at the scheduler's first level."""
    steps = scheduler.timesteps
    return Start(latents=first_noise(scheduler, noise), timesteps=steps, first_step=0, total_steps=len(steps))


def start_from_picture(scheduler: Any, clean: Tensor, noise: Tensor, *, steps: int, strength: float) -> Start:
    """Start image-to-image: the last `strength` of the schedule, from the noised picture (arXiv 2108.01073).

    `steps` is the schedule's number of steps. ValueError when strength leaves none, naming one that works.
    """
    first = (steps - steps_left(steps, strength)) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    latents = noised(scheduler, clean, noise, timesteps[0])
    return Start(latents=latents, timesteps=timesteps, first_step=first, total_steps=len(scheduler.timesteps))


def start_from_masked_picture(
    scheduler: Any, clean: Tensor, noise: Tensor, mask: Tensor, *, steps: int, strength: float
) -> Start:
    """Start inpainting: as from a picture, but only where `mask` is 1 does it change (arXiv 2201.09865).

    At strength 1 the painted part starts from pure noise and owes the picture nothing.
    """
    plain = start_from_picture(scheduler, clean, noise, steps=steps, strength=strength)
    latents = first_noise(scheduler, noise) if strength == 1.0 else plain.latents
    return Start(
        latents=latents,
        timesteps=plain.timesteps,
        first_step=plain.first_step,
        total_steps=plain.total_steps,
        clean=clean,
        noise=noise,
        mask=mask,
    )


def steps_left(steps: int, strength: float) -> int:
    """Give how many of `steps` are run at `strength`: the whole part of steps x strength, as in diffusers."""
    left = min(int(steps * strength), steps)
    if left < 1:
        smallest = math.ceil(1000 / steps) / 1000
        raise ValueError(
            f"strength={strength} leaves none of {steps} steps: use at least {smallest:g}, or more steps"
        )
    return left


def latent_mask(
    mask: Float[Tensor, "batch 1 height width"], factor: int
) -> Float[Tensor, "batch 1 rows columns"]:
    """Shrink a pixel mask (masks 1 height width) of 0 and 1 by the VAE's factor.

    A latent cell is painted anew as soon as one of its pixels is: diffusers samples one pixel per cell, which
    loses thin masks. The pixels to keep are restored in the picture itself.
    """
    return torch.nn.functional.max_pool2d(mask, factor)


def picture_to_latents(vae: Any, picture: Tensor, generators: Generators, *, device: torch.device) -> Tensor:
    """Sample scaled latents (pictures channels height width) of pictures in [0, 1] from the VAE's posterior.

    One generator per picture draws for that picture alone; a single generator draws for the batch at once.
    """
    pixels = (2.0 * picture - 1.0).to(device=device, dtype=vae.dtype)
    if isinstance(generators, list):
        alone = [
            vae.encode(pixels[i : i + 1]).latent_dist.sample(generator)
            for i, generator in enumerate(generators)
        ]
        latents = torch.cat(alone)
    else:
        latents = vae.encode(pixels).latent_dist.sample(generators)
    return latents * vae.config.scaling_factor


def skip_posterior_draw(clean: Tensor, generators: Generators) -> None:
    """Advance the generators as diffusers' inpainting does when it encodes the masked picture, unused here.

    Without it a scheduler that draws noise would give another picture than diffusers for the same generator.
    """
    draw_noise(clean.shape, generators, dtype=clean.dtype, device=clean.device)


def latents_to_picture(
    vae: Any, latents: Float[Tensor, "batch channels rows columns"]
) -> Float[Tensor, "batch 3 height width"]:
    """Decode scaled latents to pictures in [0, 1], float32 (pictures 3 height width).

    A VAE in half precision whose output is not finite is tried once more in float32 (SDXL's overflows).
    ValueError naming the stage when latents or picture are not finite: never a silently black picture.
    """
    if not torch.isfinite(latents).all():
        raise ValueError(
            "denoising ended in latents that are not finite: use dtype=torch.float32 or less guidance_scale"
        )
    scaled = latents / vae.config.scaling_factor
    picture = vae.decode(scaled.to(vae.dtype), return_dict=False)[0].float()
    if not torch.isfinite(picture).all() and vae.dtype != torch.float32:
        picture = copy.deepcopy(vae).float().decode(scaled.float(), return_dict=False)[0]
    if not torch.isfinite(picture).all():
        raise ValueError(
            "the VAE decoded finite latents to a picture that is not: use dtype=torch.float32, or another VAE"
        )
    return (picture * 0.5 + 0.5).clamp(0, 1)
