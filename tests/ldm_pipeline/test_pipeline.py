"""The pipeline draws what diffusers draws from the same generator, from three starts, and reports errors."""

# pyright: reportPrivateImportUsage=false

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from ldm_pipeline import LatentDiffusionPipeline, LatentDiffusionPipelineOutput
from ldm_pipeline.images import as_pictures
from ldm_pipeline.latents import picture_to_latents
from tests import tiny

QUICK = {"num_inference_steps": 4, "output_type": "np"}


def rival(pipe, cls: Any = diffusers.StableDiffusionPipeline) -> Any:
    """diffusers' pipeline of the same components."""
    parts = {**pipe.components, "scheduler": copy.deepcopy(pipe.scheduler)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it says that it corrects the scheduler's config
        other = cls(**parts, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    return other


def with_scheduler(kind: str, name: str) -> Any:
    pipe = tiny.make_pipeline(kind)
    pipe.use_scheduler(name)
    return pipe


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    levels = np.random.default_rng(seed).integers(
        0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8
    )
    return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)


def left_half(width: int = 64, height: int = 64) -> Image.Image:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, : width // 2] = 255
    return Image.fromarray(mask)


CASES = [
    ("epsilon", "ddim"),
    ("epsilon", "dpm++"),
    ("epsilon", "euler-a"),
    ("epsilon", "heun"),
    ("epsilon", "pndm"),
    ("v_prediction", "ddim"),
    ("v_prediction", "unipc"),
    ("flow_prediction", "dpm++"),
    ("flow_prediction", "unipc"),
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_text_to_image_equals_diffusers_for_the_same_generator(kind, name):
    pipe = with_scheduler(kind, name)
    ours = pipe("paris in the rain", negative_prompt="umbrella", seed=7, guidance_rescale=0.3, **QUICK)
    theirs = rival(pipe)(
        "paris in the rain",
        negative_prompt="umbrella",
        generator=torch.Generator("cpu").manual_seed(7),
        guidance_rescale=0.3,
        **QUICK,
    )
    assert np.abs(ours.images - theirs.images).max() < 1e-4
    assert ours.images.std() > 0.01


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_image_to_image_equals_diffusers_for_the_same_generator(kind, name):
    pipe = with_scheduler(kind, name)
    settings = {"strength": 0.6, "num_inference_steps": 5, "output_type": "np"}
    ours = pipe("london", image=picture(), seed=7, **settings)
    theirs = rival(pipe, diffusers.StableDiffusionImg2ImgPipeline)(
        "london", image=picture(), generator=torch.Generator("cpu").manual_seed(7), **settings
    )
    assert np.abs(ours.images - theirs.images).max() < 1e-4


def test_a_batch_equals_diffusers_with_a_list_of_generators(flow_pipe):
    prompts = ["paris", "london in the rain"]
    ours = flow_pipe(prompts, negative_prompt=["rain", ""], seed=3, num_images_per_prompt=2, **QUICK)
    theirs = rival(flow_pipe)(
        prompts,
        negative_prompt=["rain", ""],
        num_images_per_prompt=2,
        generator=[torch.Generator("cpu").manual_seed(3 + i) for i in range(4)],
        **QUICK,
    )
    assert ours.seeds == (3, 4, 5, 6)
    assert np.abs(ours.images - theirs.images).max() < 1e-4


def test_one_generator_for_a_batch_works_as_in_diffusers(eps_pipe):
    calls = [eps_pipe, rival(eps_pipe)]
    drawn = [
        call("paris", num_images_per_prompt=2, generator=torch.Generator().manual_seed(1), **QUICK)
        for call in calls
    ]
    assert np.abs(drawn[0].images - drawn[1].images).max() < 1e-4
    assert drawn[0].seeds is None and drawn[0].request.seeds == ()


@pytest.mark.parametrize("name", ["euler", "heun", "unipc"])
def test_flow_schedulers_draw_in_our_loop_from_all_three_starts(name):
    pipe = with_scheduler("flow_prediction", name)
    for settings in ({}, {"image": picture()}, {"image": picture(), "mask_image": left_half()}):
        drawn = pipe("paris", seed=1, **settings, **QUICK).images
        assert np.isfinite(drawn).all() and drawn.std() > 0.01


def test_picture_i_of_a_batch_equals_the_picture_drawn_alone(flow_pipe):
    both = flow_pipe("paris", seed=7, num_images_per_prompt=3, **QUICK).images
    for i in range(3):
        alone = flow_pipe("paris", seed=7 + i, **QUICK).images
        assert np.abs(both[i] - alone[0]).max() < 1e-4
    assert np.abs(both[0] - both[1]).max() > 0.01


@pytest.mark.parametrize("settings", [{"image": True}, {"image": True, "mask_image": True}])
def test_that_also_holds_for_pictures_started_from_a_picture(settings):
    pipe = with_scheduler("epsilon", "euler-a")  # draws at the VAE, at the start and in every step
    given = {"image": picture(), "mask_image": left_half(), "strength": 0.8}
    chosen = {name: given[name] for name in (*settings, "strength")}
    both = pipe("paris", seed=7, num_images_per_prompt=2, **chosen, **QUICK).images
    alone = pipe("paris", seed=8, **chosen, **QUICK).images
    assert np.abs(both[1] - alone[0]).max() < 1e-4


def test_without_a_seed_fresh_entropy_is_drawn_and_recorded(flow_pipe):
    first, second = (flow_pipe("paris", num_images_per_prompt=2, **QUICK) for _ in range(2))
    assert first.seeds != second.seeds and first.seeds[1] == first.seeds[0] + 1
    again = flow_pipe("paris", seed=list(first.seeds), num_images_per_prompt=2, **QUICK)
    assert np.array_equal(first.images, again.images)


def test_the_recorded_request_repeats_the_picture(flow_pipe):
    first = flow_pipe(
        ["paris", "london"],
        negative_prompt="rain",
        seed=5,
        guidance_interval=(0.0, 0.8),
        negative_start=0.3,
        height=48,
        width=72,
        **QUICK,
    )
    assert first.request.seeds == first.seeds and first.request.scheduler == "DPMSolverMultistepScheduler"
    again = flow_pipe(**first.request.to_arguments(), output_type="np")
    assert np.array_equal(first.images, again.images) and again.request == first.request
    assert first.images.shape == (2, 48, 72, 3)


def test_the_global_random_state_neither_matters_nor_moves(flow_pipe):
    drawn = []
    for state in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(state)
            before = torch.get_rng_state()
            drawn.append(flow_pipe("paris", seed=7, image=picture(), **QUICK).images)
            assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(drawn[0], drawn[1])


@pytest.mark.parametrize("size", [(64, 64), (61, 45)])
@pytest.mark.parametrize("kind", ["flow_prediction", "epsilon"])
def test_unmasked_pixels_equal_the_input_and_masked_ones_do_not(kind, size):
    pipe = tiny.make_pipeline(kind)
    given, mask = picture(*size), left_half(*size)
    out = pipe("paris", image=given, mask_image=mask, seed=7, num_inference_steps=4).images[0]
    assert out.size == size
    kept = np.array(mask) == 0
    assert np.array_equal(np.array(out)[kept], np.array(given)[kept])
    assert np.abs(np.array(out, dtype=int) - np.array(given, dtype=int))[~kept].mean() > 5


def test_inpainting_equals_diffusers_where_it_paints():
    vae = diffusers.AutoencoderKL(
        **{**tiny.make_vae().config, "latent_channels": 4},
    ).eval()
    unet = diffusers.UNet2DConditionModel(
        **{**tiny.make_unet().config, "in_channels": 4, "out_channels": 4}
    ).eval()
    tiny.randomize(vae, 5)
    tiny.randomize(unet, 6)
    pipe: Any = LatentDiffusionPipeline(**{**tiny.make_components("epsilon"), "vae": vae, "unet": unet})
    pipe.use_scheduler("euler-a")
    pipe.set_progress_bar_config(disable=True)
    for strength in (1.0, 0.6):
        settings = {"image": picture(), "mask_image": left_half(), "strength": strength, **QUICK}
        ours = pipe("paris", seed=7, **settings).images
        theirs = rival(pipe, diffusers.StableDiffusionInpaintPipeline)(
            "paris", generator=torch.Generator("cpu").manual_seed(7), height=64, width=64, **settings
        ).images
        assert np.abs(ours - theirs)[:, :, :32].max() < 1e-4


def test_image_to_image_keeps_any_size_and_can_be_resized(flow_pipe):
    assert flow_pipe("paris", image=picture(50, 70), seed=1, num_inference_steps=2).images[0].size == (50, 70)
    resized = flow_pipe("paris", image=picture(50, 70), height=64, width=48, seed=1, num_inference_steps=2)
    assert resized.images[0].size == (48, 64)


def test_less_strength_stays_nearer_to_the_picture(flow_pipe):
    seeded = [torch.Generator("cpu").manual_seed(1)]
    clean = picture_to_latents(flow_pipe.vae, as_pictures(picture()), seeded, device=torch.device("cpu"))
    settings = {"image": picture(), "seed": 1, "num_inference_steps": 8, "output_type": "latent"}
    far = [(flow_pipe("paris", strength=s, **settings).images - clean).std() for s in (0.125, 0.5, 1.0)]
    assert far[0] < far[1] < far[2]


def test_output_types_hold_the_same_picture(flow_pipe):
    as_np = flow_pipe("paris", seed=7, **QUICK)
    assert as_np[0] is as_np.images and issubclass(type(as_np), LatentDiffusionPipelineOutput)
    as_pt = flow_pipe("paris", seed=7, num_inference_steps=4, output_type="pt").images
    as_pil = flow_pipe("paris", seed=7, num_inference_steps=4).images[0]
    latent = flow_pipe("paris", seed=7, num_inference_steps=4, output_type="latent").images
    assert np.array_equal(as_pt.permute(0, 2, 3, 1).numpy(), as_np.images)
    assert np.array_equal(np.array(as_pil), (as_np.images[0] * 255).round().astype(np.uint8))
    assert latent.shape == (1, 8, 8, 8)
    images, blocked = flow_pipe("paris", seed=7, return_dict=False, **QUICK)
    assert np.array_equal(images, as_np.images) and blocked is None


def test_given_latents_and_token_states_replace_the_drawn_and_the_encoded(flow_pipe):
    noise = torch.randn(1, 8, 8, 8, generator=torch.Generator("cpu").manual_seed(7))
    states, negative = flow_pipe.encode_prompt("paris", negative_prompt="rain")
    by_seed = flow_pipe("paris", negative_prompt="rain", seed=7, **QUICK).images
    by_tensors = flow_pipe(
        latents=noise, prompt_embeds=states, negative_prompt_embeds=negative, **QUICK
    ).images
    assert np.abs(by_seed - by_tensors).max() < 1e-5


def test_threads_may_share_a_pipeline(eps_pipe):
    def one(seed):
        return eps_pipe("paris in the rain", seed=seed, num_inference_steps=6, output_type="np").images

    alone = [one(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(one, range(4)))
    for a, b in zip(alone, together, strict=True):
        assert np.abs(a - b).max() < 1e-5


@pytest.mark.parametrize("exact", [True, False])
def test_a_safety_checker_is_reported_and_never_silent(exact):
    class Blocker(torch.nn.Module):
        dtype, device, seen = torch.float32, torch.device("cpu"), 0

        def forward(self, *, images, clip_input):
            assert len(images) == len(clip_input) == (1 if exact else 2)
            flags = [self.seen + i == 1 for i in range(len(images))]
            self.seen += len(images)
            images[flags] = 0
            return images, flags

    class Extractor:
        def __call__(self, pictures, return_tensors):
            return type("Features", (), {"pixel_values": torch.zeros(len(pictures), 3, 4, 4)})

    pipe = tiny.make_pipeline()
    pipe.safety_checker, pipe.feature_extractor = Blocker(), Extractor()
    with pytest.warns(UserWarning, match="blocked and blacked out picture 1"):
        out = pipe("paris", seed=1, num_images_per_prompt=2, exact=exact, **QUICK)
    assert out.nsfw_content_detected == [False, True]
    assert out.images[1].max() == 0 and out.images[0].max() > 0


def test_a_prompt_that_is_too_long_is_quoted_where_it_was_cut(flow_pipe):
    with pytest.warns(UserWarning, match="cut off: 'umbrella in paris"):
        flow_pipe("red " * 75 + "umbrella in paris", seed=1, **QUICK)


def test_a_negative_prompt_without_guidance_is_warned_of(flow_pipe):
    with pytest.warns(UserWarning, match="negative_prompt has no effect with guidance_scale=1"):
        flow_pipe("paris", negative_prompt="rain", guidance_scale=1.0, seed=1, **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        flow_pipe("paris", guidance_scale=1.0, seed=1, **QUICK)


BAD = [
    ({"height": 60}, "height=60 is not a multiple of 8: use, say, 56 or 64"),
    ({"width": 0}, "width=0 is not a multiple of 8"),
    ({"seed": -1}, "seed=-1"),
    ({"seed": 2**32 - 1, "num_images_per_prompt": 2}, "leaves no seeds for 2 pictures"),
    ({"seed": [1, 2]}, "seed has 2 numbers for 1 pictures"),
    ({"seed": 1, "generator": torch.Generator()}, "seed and generator were both given"),
    ({"generator": [torch.Generator()] * 2}, "generator has 2 for 1 pictures"),
    ({"negative_prompt": ["a", "b"]}, "negative_prompt has 2 texts for 1 prompts"),
    ({"prompt": None}, "give one of the two"),
    ({"prompt": []}, "prompt is an empty list"),
    ({"prompt_embeds": torch.zeros(1, 77, 32)}, "give one of the two"),
    ({"prompt": None, "prompt_embeds": torch.zeros(1, 77, 5)}, "prompt_embeds has shape (1, 77, 5)"),
    ({"negative_prompt": "a", "negative_prompt_embeds": torch.zeros(1, 77, 32)}, "both given"),
    ({"latents": torch.zeros(1, 4, 8, 8)}, "latents has shape (1, 4, 8, 8): give (1, 8, 8, 8)"),
    ({"num_inference_steps": 0}, "num_inference_steps=0"),
    ({"strength": 0.5}, "it belongs to an image"),
    ({"image": picture(), "strength": 0.0}, "strength=0.0"),
    ({"image": picture(), "strength": 1.1}, "strength=1.1"),
    ({"image": picture(), "strength": 0.2}, "leaves none of 4 steps: use at least 0.25"),
    ({"image": picture(), "mask_image": left_half(32)}, "mask_image is 32 x 64 pixels but image is 64 x 64"),
    ({"mask_image": left_half()}, "mask_image was given without image"),
    ({"image": [picture(), picture()]}, "image holds 2 for 1 prompts"),
    ({"output_type": "jpeg"}, "output_type='jpeg' is unknown: use one of pil, np, pt, latent"),
    ({"clip_skip": 9}, "clip_skip=9"),
    ({"sigmas": [1.0]}, "sigmas was given, but DPMSolverMultistepScheduler takes none"),
]


@pytest.mark.parametrize(("settings", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_input_is_a_one_line_error(flow_pipe, settings, words):
    with pytest.raises(ValueError) as caught:
        flow_pipe(**{"prompt": "paris", **QUICK, **settings})
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_scheduler_that_cannot_run_the_model_is_refused_before_the_first_step():
    pipe = tiny.make_pipeline()
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    calls = []
    pipe.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match="use one of DPMSolverMultistepScheduler"):
        pipe("paris", **QUICK)
    assert calls == []


def test_latents_that_blow_up_are_an_error_and_not_a_black_picture():
    pipe = tiny.make_pipeline()
    with torch.no_grad():
        pipe.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="denoising ended in latents that are not finite"):
        pipe("paris", **QUICK)


def test_a_tiny_autoencoder_starts_from_pictures_too():
    parts = tiny.make_stable_diffusion_components()
    channels = (8, 8, 8, 8)
    parts["vae"] = diffusers.AutoencoderTiny(
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    ).eval()
    tiny.randomize(parts["vae"], 2)
    pipe = LatentDiffusionPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    theirs = rival(pipe, diffusers.StableDiffusionImg2ImgPipeline)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    settings: dict[str, Any] = {"strength": 0.6, "num_inference_steps": 5, "output_type": "latent"}
    drawn: list[Any] = [
        one("paris", image=picture, generator=torch.Generator("cpu").manual_seed(7), **settings).images
        for one in (pipe, theirs)
    ]
    assert (drawn[0] - drawn[1]).abs().max() <= 1e-4 * drawn[1].std()
    inverse: Any = pipe("paris", image=1 - picture, seed=7, **settings).images
    assert (inverse - drawn[0]).abs().max() > 1e-2
