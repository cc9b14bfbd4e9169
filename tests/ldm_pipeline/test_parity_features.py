"""What diffusers' pipelines offer beside sampling gives the same numbers in ours: callbacks to offload."""

# pyright: reportPrivateImportUsage=false

from typing import Any

import accelerate
import diffusers
import numpy as np
import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback
from torch import Tensor

from tests import tiny
from tests.side_by_side import (
    BETAS,
    SETTINGS,
    check_close,
    check_equal,
    draw,
    generators,
    inputs,
    ours,
    theirs,
)

TASKS = ["noise", "picture", "mask"]
NAMES = ["latents", "prompt_embeds"]


@pytest.fixture(scope="module")
def shared() -> dict[str, Any]:
    """Components for tests that leave them as they are."""
    return tiny.make_stable_diffusion_components()


@pytest.fixture
def parts() -> dict[str, Any]:
    """Components for tests that change them."""
    return tiny.make_stable_diffusion_components()


def euler_a() -> Any:
    return diffusers.EulerAncestralDiscreteScheduler(**BETAS)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("task", TASKS)
def test_a_callback_sees_and_changes_the_same_tensors(shared, task):
    seen: list[tuple[int, list[tuple[int, ...]]]] = []

    def change(_: Any, step: int, __: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((step, [tuple(tensors[name].shape) for name in NAMES]))
        if step == 0:
            tensors["latents"] = tensors["latents"] * 0.8
            tensors["prompt_embeds"] = tensors["prompt_embeds"].flip(1)
        return tensors

    start: dict[str, Any] = {} if task == "noise" else {"strength": 1.0}
    names: dict[str, Any] = {"callback_on_step_end_tensor_inputs": NAMES}
    changed = check_equal(shared, euler_a(), task, then=change, **names, **start)
    assert seen[:4] == seen[4:] and seen[0] == (0, [(1, 4, 8, 8), (2, 77, 32)])
    plain = check_equal(shared, euler_a(), task, **start)
    assert np.abs(changed.pictures - plain.pictures).max() > 0.01


@pytest.mark.parametrize("task", TASKS)
def test_an_interrupt_in_the_middle_ends_in_the_same_picture(shared, task):
    def stop(pipe: Any, step: int, _: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        pipe._interrupt = step == 1
        return tensors

    stopped = check_equal(shared, euler_a(), task, then=stop, num_inference_steps=6)
    assert len(stopped.timesteps) == 2


def test_a_callback_may_change_the_guidance_scale(shared):
    def weaken(pipe: Any, _: int, __: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        pipe._guidance_scale = pipe.guidance_scale * 0.5
        return tensors

    weaker = check_equal(shared, euler_a(), "noise", then=weaken, guidance_scale=9.0)
    plain = check_equal(shared, euler_a(), "noise", guidance_scale=9.0)
    assert np.abs(weaker.pictures - plain.pictures).max() > 0.01


@pytest.mark.parametrize("task", TASKS)
def test_the_callback_that_cuts_guidance_off_does_the_same(shared, task):
    cutoff: Any = {"cutoff_step_ratio": None, "cutoff_step_index": 1}  # its annotation says float
    settings = {**SETTINGS, **inputs(task), "output_type": "np"}
    pipes = [ours(shared, euler_a()), theirs(shared, euler_a(), task)]
    own = [{"blend": "none"} if task == "mask" else {}, {}]
    drawn = [
        pipe(
            **settings,
            **more,
            generator=generators(0),
            callback_on_step_end=SDCFGCutoffCallback(**cutoff),
        ).images
        for pipe, more in zip(pipes, own, strict=True)
    ]
    assert np.abs(drawn[0] - drawn[1]).max() < 1e-4


def test_a_callback_sees_mask_and_masked_latents_of_a_unet_for_inpainting():
    parts = tiny.make_stable_diffusion_components(unet_channels=9)
    names = ["latents", "mask", "masked_image_latents"]

    def erase(_: Any, __: int, ___: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        assert tensors["mask"].shape == (2, 1, 8, 8)
        masked = torch.full_like(tensors["masked_image_latents"], 5.0)
        return {**tensors, "masked_image_latents": masked}

    watched: dict[str, Any] = {"callback_on_step_end_tensor_inputs": names}
    erased = check_equal(parts, euler_a(), "mask", then=erase, **watched)
    plain = check_equal(parts, euler_a(), "mask")
    assert np.abs(erased.pictures - plain.pictures).max() > 0.01


@pytest.mark.parametrize("skipped", [0, 1, 2])
def test_clip_skip_leaves_out_the_last_layers_for_both_prompts(shared, skipped):
    """diffusers' own code fails with transformers >= 5.6: it is given states computed by hand."""
    tower, tokenizer = shared["text_encoder"], shared["tokenizer"]

    @torch.no_grad()
    def encode(text: str) -> Tensor:
        ids = tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids
        hidden = tower(ids, output_hidden_states=True).hidden_states
        return tower.final_layer_norm(hidden[len(hidden) - 1 - skipped])

    settings = {name: value for name, value in SETTINGS.items() if name != "prompt"}
    by_skip = draw(
        ours(shared, euler_a()),
        prompt="paris in the rain",
        negative_prompt="umbrella",
        clip_skip=skipped,
        generator=generators(0),
        **settings,
    )
    by_hand = draw(
        theirs(shared, euler_a(), "noise"),
        prompt_embeds=encode("paris in the rain"),
        negative_prompt_embeds=encode("umbrella"),
        generator=generators(0),
        **settings,
    )
    check_close(by_skip, by_hand)


@pytest.mark.parametrize("task", TASKS)
def test_token_states_in_place_of_texts_draw_the_same_picture(shared, task):
    draw_states = torch.Generator("cpu").manual_seed(1)
    states, negative = torch.randn(2, 1, 77, 32, generator=draw_states)
    check_equal(
        shared,
        euler_a(),
        task,
        prompt=None,
        prompt_embeds=states,
        negative_prompt_embeds=negative,
        num_images_per_prompt=2,
    )


def test_given_latents_are_scaled_to_the_first_noise_level(shared):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator("cpu").manual_seed(1))
    check_equal(shared, euler_a(), "noise", latents=noise)


@pytest.mark.parametrize("task", TASKS)
def test_a_lora_has_the_same_scale(parts, task, tmp_path):
    ours(parts, euler_a()).load_lora_weights(tiny.write_lora(tmp_path).parent)  # into the shared UNet
    drawn = [
        check_equal(parts, euler_a(), task, cross_attention_kwargs={"scale": scale}).pictures
        for scale in (0.0, 0.5)
    ]
    assert np.abs(drawn[0] - drawn[1]).max() > 0.01


def test_free_u_draws_the_same_picture(parts):
    plain = check_equal(parts, euler_a(), "noise")
    pipe = ours(parts, euler_a())
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    freed = check_equal(parts, euler_a(), "noise")
    assert np.abs(freed.pictures - plain.pictures).max() > 0.01
    pipe.disable_freeu()
    check_close(check_equal(parts, euler_a(), "noise"), plain)


def test_fused_projections_draw_the_same_picture(parts):
    plain = check_equal(parts, euler_a(), "noise")
    pipe = ours(parts, euler_a())
    pipe.fuse_qkv_projections(vae=False)
    assert any("Fused" in type(one).__name__ for one in parts["unet"].attn_processors.values())
    check_close(check_equal(parts, euler_a(), "noise"), plain)
    pipe.unfuse_qkv_projections(vae=False)
    check_close(check_equal(parts, euler_a(), "noise"), plain)


def test_sliced_attention_draws_the_same_picture(parts):
    plain = check_equal(parts, euler_a(), "noise")
    ours(parts, euler_a()).enable_attention_slicing()
    check_close(check_equal(parts, euler_a(), "noise"), plain)


@pytest.mark.parametrize("vectors", [1, 2])
def test_a_textual_inversion_is_read_alike_in_prompt_and_negative_prompt(parts, vectors):
    learned = torch.randn(vectors, 32, generator=torch.Generator("cpu").manual_seed(1))
    plain = check_equal(parts, euler_a(), "noise", prompt="paris <mine>", negative_prompt="<mine>")
    ours(parts, euler_a()).load_textual_inversion(learned, token="<mine>")
    learnt = check_equal(parts, euler_a(), "noise", prompt="paris <mine>", negative_prompt="<mine>")
    assert np.abs(learnt.pictures - plain.pictures).max() > 0.01


@pytest.mark.parametrize("task", TASKS)
def test_groups_of_layers_may_be_offloaded(parts, task):
    pipe = ours(parts, euler_a())
    plain = check_equal(parts, euler_a(), task)
    pipe.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")
    check_close(check_equal(parts, euler_a(), task), plain)


def test_modules_may_be_offloaded_one_after_the_other(parts):
    """What `enable_sequential_cpu_offload` installs, with a CPU in the accelerator's place."""
    plain = check_equal(parts, euler_a(), "picture")
    for name in ("text_encoder", "unet", "vae"):
        accelerate.cpu_offload(parts[name], torch.device("cpu"))
    assert parts["unet"].device.type == "meta"
    check_close(check_equal(parts, euler_a(), "picture"), plain)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["pil", "np", "pt", "latent"])
def test_output_types_hold_the_same_numbers(shared, kind, task):
    settings = {**SETTINGS, **inputs(task), "num_inference_steps": 2, "output_type": kind}
    own = {"blend": "none"} if task == "mask" else {}
    drawn = ours(shared, euler_a())(**settings, **own, generator=generators(0)).images
    rival = theirs(shared, euler_a(), task)(**settings, generator=generators(0)).images
    assert type(drawn) is type(rival) and len(drawn) == len(rival)
    if kind == "pil":
        difference = np.array(drawn[0], dtype=int) - np.array(rival[0], dtype=int)
        assert drawn[0].size == rival[0].size and np.abs(difference).max() <= 1
    else:
        difference = torch.as_tensor(drawn) - torch.as_tensor(rival)
        assert difference.shape == rival.shape and difference.abs().max() < 1e-3
    with_tuple = ours(shared, euler_a())(**settings, **own, generator=generators(0), return_dict=False)
    assert isinstance(with_tuple, tuple) and len(with_tuple) == 2
