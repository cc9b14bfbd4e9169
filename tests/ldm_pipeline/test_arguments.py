"""A call's arguments become one checked value: sizes, generators, seeds, pictures and callbacks.

No network is built or run; what `request` and `images` check alone is tested there.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback
from PIL import Image

from ldm_pipeline.arguments import (
    Asked,
    ModelFacts,
    callback_tensors,
    picture_size,
    read_arguments,
    refuse_unknown,
    warn_of_no_effect,
)
from ldm_pipeline.request import GenerationDefaults, GenerationRequest

FOLDER = GenerationDefaults(num_inference_steps=14, guidance_scale=4.0, negative_start=0.15)
NAMES = ("latents", "prompt_embeds", "negative_prompt_embeds")
CALL: dict[str, Any] = {
    "prompt": "paris",
    "num_images_per_prompt": 1,
    "eta": 0.0,
    "callback_names": None,
    "output_type": "pil",
    "long_prompt": "truncate",
    "prompt_syntax": "plain",
    "blend": "exact",
    "step_cache_interval": 1,
    **dict.fromkeys(("guider", "regions")),
    **dict.fromkeys(("masked_image_latents", "padding_mask_crop")),
    **dict.fromkeys(("ip_adapter_image", "ip_adapter_image_embeds")),
    **dict.fromkeys(("negative_prompt", "image", "mask_image", "strength", "height", "width", "latents")),
    **dict.fromkeys(("num_inference_steps", "guidance_scale", "seed", "generator", "prompt_embeds")),
    **dict.fromkeys(("negative_prompt_embeds", "clip_skip", "guidance_rescale", "timesteps", "sigmas")),
    **dict.fromkeys(("cross_attention_kwargs", "callback", "negative_start", "guidance_interval", "exact")),
}


def facts(*, sample_size: int | Sequence[int] = 8, unet_channels: int = 8) -> ModelFacts:
    return ModelFacts(
        factor=8,
        sample_size=sample_size,
        latent_channels=8,
        unet_channels=unet_channels,
        states_width=32,
        scheduler="DPMSolverMultistepScheduler",
        device=torch.device("cpu"),
        callback_tensors=NAMES,
    )


def asked(**call: Any) -> Asked:
    return read_arguments(facts(), FOLDER, **{**CALL, **call})


def first_draws(generators: Any) -> list[float]:
    return [torch.randn(1, generator=one).item() for one in generators]


def test_what_a_call_leaves_out_comes_from_the_folder_and_the_model():
    request = asked(seed=7).request
    assert (request.num_inference_steps, request.guidance_scale, request.negative_start) == (14, 4.0, 0.15)
    assert (request.height, request.width, request.start) == (64, 64, "noise")
    assert request.scheduler == "DPMSolverMultistepScheduler"
    assert asked(num_inference_steps=3, guidance_scale=1.5).request.num_inference_steps == 3


def test_every_picture_has_its_own_generator_of_its_own_seed():
    one = asked(prompt=["paris", "london"], num_images_per_prompt=2, seed=7)
    assert (one.rows, one.shape, one.request.seeds) == (2, (4, 8, 8, 8), (7, 8, 9, 10))
    expected = [torch.Generator("cpu").manual_seed(seed) for seed in (7, 8, 9, 10)]
    assert first_draws(one.generators) == first_draws(expected)


def test_without_a_seed_the_fresh_seeds_are_recorded_and_are_those_that_draw():
    one = asked(num_images_per_prompt=2)
    assert len(one.request.seeds) == 2
    again = asked(num_images_per_prompt=2, seed=list(one.request.seeds))
    assert first_draws(one.generators) == first_draws(again.generators)


def test_given_noise_without_a_seed_records_no_seed_but_keeps_fresh_generators():
    noise = torch.zeros(2, 8, 8, 8)
    one = asked(num_images_per_prompt=2, latents=noise)
    assert one.request.seeds == () and one.noise is noise
    assert len(set(first_draws(one.generators))) == 2
    assert asked(num_images_per_prompt=2, latents=noise, seed=7).request.seeds == (7, 8)


def test_the_callers_generator_is_used_and_no_seed_is_recorded():
    own = torch.Generator()
    assert asked(generator=own).generators is own and asked(generator=own).request.seeds == ()


def test_a_run_from_a_picture_has_that_pictures_size_and_start():
    image, mask = Image.new("RGB", (60, 44), "navy"), Image.new("L", (60, 44), "white")
    one = asked(image=image, num_images_per_prompt=2)
    assert (one.request.height, one.request.width, one.shape) == (44, 60, (2, 8, 6, 8))
    assert (one.request.start, one.request.strength) == ("picture", 0.8)
    assert one.picture is not None and one.picture.shape == (1, 3, 44, 60) and one.mask is None
    masked = asked(image=image, mask_image=mask)
    assert (masked.request.start, masked.request.strength) == ("masked picture", 1.0)
    padded_picture, padded_mask = masked.padded(8)
    assert padded_picture is not None and padded_picture.shape == (1, 3, 48, 64)
    assert padded_mask is not None and padded_mask.shape == (1, 1, 48, 64)


@pytest.mark.parametrize(
    ("defaults", "sample_size", "wanted", "size"),
    [
        (GenerationDefaults(), 8, (None, None), (64, 64)),
        (GenerationDefaults(), (6, 10), (None, None), (48, 80)),
        (GenerationDefaults(height=128, width=96), 8, (None, None), (128, 96)),
        (GenerationDefaults(height=128, width=96), 8, (72, None), (72, 96)),
    ],
)
def test_the_size_is_the_calls_or_the_folders_or_the_networks(defaults, sample_size, wanted, size):
    height, width = wanted
    assert picture_size(facts(sample_size=sample_size), defaults, height=height, width=width) == size


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"height": 60}, "height=60 is not a multiple of 8: use, say, 56 or 64"),
        ({"width": 3}, "width=3 is not a multiple of 8: use, say, 8 or 16"),
        ({"output_type": "jpeg"}, "output_type='jpeg' is unknown"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, "latents has shape (1, 4, 8, 8): give (1, 8, 8, 8)"),
        ({"generator": [torch.Generator()] * 2}, "generator has 2 for 1 pictures"),
        ({"negative_prompt_embeds": torch.zeros(2, 77, 32)}, "give (1, tokens, 32)"),
        ({"negative_prompt": "rain", "negative_prompt_embeds": torch.zeros(1, 77, 32)}, "both given"),
        (
            {"callback": lambda *_: {}, "callback_names": ["noise"]},
            "names 'noise': use some of latents, prompt_embeds, negative_prompt_embeds",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_the_model_is_one_line(call: dict[str, Any], words: str):
    with pytest.raises(ValueError) as caught:
        asked(**call)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_one_side_alone_keeps_the_pictures_shape():
    image = Image.new("RGB", (60, 40), "navy")
    assert asked(image=image, width=120).shape == (1, 8, 10, 15)
    assert asked(image=image, width=64, height=64).shape == (1, 8, 8, 8)


def test_latents_are_a_picture_that_needs_no_encoding():
    latents = torch.zeros(1, 8, 4, 6)
    one = asked(image=latents)
    assert one.picture_latents is latents and one.picture is None and one.request.start == "picture"
    assert (one.request.height, one.request.width, one.shape) == (32, 48, (1, 8, 4, 6))
    with pytest.raises(ValueError, match="height=64 does not fit image, latents of 32 pixels: leave it out"):
        asked(image=latents, height=64)
    with pytest.raises(ValueError, match="padding_mask_crop=8 needs pixels"):
        asked(image=latents, mask_image=Image.new("L", (48, 32), "white"), padding_mask_crop=8)


def test_the_surroundings_of_a_mask_are_painted_at_the_models_own_size():
    image, mask = Image.new("RGB", (80, 80), "navy"), Image.new("L", (80, 80), "black")
    mask.paste("white", (30, 30, 40, 40))
    one = asked(image=image, mask_image=mask, padding_mask_crop=6)
    assert one.cutout is not None and one.cutout.boxes == ((24, 24, 46, 46),)
    assert one.shape == (1, 8, 8, 8) and one.picture is not None and one.picture.shape[-2:] == (80, 80)
    arguments = one.request.to_arguments()
    assert (arguments["height"], arguments["width"], arguments["padding_mask_crop"]) == (64, 64, 6)


def test_a_network_for_inpainting_takes_a_mask_only():
    image, mask = Image.new("RGB", (64, 64), "navy"), Image.new("L", (64, 64), "white")
    one = read_arguments(facts(unet_channels=17), FOLDER, **{**CALL, "image": image, "mask_image": mask})
    assert one.made_for_inpainting
    with pytest.raises(ValueError, match="unet is made for inpainting: give image and mask_image"):
        read_arguments(facts(unet_channels=17), FOLDER, **CALL)


def test_a_network_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="unet takes 12 channels but vae has 8: use a UNet that takes 8, or"):
        read_arguments(facts(unet_channels=12), FOLDER, **CALL)


def test_a_keyword_that_the_call_does_not_have_names_the_nearest():
    refuse_unknown({}, known=("prompt", "strength"))
    with pytest.raises(TypeError, match="strenght is no argument of this pipeline: did you mean strength"):
        refuse_unknown({"strenght": 0.5}, known=("self", "prompt", "strength"))


def test_a_callback_gets_the_latents_or_what_it_names_or_what_diffusers_object_names():
    assert callback_tensors(None, None, known=NAMES) == ["latents"]
    assert callback_tensors(lambda *_: {}, ("prompt_embeds",), known=NAMES) == ["prompt_embeds"]
    cutoff = SDCFGCutoffCallback(cutoff_step_ratio=0.5)
    assert callback_tensors(cutoff, ["latents"], known=NAMES) == ["prompt_embeds"]


def test_words_and_negative_prompts_without_effect_are_named_and_others_are_not():
    known = frozenset({"paris", "rain"})
    fine = GenerationRequest(prompts=("paris",), negative_prompts=("rain",), guidance_scale=4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_no_effect(fine, known)
        warn_of_no_effect(GenerationRequest(prompts=("zeppelin",)), None)
    with pytest.warns(UserWarning, match="never trained on the words 'zeppelin'"):
        warn_of_no_effect(GenerationRequest(prompts=("paris",), negative_prompts=("zeppelin",)), known)
    with pytest.warns(UserWarning, match="negative_prompt has no effect with guidance_scale=1"):
        warn_of_no_effect(
            GenerationRequest(prompts=("paris",), negative_prompts=("rain",), guidance_scale=1.0), known
        )
