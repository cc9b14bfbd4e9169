"""Exact runs: a picture's bits are those that it has alone, whatever stands beside it and in which order."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from typing import Any

import diffusers
import pytest
import torch
from diffusers import guiders

from ldm_pipeline.network import alone, rows_of

LONG = ", ".join(["a red car in london"] * 20)


def draw(pipe: Any, prompt: Any, seed: Any, **settings: Any) -> torch.Tensor:
    plain: dict[str, Any] = {"num_inference_steps": 4, "output_type": "pt"}
    if "guider" not in settings:
        plain["guidance_scale"] = 4.0
    return pipe(prompt, seed=seed, **{**plain, **settings}).images


def test_rows_of_cuts_tensors_only():
    states, kept = torch.arange(3.0)[:, None], {"scale": 0.5}
    found = rows_of({"encoder_hidden_states": states, "cross_attention_kwargs": kept, "mask": None}, 1)
    assert found["encoder_hidden_states"].tolist() == [[1.0]]
    assert found["cross_attention_kwargs"] is kept and found["mask"] is None


def test_a_row_alone_lies_in_memory_as_in_a_run_of_its_own():
    batch = torch.arange(3 * 8 * 65 * 65.0).reshape(3, 8, 65, 65).to(memory_format=torch.channels_last)
    row = alone(batch, 1)
    assert torch.equal(row, batch[1:2])
    assert row.is_contiguous() and row.data_ptr() % 64 == 0 and row.storage_offset() == 0


def test_exact_calls_the_network_and_the_guider_once_per_picture(flow_pipe):
    rows = []
    hook = flow_pipe.unet.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    draw(flow_pipe, ["paris"] * 3, 7, num_inference_steps=1)
    draw(flow_pipe, ["paris"] * 3, 7, num_inference_steps=1, guider=guiders.ClassifierFreeGuidance(4.0))
    draw(flow_pipe, ["paris"] * 3, 7, num_inference_steps=1, exact=False)
    hook.remove()
    assert rows == [2] * 3 + [1] * 6 + [6]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"guidance_scale": 1.0},
        {"guidance_rescale": 0.7, "guidance_interval": (0.25, 0.75)},
        {"negative_prompt": "rain", "negative_start": 0.5},
        {"negative_prompt": ["rain", ["night", "city"], ""], "long_prompt": "chunk"},
        {"step_cache_interval": 2},
        {"regions": [("a red car", (0.0, 0.5, 0.5, 1.0))]},
        {"guider": guiders.AdaptiveProjectedGuidance(4.0, adaptive_projected_guidance_momentum=-0.5)},
    ],
)
def test_a_picture_of_a_batch_is_the_picture_alone_to_the_bit(flow_pipe, settings):
    prompts = ["paris", LONG, "rome at night"] if "long_prompt" in settings else ["paris", "a cat", "rome"]
    negatives = settings.get("negative_prompt")
    together = draw(flow_pipe, prompts, [7, 3, 9], **settings)
    for i, (prompt, seed) in enumerate(zip(prompts, (7, 3, 9), strict=True)):
        own = {"negative_prompt": [negatives[i]]} if isinstance(negatives, list) else {}
        alone = draw(flow_pipe, [prompt], seed, **{**settings, **own})
        assert torch.equal(together[i : i + 1], alone), f"picture {i}"


def test_order_and_number_of_pictures_change_no_bit(flow_pipe):
    first = draw(flow_pipe, "paris", 7, num_images_per_prompt=4)
    second = draw(flow_pipe, ["rome", "paris"], [1, 9])
    assert torch.equal(first[2:3], second[1:2])


def test_weighted_sums_beside_each_other_change_no_bit(flow_pipe):
    rows = ["paris", [("london", 0.8), ("a red car", 0.4)], [("a dog", 1.0), ("night", 0.0)]]
    together = draw(flow_pipe, rows, [7, 8, 9], negative_prompt=["rain", ["night", "city"], ""])
    for i, negative in enumerate(("rain", ["night", "city"], "")):
        alone = draw(flow_pipe, [rows[i]], 7 + i, negative_prompt=[negative])
        assert torch.equal(together[i : i + 1], alone), f"picture {i}"


@pytest.mark.parametrize("mask", [None, "half"])
def test_pictures_to_start_from_change_no_bit_of_each_other(flow_pipe, mask):
    images = torch.rand(2, 3, 64, 72, generator=torch.Generator().manual_seed(0))
    painted = torch.zeros(1, 1, 64, 72)
    painted[..., :36] = 1.0
    more: dict[str, Any] = {"strength": 0.8} if mask is None else {"mask_image": painted, "strength": 1.0}
    together = draw(flow_pipe, ["paris", "rome"], [7, 8], image=images, **more)
    for i, prompt in enumerate(("paris", "rome")):
        assert torch.equal(
            together[i : i + 1], draw(flow_pipe, prompt, 7 + i, image=images[i : i + 1], **more)
        )


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.DDIMScheduler,
        diffusers.DPMSolverMultistepScheduler,
        diffusers.UniPCMultistepScheduler,
        diffusers.EulerDiscreteScheduler,
        diffusers.EulerAncestralDiscreteScheduler,
        diffusers.HeunDiscreteScheduler,
    ],
)
def test_every_kind_of_scheduler_keeps_the_bits(eps_pipe, scheduler):
    pipe = type(eps_pipe).from_pipe(eps_pipe, scheduler=scheduler.from_config(eps_pipe.scheduler.config))
    pipe.set_progress_bar_config(disable=True)
    together = draw(pipe, "paris", 7, num_images_per_prompt=3, height=72, width=56)
    assert torch.equal(together[2:3], draw(pipe, "paris", 9, height=72, width=56))


def test_not_exact_is_the_same_picture_but_for_last_bits(flow_pipe):
    exact = draw(flow_pipe, "paris", 7, num_images_per_prompt=3, exact=True)
    once = draw(flow_pipe, "paris", 7, num_images_per_prompt=3, exact=False)
    torch.testing.assert_close(once, exact, atol=1e-4, rtol=0)


def test_the_request_tells_what_was_done(flow_pipe):
    def told(**given: Any) -> bool:
        return flow_pipe("paris", seed=7, num_inference_steps=1, output_type="latent", **given).request.exact

    assert told() is True, "a CPU computes exactly unless told otherwise"
    assert told(exact=False) is False
    with pytest.raises(ValueError, match="exact=1 is not allowed: use True or False"):
        told(exact=1)
