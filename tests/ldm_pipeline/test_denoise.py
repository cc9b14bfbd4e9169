"""The loop runs the branches it must, no more, and callbacks may change what they were given."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from ldm_pipeline import schedulers
from ldm_pipeline.denoise import StepState, call_back, denoise, predict
from ldm_pipeline.guidance import Guidance, scale_embedding
from ldm_pipeline.text import condition
from tests import tiny


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
        ({"guidance_interval": (0.5, 1.0), "num_images_per_prompt": 3, "exact": False}, [3, 3, 6, 6]),
        (
            {"guidance_interval": (0.5, 1.0), "num_images_per_prompt": 2, "exact": True},
            [1, 1, 1, 1, 2, 2, 2, 2],
        ),
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


def test_a_callback_may_change_the_mask(flow_pipe):
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    half = torch.zeros(1, 1, 64, 64)
    half[..., :32] = 1.0
    shapes = []

    def keep_all(_, __, ___, tensors):
        shapes.append(tuple(tensors["mask"].shape))
        assert tensors["masked_image_latents"] is None
        return {**tensors, "mask": torch.zeros(1, 1, 8, 8)}

    given = {"image": picture, "mask_image": half, "callback_on_step_end": keep_all}
    kept = draw(flow_pipe, **given, callback_on_step_end_tensor_inputs=["mask", "masked_image_latents"])
    assert shapes == [(2, 1, 8, 8)] * 4
    nothing_painted = draw(flow_pipe, image=picture, mask_image=torch.zeros(1, 1, 64, 64))
    torch.testing.assert_close(kept, nothing_painted, atol=1e-5, rtol=0)

    given["callback_on_step_end"] = lambda *called: {"mask": torch.zeros(1, 1, 4, 4)}
    with pytest.raises(ValueError, match=r"returned mask of shape \(1, 1, 4, 4\): return \(1, 1, 8, 8\)"):
        draw(flow_pipe, **given, callback_on_step_end_tensor_inputs=["mask"])
    with pytest.raises(ValueError, match="names 'mask', which needs a mask_image"):
        draw(flow_pipe, callback_on_step_end_tensor_inputs=["mask"])


def test_an_unknown_callback_tensor_is_refused(flow_pipe):
    with pytest.raises(ValueError, match="names 'noise'"):
        draw(flow_pipe, callback_on_step_end=lambda *a: a[-1], callback_on_step_end_tensor_inputs=["noise"])


LONG = "a red car in the rain, " * 15
CPU = torch.device("cpu")


def conditioning_of(pipe, prompts, negatives=None, **settings):
    plain = {"needs_null": False, "per_row": 1, "clip_skip": None, "long_prompt": "chunk"}
    found, _ = condition(
        pipe.tokenizer,
        pipe.text_encoder,
        prompts=prompts,
        negatives=negatives,
        device=CPU,
        dtype=torch.float32,
        **{**plain, **settings},
    )
    return found


def state_of(conditioning, *, seeds=(7,), **guidance):
    noise = [torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return StepState(latents=torch.stack(noise), conditioning=conditioning, guidance=Guidance(**guidance))


def predicted(pipe, state, **arguments):
    return predict(pipe.unet, state.latents, torch.tensor(500.0), state, place=0.5, arguments=arguments)


def run(pipe, state, **settings):
    scheduler = schedulers.scheduler_for_run(pipe.scheduler)
    schedulers.set_steps(scheduler, 3, timesteps=None, sigmas=None, device=CPU)
    plain = {
        "timesteps": scheduler.timesteps,
        "first_step": 0,
        "total_steps": 3,
        "step_arguments": {},
        "network_arguments": {},
        "joined": lambda model_input: model_input,
        "put_back": lambda scheduler, latents, i: latents,
        "after_step": lambda i, timestep, state: state,
        "interrupted": lambda: False,
    }
    return denoise(pipe.unet, scheduler, state, **{**plain, **settings})


@torch.no_grad()
def test_one_prompt_and_one_negative_are_predicted_as_ever_to_the_bit(flow_pipe):
    state = state_of(conditioning_of(flow_pipe, ["paris"], ["rain"]), scale=4.0)
    found = state.conditioning
    assert found.negative is not None
    both = flow_pipe.unet(
        torch.cat([state.latents] * 2),
        torch.tensor(500.0),
        encoder_hidden_states=torch.cat([found.negative, found.prompt]),
    ).sample
    u, c = both.chunk(2)
    assert torch.equal(predicted(flow_pipe, state), u + 4.0 * (c - u))


@torch.no_grad()
def test_no_mask_is_passed_where_all_texts_are_equally_long(flow_pipe):
    masks = []

    def look(_, positional, named):
        masks.append(named.get("encoder_attention_mask"))

    hook = flow_pipe.unet.register_forward_pre_hook(look, with_kwargs=True)
    predicted(flow_pipe, state_of(conditioning_of(flow_pipe, ["paris"], ["rain"])))
    predicted(flow_pipe, state_of(conditioning_of(flow_pipe, [LONG], [LONG])))
    predicted(flow_pipe, state_of(conditioning_of(flow_pipe, [LONG], ["rain"])))
    hook.remove()
    assert masks[:2] == [None, None]
    assert masks[2].sum(dim=1).tolist() == [77, 154]


@torch.no_grad()
def test_a_picture_does_not_change_with_a_long_neighbor(flow_pipe):
    together = conditioning_of(flow_pipe, ["paris", LONG], ["rain", ""])
    drawn = run(flow_pipe, state_of(together, seeds=(7, 8), scale=4.0))
    for i, (prompt, negative, seed) in enumerate((("paris", "rain", 7), (LONG, "", 8))):
        alone = conditioning_of(flow_pipe, [prompt], [negative])
        torch.testing.assert_close(
            drawn[i : i + 1], run(flow_pipe, state_of(alone, seeds=(seed,), scale=4.0)), atol=1e-5, rtol=0
        )


@torch.no_grad()
@pytest.mark.parametrize(("prompt", "negative"), [(LONG, "rain"), ("rain", LONG)])
def test_prompt_and_negative_of_other_lengths_are_predicted_as_one_by_one(flow_pipe, prompt, negative):
    state = state_of(conditioning_of(flow_pipe, [prompt], [negative]), scale=4.0)
    u, c = (
        predicted(flow_pipe, state_of(conditioning_of(flow_pipe, [text]), scale=1.0))
        for text in (negative, prompt)
    )
    torch.testing.assert_close(predicted(flow_pipe, state), u + 4 * (c - u), atol=3e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_two_equal_terms_of_half_weight_draw_what_one_draws(flow_pipe, scale):
    negatives = ["rain"] if scale > 1 else None
    one = state_of(conditioning_of(flow_pipe, ["paris"], negatives), scale=scale)
    halves = state_of(conditioning_of(flow_pipe, [[("paris", 0.5), ("paris", 0.5)]], negatives), scale=scale)
    torch.testing.assert_close(run(flow_pipe, halves), run(flow_pipe, one), atol=1e-5, rtol=0)


@torch.no_grad()
def test_rows_with_fewer_terms_are_drawn_as_alone(flow_pipe):
    prompts = ["paris", [("london", 0.8), ("a red car", 0.4)], [("a dog", 1.0), ("night", 0.0)]]
    negatives = ["rain", ["night", "city"], ""]
    together = conditioning_of(flow_pipe, prompts, negatives)
    drawn = run(flow_pipe, state_of(together, seeds=(7, 8, 9), scale=4.0))
    for i, prompt in enumerate(("paris", prompts[1], "a dog")):
        alone = conditioning_of(flow_pipe, [prompt], [negatives[i]])
        expected = run(flow_pipe, state_of(alone, seeds=(7 + i,), scale=4.0))
        torch.testing.assert_close(drawn[i : i + 1], expected, atol=1e-5, rtol=0)
    single = conditioning_of(flow_pipe, ["london"], ["night"])
    assert not torch.allclose(drawn[1:2], run(flow_pipe, state_of(single, seeds=(8,), scale=4.0)), atol=1e-2)


@torch.no_grad()
def test_all_branches_run_in_one_batch_unconditional_first(flow_pipe):
    found = conditioning_of(
        flow_pipe, [[("paris", 0.5), ("rain", 0.5)]], [["night", "city"]], needs_null=True
    )
    with Counter(flow_pipe.unet) as counter:
        predicted(flow_pipe, state_of(found, scale=4.0))
        predicted(flow_pipe, state_of(found, scale=4.0, negative_start=0.9))
        predicted(flow_pipe, state_of(found, scale=1.0))
    assert counter.rows == [4, 3, 2]
    assert found.null is not None
    order = [branch.states for branch in (*found.negatives, *found.prompts)]
    assert torch.equal(counter.states[0], torch.cat(order))
    assert torch.equal(counter.states[1], torch.cat([found.null.states, *order[2:]]))


@torch.no_grad()
def test_a_network_with_an_embedded_scale_draws_sums_too(flow_pipe):
    distilled: Any = UNet2DConditionModel.from_config(flow_pipe.unet.config, time_cond_proj_dim=8)
    tiny.randomize(distilled.eval(), 5)
    scales = torch.cat([scale_embedding(scale, 8, pictures=1) for scale in (2.0, 7.5)])
    answers = []
    for prompts in (["paris", "night"], [[("paris", 0.5), ("paris", 0.5)], "night"]):
        state = state_of(conditioning_of(flow_pipe, prompts), seeds=(7, 8), scale=1.0)
        given = {"timestep_cond": scales}
        answers.append(
            predict(distilled, state.latents, torch.tensor(500.0), state, place=0, arguments=given)
        )
    torch.testing.assert_close(*answers)


@torch.no_grad()
def test_another_prediction_can_take_the_place_of_ours(flow_pipe):
    state = state_of(conditioning_of(flow_pipe, ["paris"]), scale=1.0)
    places = []

    def watched(unet, model_input, timestep, state, *, place, arguments):
        places.append(place)
        return predict(unet, model_input, timestep, state, place=place, arguments=arguments)

    assert torch.equal(run(flow_pipe, state, predict_with=watched), run(flow_pipe, state))
    assert places == [0, 1 / 3, 2 / 3]
    flat = run(flow_pipe, state, predict_with=lambda unet, x, *_, **__: torch.zeros_like(x))
    assert not torch.allclose(flat, run(flow_pipe, state))


def called(pipe, state, callback, names):
    return call_back(pipe, callback, names, 0, torch.tensor(0), state, place=0.5)


@torch.no_grad()
def test_a_callback_sees_padded_states_and_their_padding_stays_marked(flow_pipe):
    state = state_of(conditioning_of(flow_pipe, [LONG], ["rain"]), scale=4.0)

    def change(pipe, step, timestep, tensors):
        assert tensors["prompt_embeds"].shape == (2, 154, 32)
        return {"prompt_embeds": tensors["prompt_embeds"].clone()}

    after = called(flow_pipe, state, change, ["prompt_embeds"])
    attention = after.conditioning.negatives[0].attention
    assert attention is not None and attention.sum() == 77
    torch.testing.assert_close(predicted(flow_pipe, after), predicted(flow_pipe, state))
    shorter = called(
        flow_pipe, state, lambda *_: {"prompt_embeds": torch.zeros(2, 77, 32)}, ["prompt_embeds"]
    )
    branches = (*shorter.conditioning.negatives, *shorter.conditioning.prompts)
    assert [branch.attention for branch in branches] == [None, None]


@torch.no_grad()
def test_token_states_of_a_sum_are_no_callback_tensors(flow_pipe):
    found = conditioning_of(flow_pipe, [[("paris", 0.5), ("rain", 0.5)]], ["night"])
    state = state_of(found, scale=4.0)
    same = called(flow_pipe, state, lambda pipe, step, timestep, tensors: tensors, ["latents"])
    assert same.conditioning is found
    states = {"prompt_embeds": torch.zeros(2, 77, 32)}
    for callback, names in ((lambda *_: {}, ["negative_prompt_embeds"]), (lambda *_: states, ["latents"])):
        with pytest.raises(ValueError, match="several prompts for one picture: use 'latents' alone"):
            called(flow_pipe, state, callback, names)
