"""The loop runs the branches it must, no more, and callbacks may change what they were given."""

from typing import Any

import pytest
import torch


class Counter:
    """Counts the rows of every call of a network."""

    def __init__(self, network):
        self.rows: list[int] = []
        self.states: list[torch.Tensor] = []
        self.hook = network.register_forward_pre_hook(self.count, with_kwargs=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hook.remove()

    def count(self, _, positional, named):
        self.rows.append(len(positional[0]))
        self.states.append(named["encoder_hidden_states"])


def draw(pipe, **settings):
    plain = {"seed": 7, "num_inference_steps": 4, "output_type": "latent"}
    return pipe("paris", **{**plain, **settings}).images


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"guidance_scale": 4.0}, [2, 2, 2, 2]),
        ({"guidance_scale": 1.0}, [1, 1, 1, 1]),
        ({"guidance_interval": (0.25, 0.75)}, [1, 2, 2, 1]),
        ({"guidance_interval": (0.0, 0.0)}, [1, 1, 1, 1]),
        ({"guidance_interval": (0.5, 1.0), "num_images_per_prompt": 3}, [3, 3, 6, 6]),
    ],
)
def test_steps_outside_the_interval_run_one_branch(flow_pipe, settings, rows):
    with Counter(flow_pipe.unet) as counter:
        draw(flow_pipe, **settings)
    assert counter.rows == rows


def test_the_interval_counts_from_the_whole_schedule_in_image_to_image(flow_pipe):
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with Counter(flow_pipe.unet) as counter:
        draw(flow_pipe, image=picture, strength=0.5, guidance_interval=(0.0, 0.75))
    assert counter.rows == [2, 1]


def test_the_negative_prompt_acts_from_its_start_and_the_empty_one_before(flow_pipe):
    empty, negative = (flow_pipe.encode_prompt(text)[0] for text in ("", "umbrella"))
    with Counter(flow_pipe.unet) as counter:
        draw(flow_pipe, negative_prompt="umbrella", negative_start=0.5)
    uncond = [states[:1] for states in counter.states]
    for i, expected in enumerate((empty, empty, negative, negative)):
        torch.testing.assert_close(uncond[i], expected)
    assert not torch.allclose(empty, negative)


def test_a_negative_start_at_the_end_equals_no_negative_prompt(flow_pipe):
    late = draw(flow_pipe, negative_prompt="umbrella", negative_start=1.0)
    torch.testing.assert_close(late, draw(flow_pipe))
    assert not torch.allclose(late, draw(flow_pipe, negative_prompt="umbrella"))


def test_an_interval_without_guidance_equals_a_scale_of_one(flow_pipe):
    torch.testing.assert_close(
        draw(flow_pipe, guidance_interval=(1.0, 1.0)), draw(flow_pipe, guidance_scale=1.0)
    )


def test_a_callback_sees_every_step_and_may_replace_the_latents(flow_pipe):
    seen = []

    def replace_latents(pipe, step, timestep, tensors):
        seen.append((step, float(timestep), list(tensors)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    final = draw(flow_pipe, callback_on_step_end=replace_latents)
    assert [step for step, _, _ in seen] == [0, 1, 2, 3]
    assert [t for _, t, _ in seen] == sorted((t for _, t, _ in seen), reverse=True)
    assert seen[0][2] == ["latents"] and final.abs().max() == 0
    assert flow_pipe.num_timesteps == 4


def test_a_callback_can_end_the_run(flow_pipe):
    def stop(pipe, step, timestep, tensors):
        pipe._interrupt = step == 1
        return tensors

    with Counter(flow_pipe.unet) as counter:
        draw(flow_pipe, callback_on_step_end=stop)
    assert len(counter.rows) == 2
    with Counter(flow_pipe.unet) as counter:
        draw(flow_pipe)
    assert len(counter.rows) == 4


def test_the_cut_off_callback_of_diffusers_ends_guidance(flow_pipe):
    from diffusers.callbacks import SDCFGCutoffCallback

    cut_off: Any = SDCFGCutoffCallback
    with Counter(flow_pipe.unet) as counter:
        draw(flow_pipe, callback_on_step_end=cut_off(cutoff_step_ratio=None, cutoff_step_index=1))
    assert counter.rows == [2, 2, 1, 1]


def test_a_callback_may_change_the_prompt_and_the_scale(flow_pipe):
    london = flow_pipe.encode_prompt("london")[0]

    def change(pipe, step, timestep, tensors):
        both = tensors["prompt_embeds"]
        pipe._guidance_scale = 2.0
        return {"prompt_embeds": torch.cat([both[:1], london])}

    with Counter(flow_pipe.unet) as counter:
        draw(flow_pipe, callback_on_step_end=change, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    torch.testing.assert_close(counter.states[-1][1:], london)
    assert flow_pipe.guidance_scale == 2.0


@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        (None, TypeError, "returned NoneType: return the dict"),
        ({"prompt_embeds": torch.zeros(3, 77, 32)}, ValueError, "returned 3 rows of prompt_embeds"),
    ],
)
def test_a_callback_that_returns_something_else_is_told_so(flow_pipe, returned, error, words):
    with pytest.raises(error, match=words):
        draw(flow_pipe, callback_on_step_end=lambda *_: returned)


def test_an_unknown_callback_tensor_is_refused(flow_pipe):
    with pytest.raises(ValueError, match="names 'noise'"):
        draw(flow_pipe, callback_on_step_end=lambda *a: a[-1], callback_on_step_end_tensor_inputs=["noise"])
