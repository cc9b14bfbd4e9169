"""Pictures steer a UNet through IP-Adapters as they do in diffusers, and what cannot be read is refused.

The adapters are real: state dicts of random weights, opened by diffusers' own loader on tiny components.
"""

# pyright: reportPrivateImportUsage=false

import copy
import inspect
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from ldm_pipeline import LatentDiffusionPipeline, ip_adapter, schedulers
from ldm_pipeline.latents import latents_to_picture, start_from_noise
from tests import tiny

CPU = torch.device("cpu")
WIDTH = 32
STEPS, SCALE = 3, 4.0


def make_image_encoder() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=WIDTH,
        image_size=16,
        patch_size=8,
    )
    encoder = CLIPVisionModelWithProjection(config).eval()
    tiny.randomize(encoder, 11)
    return encoder


def adapter_weights(unet: Any, *, full: bool, seed: int) -> dict[str, dict[str, Tensor]]:
    """An IP-Adapter as it lies on disk: the pooled kind, or the "full" one that reads all tokens."""
    draw = torch.Generator("cpu").manual_seed(seed)

    def weight(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw) / shape[-1] ** 0.5

    if full:
        projection = {"proj.0.weight": weight(WIDTH, WIDTH), "proj.0.bias": weight(WIDTH)}
        projection |= {"proj.2.weight": weight(WIDTH, WIDTH), "proj.2.bias": weight(WIDTH)}
        projection |= {"proj.3.weight": torch.ones(WIDTH), "proj.3.bias": weight(WIDTH)}
    else:
        projection = {"proj.weight": weight(4 * WIDTH, WIDTH), "proj.bias": weight(4 * WIDTH)}
        projection |= {"norm.weight": torch.ones(WIDTH), "norm.bias": weight(WIDTH)}
    attention = {}
    for i, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            layer = unet.get_submodule(name.removesuffix(".processor"))
            attention[f"{i}.to_k_ip.weight"] = weight(*layer.to_k.weight.shape)
            attention[f"{i}.to_v_ip.weight"] = weight(*layer.to_v.weight.shape)
    return {"image_proj": projection, "ip_adapter": attention}


def make_rival(*full: bool) -> Any:
    """diffusers' pipeline with one adapter for each of `full`."""
    parts = tiny.make_components("epsilon")
    parts |= {
        "image_encoder": make_image_encoder(),
        "feature_extractor": CLIPImageProcessor(size=16, crop_size=16),
    }
    pipe = diffusers.StableDiffusionPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    if full:
        found: Any = [adapter_weights(pipe.unet, full=one, seed=i) for i, one in enumerate(full)]
        pipe.load_ip_adapter(found, subfolder=[""] * len(full), weight_name=[""] * len(full))
    return pipe


@pytest.fixture(scope="module")
def pooled() -> Any:
    return make_rival(False)


@pytest.fixture(scope="module")
def two_adapters() -> Any:
    return make_rival(False, True)


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8))


def conditioning(pipe: Any, **settings: Any) -> Any:
    given = {"ip_adapter_image": None, "ip_adapter_image_embeds": None, "rows": 1, "pictures": 1}
    return ip_adapter.condition_on_images(
        pipe.unet,
        pipe.image_encoder,
        pipe.feature_extractor,
        **{**given, "guided": True, "device": CPU, **settings},
    )


@torch.no_grad()
def draw(pipe: Any, found: Any, prompts: list[str], *, per_prompt: int, seed: int) -> Tensor:
    """Draw guided pictures with our functions."""
    scheduler = schedulers.scheduler_for_run(pipe.scheduler)
    scheduler.set_timesteps(STEPS)
    pictures = len(prompts) * per_prompt
    noise = torch.randn(
        pictures, tiny.LATENT_CHANNELS, 8, 8, generator=torch.Generator("cpu").manual_seed(seed)
    )
    start = start_from_noise(scheduler, noise)
    states = torch.cat(pipe.encode_prompt(prompts, CPU, per_prompt, True)[::-1])
    latents = start.latents
    for t in start.timesteps:
        both = pipe.unet(
            torch.cat([schedulers.network_input(scheduler, latents, t)] * 2),
            t,
            encoder_hidden_states=states,
            added_cond_kwargs=found.added(negatives=1, prompts=1),
        ).sample
        unconditional, conditional = both.chunk(2)
        guided = unconditional + SCALE * (conditional - unconditional)
        latents = scheduler.step(guided, t, latents).prev_sample
    return latents_to_picture(pipe.vae, latents)


def their_picture(pipe: Any, prompts: list[str], **settings: Any) -> Tensor:
    return pipe(
        prompts,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="pt",
        **settings,
    ).images


@pytest.mark.parametrize("images", [picture(1), [[picture(1), picture(2)]]], ids=["one", "two together"])
def test_pictures_steer_as_in_diffusers(pooled, images):
    prompts = ["paris", "london"]
    found = conditioning(pooled, ip_adapter_image=images, rows=2, pictures=4)
    ours = draw(pooled, found, prompts, per_prompt=2, seed=7)
    theirs = their_picture(pooled, prompts, num_images_per_prompt=2, ip_adapter_image=images)
    assert (ours - theirs).abs().max() < 1e-4
    other = conditioning(pooled, ip_adapter_image=picture(3), rows=2, pictures=4)
    assert (draw(pooled, other, prompts, per_prompt=2, seed=7) - ours).abs().max() > 1e-3


def test_several_adapters_read_a_picture_each(two_adapters):
    images = [picture(1), picture(2)]
    found = conditioning(two_adapters, ip_adapter_image=images)
    assert [one.shape for one in found.prompt] == [(1, 1, WIDTH), (1, 1, 5, WIDTH)]
    ours = draw(two_adapters, found, ["paris"], per_prompt=1, seed=7)
    theirs = their_picture(two_adapters, ["paris"], ip_adapter_image=images)
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("guided", [True, False])
def test_embeddings_of_diffusers_are_taken_in_place_of_pictures(two_adapters, guided):
    images = [picture(1), [picture(2), picture(3)]]
    embeds = two_adapters.prepare_ip_adapter_image_embeds(images, None, CPU, 1, guided)
    by_embeds = conditioning(two_adapters, ip_adapter_image_embeds=embeds, pictures=3, guided=guided)
    by_image = conditioning(two_adapters, ip_adapter_image=images, pictures=3, guided=guided)
    theirs = two_adapters.prepare_ip_adapter_image_embeds(images, None, CPU, 3, guided)
    for found in (by_embeds, by_image):
        for ours, one in zip(
            found.added(negatives=int(guided), prompts=1)["image_embeds"], theirs, strict=True
        ):
            torch.testing.assert_close(ours, one, atol=1e-5, rtol=1e-5)
    assert (by_image.negative is None) == (not guided)


def test_a_step_without_guidance_reads_the_pictures_half_alone(pooled):
    found = conditioning(pooled, ip_adapter_image=picture(1), pictures=2)
    (both,), (alone,) = (found.added(negatives=n, prompts=1)["image_embeds"] for n in (1, 0))
    assert torch.equal(both[2:], alone) and torch.equal(both[:2], torch.zeros_like(alone))


def test_embeddings_may_differ_from_row_to_row_and_are_spread_prompt_major(pooled):
    halves = (
        torch.arange(4.0).reshape(4, 1, 1).expand(4, 1, WIDTH)
    )  # two negative rows, then two of the prompt's
    found = conditioning(pooled, ip_adapter_image_embeds=[halves], rows=2, pictures=4)
    assert found.negative is not None
    assert found.negative[0][:, 0, 0].tolist() == [0, 0, 1, 1]
    assert found.prompt[0][:, 0, 0].tolist() == [2, 2, 3, 3]


def test_pixels_that_the_feature_extractor_made_are_taken_as_they_are(pooled):
    pixels = pooled.feature_extractor(picture(1), return_tensors="pt").pixel_values
    first, second = (conditioning(pooled, ip_adapter_image=one).prompt[0] for one in (picture(1), pixels))
    assert torch.equal(first, second)


def test_without_adapter_and_picture_there_is_nothing_to_read():
    assert conditioning(make_rival()) is None


PIXELS = torch.zeros(2, 1, WIDTH)
BAD = [
    (True, {"ip_adapter_image": 1, "ip_adapter_image_embeds": [PIXELS]}, "both given: give one"),
    (True, {}, "an IP-Adapter is loaded: give ip_adapter_image, or call unload_ip_adapter()"),
    (False, {"ip_adapter_image": 1}, "ip_adapter_image was given but no IP-Adapter is loaded"),
    (False, {"ip_adapter_image_embeds": [PIXELS]}, "ip_adapter_image_embeds was given but no IP-Adapter"),
    (True, {"ip_adapter_image": [1, 2]}, "ip_adapter_image holds 2 for 1 IP-Adapters: give one entry each"),
    (True, {"ip_adapter_image_embeds": [PIXELS] * 3}, "ip_adapter_image_embeds holds 3 for 1"),
    (
        True,
        {"ip_adapter_image_embeds": [PIXELS[0]]},
        "holds shape (1, 32): give tensors (rows images [tokens] width)",
    ),
    (True, {"ip_adapter_image_embeds": [PIXELS[:1]]}, "has 1 rows: give 2 (with guidance, negative first)"),
    (True, {"ip_adapter_image_embeds": [PIXELS], "guided": False}, "has 2 rows: give 1 (without guidance)"),
    (
        True,
        {"ip_adapter_image_embeds": [torch.zeros(6, 1, WIDTH)], "rows": 2, "pictures": 4},
        "give 2 or 4 or 8",
    ),
]


@pytest.mark.parametrize(("loaded", "settings", "words"), BAD, ids=[words for *_, words in BAD])
def test_what_cannot_be_read_is_refused_in_one_line(pooled, loaded, settings, words):
    with pytest.raises(ValueError) as caught:
        conditioning(pooled if loaded else make_rival(), **settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_picture_needs_the_image_encoder(pooled):
    blind = copy.copy(pooled)
    blind.image_encoder = None
    with pytest.raises(ValueError, match="needs image_encoder, which is None: give ip_adapter_image_embeds"):
        conditioning(blind, ip_adapter_image=picture(1))


def ours(rival: Any) -> Any:
    pipe = LatentDiffusionPipeline.from_pipe(rival)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("name", ["encode_image", "prepare_ip_adapter_image_embeds"])
def test_the_methods_take_what_diffusers_take(name):
    signatures = [
        inspect.signature(getattr(cls, name)).parameters
        for cls in (LatentDiffusionPipeline, diffusers.StableDiffusionPipeline)
    ]
    first, second = ([(one.name, one.kind, one.default) for one in found.values()] for found in signatures)
    assert first == second


@pytest.mark.parametrize("hidden", [None, True])
def test_a_picture_is_encoded_as_in_diffusers(two_adapters, hidden):
    pixels = two_adapters.feature_extractor(picture(2), return_tensors="pt").pixel_values
    for image in (picture(1), [picture(1), picture(2)], pixels):
        found = ours(two_adapters).encode_image(image, CPU, 2, hidden)
        theirs = two_adapters.encode_image(image, CPU, 2, hidden)
        assert [one.shape for one in found] == [one.shape for one in theirs]
        torch.testing.assert_close(found, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_embeddings_are_prepared_as_in_diffusers(two_adapters, guided, count):
    settings = {
        "device": CPU,
        "num_images_per_prompt": count,
        "do_classifier_free_guidance": guided,
    }
    both = [ours(two_adapters), two_adapters]
    images = [picture(1), [picture(2), picture(3)]]
    found, theirs = (
        pipe.prepare_ip_adapter_image_embeds(
            ip_adapter_image=images, ip_adapter_image_embeds=None, **settings
        )
        for pipe in both
    )
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=1e-5)
    again = [
        pipe.prepare_ip_adapter_image_embeds(
            ip_adapter_image=None, ip_adapter_image_embeds=theirs, **settings
        )
        for pipe in both
    ]
    assert len(again[0][0]) == count * len(theirs[0])
    assert all(torch.equal(one, other) for one, other in zip(*again, strict=True))


@pytest.mark.parametrize("scale", [SCALE, 1.0])
def test_prepared_embeddings_draw_what_their_pictures_draw(two_adapters, scale):
    pipe, images = ours(two_adapters), [picture(1), [picture(2), picture(3)]]
    settings: dict[str, Any] = {
        "prompt": ["paris", "london"],
        "num_images_per_prompt": 2,
        "num_inference_steps": STEPS,
        "guidance_scale": scale,
        "output_type": "pt",
        "seed": 7,
    }
    for count in (1, 4):
        embeds = pipe.prepare_ip_adapter_image_embeds(images, None, CPU, count, scale > 1.0)
        by_embeds = pipe(**settings, ip_adapter_image_embeds=embeds).images
        assert torch.equal(by_embeds, pipe(**settings, ip_adapter_image=images).images)
    other = pipe(**settings, ip_adapter_image=[picture(4), picture(5)]).images
    assert (by_embeds - other).abs().max() > 1e-3


NOT_PREPARED = [
    (False, None, "no IP-Adapter is loaded: call load_ip_adapter first"),
    (False, [PIXELS], "no IP-Adapter is loaded: call load_ip_adapter first"),
    (True, None, "an IP-Adapter is loaded: give ip_adapter_image"),
    (True, [PIXELS[:1]], "has 1 rows: give an even number (with guidance, negative first)"),
]


@pytest.mark.parametrize(("loaded", "embeds", "words"), NOT_PREPARED)
def test_what_cannot_be_prepared_is_refused_in_one_line(pooled, loaded, embeds, words):
    pipe = ours(pooled if loaded else make_rival())
    with pytest.raises(ValueError) as caught:
        pipe.prepare_ip_adapter_image_embeds(None, embeds, CPU, 1, True)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("by", ["image", "embeds"])
def test_a_guider_beside_an_ip_adapter_is_refused_in_one_line(pooled, by):
    pipe = ours(pooled)
    given: dict[str, Any] = {"ip_adapter_image": picture(1)}
    if by == "embeds":
        embeds = pipe.prepare_ip_adapter_image_embeds(picture(1), None, CPU, 1, True)
        given = {"ip_adapter_image_embeds": embeds}
    with pytest.raises(ValueError) as caught:
        pipe("paris", seed=7, guider=diffusers.guiders.ClassifierFreeGuidance(4.0), **given)
    assert str(caught.value) == "guider and ip_adapter_image do not go together: use guidance_scale"


def test_regions_beside_an_ip_adapter_are_refused_in_one_line_and_leave_the_unet_as_it_was(pooled):
    pipe = ours(pooled)
    before = dict(pipe.unet.attn_processors)
    box = [("a red car", (0.0, 0.5, 0.5, 1.0))]
    with pytest.raises(ValueError) as caught:
        pipe("paris", seed=7, regions=box, ip_adapter_image=picture(1), num_inference_steps=1)
    told = "regions and an IP-Adapter do not go together: call unload_ip_adapter() first"
    assert str(caught.value) == told
    assert dict(pipe.unet.attn_processors) == before
