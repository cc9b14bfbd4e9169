"""Inpainting and image-to-image from our functions equal diffusers' pipelines for the same generator.

The steps are driven here, without our pipeline, so that each function is seen to do its part.
"""

# pyright: reportPrivateImportUsage=false

import copy
import warnings
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from ldm_pipeline import LatentDiffusionPipeline, images, schedulers
from ldm_pipeline.latents import latents_to_picture, picture_to_latents, prepare_start
from tests import tiny

CPU = torch.device("cpu")
STEPS, SCALE, CHANNELS, FACTOR = 4, 4.0, 4, 8


def make_components(unet_channels: int, *, kind: str = "epsilon", name: str = "euler-a") -> Any:
    """Tiny components with four latent channels, as diffusers' inpainting wants them, in a pipeline."""
    vae = diffusers.AutoencoderKL(**{**tiny.make_vae().config, "latent_channels": CHANNELS}).eval()
    channels = {"in_channels": unet_channels, "out_channels": CHANNELS}
    unet = diffusers.UNet2DConditionModel(**{**tiny.make_unet().config, **channels}).eval()
    tiny.randomize(vae, 5)
    tiny.randomize(unet, 6)
    scheduler = schedulers.make_scheduler(name, tiny.make_scheduler(kind), flow=False)
    if name == "ddim":
        scheduler.register_to_config(
            clip_sample=False
        )  # as Stable Diffusion's own; inpainting repairs it not
    parts = {**tiny.make_components(kind), "vae": vae, "unet": unet, "scheduler": scheduler}
    return LatentDiffusionPipeline(**parts)


def rival(pipe: Any, cls: Any) -> Any:
    """diffusers' pipeline of the same components."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it says that it corrects the scheduler's config
        other = cls(
            **{**pipe.components, "scheduler": copy.deepcopy(pipe.scheduler)}, requires_safety_checker=False
        )
    other.set_progress_bar_config(disable=True)
    return other


def seeded(seed: int = 7) -> Generator:
    return Generator("cpu").manual_seed(seed)


def their_inpainting(pipe: Any, **settings: Any) -> Any:
    call = rival(pipe, diffusers.StableDiffusionInpaintPipeline)
    return call(**{**QUICK, "generator": seeded(), "output_type": "pt", **settings}).images


QUICK = {"prompt": "paris", "num_inference_steps": STEPS, "guidance_scale": SCALE}


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)


def blob(width: int = 64, height: int = 64, box: images.Box = (11, 5, 38, 50)) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, box)
    return mask


@torch.no_grad()
def run(
    pipe: Any,
    given: Any,
    mask: Any = None,
    *,
    size: tuple[int | None, int | None] = (64, 64),
    strength: float = 1.0,
    blend: str = "none",
    soft: bool = False,
    pictures: int = 1,
    generators: Any = None,
    noise: Tensor | None = None,
    masked_image_latents: Tensor | None = None,
) -> Tensor:
    """Run the steps on a picture, or on latents, and give the latents they end in."""
    generators = generators or seeded()
    latents = images.as_latents(given, CHANNELS)
    pixels, small = None, None
    if latents is None:
        pixels, small = images.picture_and_mask(given, mask, size=size, blend=blend, soft=soft)
    elif mask is not None:
        small = images.as_masks(mask)
    whole = latents if pixels is None else images.padded(pixels, FACTOR)[..., ::FACTOR, ::FACTOR]
    assert whole is not None
    scheduler = schedulers.scheduler_for_run(pipe.scheduler)
    scheduler.set_timesteps(STEPS)
    start = prepare_start(
        pipe.vae,
        scheduler,
        steps=STEPS,
        strength=strength,
        shape=(pictures, CHANNELS, whole.shape[-2], whole.shape[-1]),
        generators=generators,
        noise=noise,
        picture=None if pixels is None else images.padded(pixels, FACTOR),
        mask=None if small is None else images.padded(small, FACTOR),
        dtype=torch.float32,
        device=CPU,
        blend=blend,
        made_for_inpainting=pipe.unet.config.in_channels != CHANNELS,
        picture_latents=latents,
        masked_image_latents=masked_image_latents,
    )
    states = torch.cat(pipe.encode_prompt("paris", CPU, pictures, True)[::-1])
    current = start.latents
    for i, t in enumerate(start.timesteps):
        model_input = start.joined(schedulers.network_input(scheduler, torch.cat([current] * 2), t))
        unconditional, conditional = pipe.unet(model_input, t, encoder_hidden_states=states).sample.chunk(2)
        guided = unconditional + SCALE * (conditional - unconditional)
        arguments = schedulers.step_arguments(scheduler, generator=generators, eta=0.0)
        current = start.put_back(scheduler, scheduler.step(guided, t, current, **arguments).prev_sample, i)
    return current


def paint(pipe: Any, *call: Any, **settings: Any) -> Tensor:
    """Run the steps and decode: what `blend="none"` gives."""
    with torch.no_grad():
        return latents_to_picture(pipe.vae, run(pipe, *call, **settings))


INPAINTING_UNETS = [
    ("epsilon", "euler-a"),
    ("epsilon", "ddim"),
    ("epsilon", "heun"),
    ("v_prediction", "dpm++"),
]


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize(("kind", "name"), INPAINTING_UNETS)
def test_a_unet_for_inpainting_reads_mask_and_masked_picture_as_in_diffusers(kind, name, strength):
    pipe = make_components(2 * CHANNELS + 1, kind=kind, name=name)
    ours = paint(pipe, picture(), blob(), strength=strength)
    theirs = their_inpainting(
        pipe, image=picture(), mask_image=blob(), height=64, width=64, strength=strength
    )
    assert (ours - theirs).abs().max() < 1e-4 and ours.std() > 0.01


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize(("kind", "name"), INPAINTING_UNETS)
def test_any_other_unet_gets_the_picture_put_back_as_in_diffusers(kind, name, strength):
    pipe = make_components(CHANNELS, kind=kind, name=name)
    ours = paint(pipe, picture(), blob(), strength=strength)
    theirs = their_inpainting(
        pipe, image=picture(), mask_image=blob(), height=64, width=64, strength=strength
    )
    assert (ours - theirs).abs().max() < 1e-4 and ours.std() > 0.01


@pytest.mark.parametrize("channels", [CHANNELS, 2 * CHANNELS + 1])
def test_an_explicit_size_resizes_picture_and_mask_as_in_diffusers(channels):
    pipe = make_components(channels)
    given, mask = picture(80, 56), blob(80, 56)
    ours = paint(pipe, given, mask, size=(72, 64))
    theirs = their_inpainting(pipe, image=given, mask_image=mask, height=72, width=64)
    assert ours.shape == (1, 3, 72, 64) and (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("channels", [CHANNELS, 2 * CHANNELS + 1])
def test_one_generator_draws_one_picture_for_a_whole_batch_as_in_diffusers(channels):
    pipe = make_components(channels)
    ours = paint(pipe, picture(), blob(), pictures=2, strength=0.6)
    theirs = their_inpainting(
        pipe, image=picture(), mask_image=blob(), height=64, width=64, num_images_per_prompt=2, strength=0.6
    )
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("channels", [CHANNELS, 2 * CHANNELS + 1])
def test_a_picture_of_a_batch_with_a_generator_each_is_the_picture_alone(channels):
    pipe = make_components(channels)
    both = paint(pipe, picture(), blob(), pictures=2, generators=[seeded(7), seeded(8)])
    alone = paint(pipe, picture(), blob(), generators=[seeded(8)])
    assert (both[1:] - alone).abs().max() < 1e-5 and (both[:1] - alone).abs().max() > 0.01


@pytest.mark.parametrize("channels", [CHANNELS, 2 * CHANNELS + 1])
def test_given_latents_of_the_masked_picture_are_neither_encoded_nor_drawn(channels):
    pipe = make_components(channels)
    masked = torch.randn(1, CHANNELS, 8, 8, generator=seeded(1))
    given = {"masked_image_latents": masked, "strength": 0.6}
    ours = paint(pipe, picture(), blob(), **given)
    theirs = their_inpainting(pipe, image=picture(), mask_image=blob(), height=64, width=64, **given)
    assert (ours - theirs).abs().max() < 1e-4
    latents = torch.randn(1, CHANNELS, 8, 8, generator=seeded(2))
    ours = paint(pipe, latents, blob(), **given)
    theirs = their_inpainting(pipe, image=latents, mask_image=blob(), height=64, width=64, **given)
    assert (ours - theirs).abs().max() < 1e-4


def test_a_unet_for_inpainting_cannot_mask_latents():
    pipe = make_components(2 * CHANNELS + 1)
    with pytest.raises(ValueError, match="give masked_image_latents too, or pixels"):
        run(pipe, torch.zeros(1, CHANNELS, 8, 8), blob())
    with pytest.raises(
        ValueError, match=r"masked_image_latents has shape \(1, 4, 4, 4\): give \(1, 4, 8, 8\)"
    ):
        run(pipe, picture(), blob(), masked_image_latents=torch.zeros(1, CHANNELS, 4, 4))


@pytest.mark.parametrize("name", ["euler-a", "dpm++"])
def test_latents_in_place_of_a_picture_start_image_to_image_as_in_diffusers(name):
    pipe = make_components(CHANNELS, name=name)
    latents = torch.randn(2, CHANNELS, 8, 8, generator=seeded(2))
    ours = paint(pipe, latents, pictures=2, strength=0.6)
    call = rival(pipe, diffusers.StableDiffusionImg2ImgPipeline)
    settings = {**QUICK, "prompt": ["paris"] * 2, "strength": 0.6, "output_type": "pt"}
    theirs = call(image=latents, generator=seeded(), **settings).images
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("channels", [CHANNELS, 2 * CHANNELS + 1])
@pytest.mark.parametrize("box", [(30, 20, 52, 37), (0, 2, 66, 30)], ids=["inside", "at the edge"])
def test_a_cutout_is_painted_at_full_size_and_pasted_back_as_in_diffusers(channels, box):
    pipe = make_components(channels)
    given, mask = picture(96, 80), blob(96, 80, box)
    whole, whole_mask = images.as_pictures(given), images.as_masks(mask)
    cutout = images.cut_out(whole, whole_mask, size=(64, 64), padding=4)
    drawn = paint(pipe, cutout.picture, cutout.mask)
    pasted = images.paste_back(drawn, whole, cutout.boxes)
    ours = images.to_pil(images.blended(pasted, whole, whole_mask, blend="exact", reach=FACTOR))[0]
    theirs = their_inpainting(
        pipe, image=given, mask_image=mask, height=64, width=64, padding_mask_crop=4, output_type="pil"
    )[0]
    assert ours.size == (96, 80)
    difference = np.abs(np.array(ours, dtype=int) - np.array(theirs, dtype=int))
    assert difference.max() <= 1  # a last bit in float32 may fall to another of 256 levels
    kept = np.array(mask) == 0
    assert np.array_equal(np.array(ours)[kept], np.array(given)[kept])
    assert np.abs(np.array(ours, dtype=int) - np.array(given, dtype=int))[~kept].mean() > 5


@pytest.mark.parametrize("name", ["ddim", "heun"])
@pytest.mark.parametrize("gray", [64, 128, 191])
def test_a_mask_of_one_gray_is_image_to_image_of_that_strength(name, gray):
    pipe = make_components(CHANNELS, name=name)
    even = Image.new("L", (64, 64), gray)
    noise = torch.randn(1, CHANNELS, 8, 8, generator=seeded(3))
    masked = run(pipe, picture(), even, blend="exact", soft=True, noise=noise)
    plain = run(pipe, picture(), strength=gray / 255, noise=noise)
    assert (masked - plain).abs().max() < 1e-4


def test_a_mask_that_darkens_keeps_more_of_the_picture_from_cell_to_cell():
    pipe = make_components(CHANNELS, name="ddim")
    ramp = Image.fromarray(np.repeat(np.arange(8, dtype=np.uint8) * 36, 8)[None].repeat(64, 0))
    noise = torch.randn(1, CHANNELS, 8, 8, generator=seeded(3))
    drawn = run(pipe, picture(), ramp, blend="exact", soft=True, noise=noise)
    clean = picture_to_latents(pipe.vae, images.as_pictures(picture()), seeded(), device=CPU)
    change = (drawn - clean).abs().mean((0, 1, 2))
    assert torch.equal(drawn[..., :2], clean[..., :2])  # less than one step of four
    assert 0 < change[2] < change[7]
