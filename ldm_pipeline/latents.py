"""Pictures to latents and back through the VAE, and the four places where a run can start.

Knows nothing of prompts, guidance or the UNet.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ldm_pipeline.images import spread
from ldm_pipeline.network import alone
from ldm_pipeline.noise import Float32Draws, Generators, draw_noise
from ldm_pipeline.schedulers import first_noise, noised

MOST_CELLS_DECODED = 64 * 64
"""Latent cells that are decoded at once; larger batches go through the VAE in parts."""


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
    """Latents of the picture to put back after each step; not for a UNet that is made for inpainting."""
    noise: Float[Tensor, "batch channels height width"] | None = None
    """The noise that `clean` is brought to each step's level with."""
    mask: Float[Tensor, "batch 1 height width"] | None = None
    """(pictures 1 height width) at latent size: 1 is painted anew, 0 is kept, between them in late steps."""
    masked_latents: Float[Tensor, "batch channels height width"] | None = None
    """Latents of the picture with its masked part gray; only for a UNet that is made for inpainting."""

    def put_back(self, scheduler: Any, latents: Tensor, step: int) -> Tensor:
        """Replace the kept part by the picture, noised to the level that `latents` have after `step`.

        A cell of mask m is left to the network in the last floor(m n) of n steps and put back before, as in
        Differential Diffusion (arXiv 2306.00950): a mask of one gray is image-to-image of that strength.
        """
        if self.mask is None or self.clean is None or self.noise is None:
            return latents
        last = step == len(self.timesteps) - 1
        kept = self.clean if last else noised(scheduler, self.clean, self.noise, self.timesteps[step + 1])
        order = scheduler.order  # the two halves of a Heun step belong together
        steps = -(-len(self.timesteps) // order)
        painted = torch.floor(self.mask * steps) >= steps - step // order
        return torch.where(painted, latents, kept.to(latents.dtype))

    def joined(self, model_input: Tensor) -> Tensor:
        """Add what a UNet for inpainting reads beside its scaled input: the mask, then the masked latents.

        `model_input` may hold both branches of guidance. Other UNets get their input unchanged.
        """
        if self.mask is None or self.masked_latents is None:
            return model_input
        beside = torch.cat([self.mask, self.masked_latents], dim=1)
        branches = len(model_input) // len(beside)
        return torch.cat([model_input, beside.repeat(branches, 1, 1, 1)], dim=1)


def with_mask_tensors(
    callback: Callable[..., Any], names: Sequence[str], held: list[Start], *, branches: int
) -> Callable[..., Any]:
    """Give a step callback that also hands over `held[0]`'s mask and masked latents, where `names` has them.

    They have their rows `branches` times, as in diffusers (2 with guidance); `masked_image_latents` is None
    but for UNets made for inpainting. What the callback puts in their places, the rows once or so many times,
    goes on in a new `held[0]`. ValueError for another shape.
    """
    fields = {"mask": "mask", "masked_image_latents": "masked_latents"}
    wanted = {name: field for name, field in fields.items() if name in names}

    def called(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Any]) -> Any:
        start = held[0]
        own: dict[str, Tensor | None] = {name: getattr(start, field) for name, field in wanted.items()}
        handed = {name: None if one is None else one.repeat(branches, 1, 1, 1) for name, one in own.items()}
        returned = callback(pipe, step, timestep, {**tensors, **handed})
        if not isinstance(returned, dict):
            return returned  # whoever called complains
        for name, field in wanted.items():
            after = returned.get(name, handed[name])
            if after is handed[name]:
                continue
            before: Tensor | None = own[name]
            if before is None or after.shape[1:] != before.shape[1:] or len(after) % len(before):
                shape = None if before is None else tuple(before.shape)
                raise ValueError(
                    f"callback_on_step_end returned {name} of shape {tuple(after.shape)}: return {shape}"
                )
            held[0] = replace(held[0], **{field: after[-len(before) :]})
        return returned

    return called


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
    blend: str = "exact",
    made_for_inpainting: bool = False,
    picture_latents: Tensor | None = None,
    masked_image_latents: Tensor | None = None,
) -> Start:
    """Make whichever start was asked for, with random draws in diffusers' order.

    These are: picture latents (unless the UNet is `made_for_inpainting` and runs the whole schedule), noise,
    and for a mask always the latents of the masked picture. `shape` is the latents' (pictures channels height
    width), `noise` replaces the drawn one, `picture` and `mask` are padded pixels in [0, 1]: one for all, one
    per prompt or one per picture. One generator draws for the given pictures before they are spread, as in
    diffusers; one per picture draws for that picture alone. `picture_latents` and `masked_image_latents`,
    scaled, replace what would be encoded, and are not drawn.
    """
    clean = None
    if picture_latents is not None:
        clean = _given(picture_latents, shape, "image").to(device=device, dtype=dtype)
    elif picture is not None and not (made_for_inpainting and strength == 1.0):
        clean = spread(picture_to_latents(vae, picture, generators, device=device), shape[0]).to(dtype)
    if noise is None:
        noise = draw_noise(shape, generators, dtype=dtype, device=device)
    noise = noise.to(device=device, dtype=dtype)
    if strength is None:
        return start_from_noise(scheduler, noise)
    if mask is None:
        assert clean is not None, "a strength belongs to a picture"
        return start_from_picture(scheduler, clean, noise, steps=steps, strength=strength)
    factor = mask.shape[-1] // shape[-1]
    small = sampled_mask(mask, factor) if blend == "none" else latent_mask(mask, factor)
    small = spread(small, shape[0]).to(noise)
    masked = None
    if masked_image_latents is not None:
        masked = _given(masked_image_latents, shape, "masked_image_latents").to(noise)
    elif picture is not None and made_for_inpainting:
        rows = max(len(picture), len(mask))
        erased = torch.where(spread(mask, rows) < 0.5, spread(picture, rows), 0.5)
        masked = picture_to_latents(vae, erased, generators, device=device)
        masked = spread(masked, shape[0]).to(noise)
    elif picture is not None:
        skip_posterior_draw((max(len(picture), len(mask)), *shape[1:]), generators, device=device)
    if not made_for_inpainting:
        assert clean is not None, "a mask belongs to a picture"
        return start_from_masked_picture(scheduler, clean, noise, small, steps=steps, strength=strength)
    if masked is None:
        raise ValueError(
            "image holds latents, which cannot be masked: give masked_image_latents too, or pixels"
        )
    return start_beside_masked_picture(scheduler, clean, noise, small, masked, steps=steps, strength=strength)


def start_from_noise(scheduler: Any, noise: Tensor) -> Start:
    """Start text-to-image: the whole schedule, from `noise` at the scheduler's first level."""
    steps = scheduler.timesteps
    return Start(latents=first_noise(scheduler, noise), timesteps=steps, first_step=0, total_steps=len(steps))


def start_from_picture(scheduler: Any, clean: Tensor, noise: Tensor, *, steps: int, strength: float) -> Start:
    """Start image-to-image: the last `strength` of the schedule, from the noised picture (arXiv 2108.01073).

    `steps` is the schedule's number of steps. ValueError when strength leaves none, naming one that works.
    """
    first = enter(scheduler, steps=steps, strength=strength)
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
    return replace(plain, latents=latents, clean=clean, noise=noise, mask=mask)


def start_beside_masked_picture(
    scheduler: Any,
    clean: Tensor | None,
    noise: Tensor,
    mask: Tensor,
    masked_latents: Tensor,
    *,
    steps: int,
    strength: float,
) -> Start:
    """Start inpainting with a UNet that reads mask and masked picture, and so needs nothing put back.

    `clean` is None at strength 1, where the run starts from pure noise.
    """
    first = enter(scheduler, steps=steps, strength=strength)
    timesteps = scheduler.timesteps[first:]
    latents = (
        first_noise(scheduler, noise)
        if clean is None or strength == 1.0
        else noised(scheduler, clean, noise, timesteps[0])
    )
    return Start(
        latents=latents,
        timesteps=timesteps,
        first_step=first,
        total_steps=len(scheduler.timesteps),
        mask=mask,
        masked_latents=masked_latents,
    )


def enter(scheduler: Any, *, steps: int, strength: float) -> int:
    """Let the scheduler begin at the last `strength` of its schedule, and give the index of that timestep."""
    first = (steps - steps_left(steps, strength)) * scheduler.order
    if first >= len(scheduler.timesteps):
        raise ValueError(f"strength={strength} leaves no step of this schedule: use more, or more timesteps")
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return first


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
    """Shrink a pixel mask (masks 1 height width) by the VAE's factor.

    A latent cell is painted anew as soon as one of its pixels is: diffusers samples one pixel per cell, which
    loses thin masks. The pixels to keep are restored in the picture itself.
    """
    return torch.nn.functional.max_pool2d(mask, factor)


def sampled_mask(
    mask: Float[Tensor, "batch 1 height width"], factor: int
) -> Float[Tensor, "batch 1 rows columns"]:
    """Shrink a pixel mask as diffusers does: each cell takes after its first pixel."""
    return torch.nn.functional.interpolate(mask, size=(mask.shape[-2] // factor, mask.shape[-1] // factor))


def picture_to_latents(
    vae: Any, picture: Float[Tensor, "given 3 height width"], generators: Generators, *, device: torch.device
) -> Float[Tensor, "pictures channels rows columns"]:
    """Sample scaled latents of pictures in [0, 1] from the VAE's posterior.

    One generator per picture draws for that picture alone, (pictures channels height width); a picture that
    several share is encoded once. A single generator draws for the given pictures at once, one row each.
    """
    pixels = (2.0 * picture - 1.0).to(device=device, dtype=vae.dtype)
    if isinstance(generators, list):
        shared = len(generators) // len(pixels)
        sampled = []
        for i in range(len(pixels)):
            encoded = vae.encode(alone(pixels, i))
            sampled += [_sample(encoded, draw) for draw in generators[i * shared : (i + 1) * shared]]
        latents = torch.cat(sampled)
    else:
        latents = _sample(vae.encode(pixels), generators)
    return latents * vae.config.scaling_factor


def _sample(encoded: Any, generator: torch.Generator) -> Tensor:
    """Draw from what a VAE encoded; a tiny autoencoder (`AutoencoderTiny`) gives latents without a spread."""
    if not hasattr(encoded, "latent_dist"):
        return encoded.latents
    with Float32Draws():
        return encoded.latent_dist.sample(generator)


def skip_posterior_draw(
    shape: tuple[int, int, int, int], generators: Generators, *, device: torch.device
) -> None:
    """Advance the generators as diffusers' inpainting does when it encodes the masked picture, unused here.

    Without it a scheduler that draws noise would give another picture than diffusers for the same generator.
    """
    draw_noise(shape, generators, dtype=torch.float32, device=device)


def latents_to_picture(
    vae: Any, latents: Float[Tensor, "batch channels rows columns"], *, exact: bool = False
) -> Float[Tensor, "batch 3 height width"]:
    """Decode scaled latents to pictures in [0, 1], float32 (pictures 3 height width).

    A batch of more than `MOST_CELLS_DECODED` is decoded in parts, at 512 x 512 picture by picture, which
    spares memory and gives what it gives at once to 1e-5; with `exact` every picture is decoded alone. A VAE
    in half precision whose output is not finite is tried once more in float32 (SDXL's overflows). ValueError
    naming the stage when latents or picture are not finite: never a silently black picture.
    """
    if not torch.isfinite(latents).all():
        raise ValueError(
            "denoising ended in latents that are not finite: use dtype=torch.float32 or less guidance_scale"
        )
    scaled = latents / vae.config.scaling_factor
    cells = scaled.shape[-2] * scaled.shape[-1]
    at_once = max(1, MOST_CELLS_DECODED // cells)
    batches = [alone(scaled, i) for i in range(len(scaled))] if exact else scaled.split(at_once)
    parts = [_decoded(vae, part) for part in batches]
    if vae.dtype != torch.float32 and not all(torch.isfinite(part).all() for part in parts):
        precise = copy.deepcopy(vae).float()
        parts = [
            part if torch.isfinite(part).all() else _decoded(precise, again)
            for part, again in zip(parts, batches, strict=True)
        ]
    picture = parts[0] if len(parts) == 1 else torch.cat(parts)
    if not torch.isfinite(picture).all():
        raise ValueError(
            "the VAE decoded finite latents to a picture that is not: use dtype=torch.float32, or another VAE"
        )
    return picture.mul(0.5).add_(0.5).clamp_(0, 1)


def _decoded(vae: Any, scaled: Tensor) -> Tensor:
    return vae.decode(scaled.to(vae.dtype), return_dict=False)[0].float()


def _given(latents: Tensor, shape: tuple[int, int, int, int], name: str) -> Tensor:
    """Spread latents that a caller gave over all pictures; ValueError for another shape."""
    if tuple(latents.shape[1:]) != shape[1:] or shape[0] % len(latents):
        raise ValueError(f"{name} has shape {tuple(latents.shape)}: give {shape}, or one row for all")
    return spread(latents, shape[0])
