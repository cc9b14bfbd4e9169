"""A request is checked when it is made, and survives JSON."""

import dataclasses
import json
import subprocess
import sys

import pytest

from ldm_pipeline.request import LARGEST_SEED, GenerationDefaults, GenerationRequest, seeds_for


def make_request(**settings) -> GenerationRequest:
    plain = {"prompts": ("Paris in the rain",), "seeds": (7,), "height": 128, "width": 128}
    return GenerationRequest(**{**plain, **settings})


def test_a_request_survives_json_with_every_field_changed():
    request = GenerationRequest(
        prompts=("Paris à l'aube", "London"),
        negative_prompts=("umbrella", ""),
        seeds=(0, 1, LARGEST_SEED, 3),
        num_images_per_prompt=2,
        num_inference_steps=14,
        guidance_scale=4.0,
        guidance_rescale=0.5,
        guidance_interval=(0.1, 0.9),
        negative_start=0.15,
        height=96,
        width=64,
        start="masked picture",
        strength=0.6,
        scheduler="UniPCMultistepScheduler",
        eta=0.5,
        clip_skip=1,
        long_prompt="chunk",
        prompt_syntax="a1111",
        blend="feather",
        padding_mask_crop=16,
        step_cache_interval=3,
        exact=True,
        timesteps=(999, 500),
        sigmas=(1.0, 0.5),
    )
    changed = [f.name for f in dataclasses.fields(request) if getattr(request, f.name) != f.default]
    assert len(changed) == len(dataclasses.fields(request))
    assert GenerationRequest.from_json(request.to_json()) == request


def test_equal_requests_give_equal_one_line_json():
    assert make_request().to_json() == make_request(start="noise").to_json()
    assert "\n" not in make_request().to_json()
    assert list(json.loads(make_request().to_json())) == sorted(json.loads(make_request().to_json()))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seeds": (-1,)}, "seed=-1"),
        ({"seeds": (2**32,)}, "4294967295"),
        ({"seeds": (1.5,)}, "whole number"),
        ({"seeds": (1, 2)}, "2 numbers for 1 pictures"),
        ({"negative_prompts": ("a", "b")}, "2 texts for 1 prompts"),
        ({"num_inference_steps": 0}, "num_inference_steps=0"),
        ({"num_inference_steps": True}, "num_inference_steps=True"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan"),
        ({"guidance_scale": "4"}, "guidance_scale='4'"),
        ({"guidance_interval": (0.9, 0.1)}, "start must not lie after stop"),
        ({"guidance_interval": (0.0, 2.0)}, "guidance_interval=2.0"),
        ({"guidance_interval": (0.5,)}, "two fractions"),
        ({"negative_start": 1.5}, "negative_start=1.5"),
        ({"start": "picture", "strength": 0.0}, "strength=0.0"),
        ({"start": "picture", "strength": 1.01}, "strength=1.01"),
        ({"start": "picture"}, "strength=None does not fit"),
        ({"strength": 0.5}, "does not fit start='noise'"),
        ({"start": "elsewhere"}, "start='elsewhere' is unknown"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt=0"),
        ({"prompts": (3,)}, "a row is a text, or a list of (text, weight) pairs"),
        ({"negative_prompts": ((("dog", 1.0),),)}, "a row is a text, or a list of texts"),
        ({"long_prompt": "cut"}, "long_prompt='cut' is unknown: use one of 'truncate', 'chunk'"),
        ({"prompt_syntax": "compel"}, "prompt_syntax='compel' is unknown: use one of 'plain', 'a1111'"),
        ({"blend": "soft", "start": "masked picture", "strength": 1.0}, "blend='soft' is unknown"),
        ({"blend": "feather"}, "blend='feather' has no effect: it belongs to a mask_image"),
        ({"padding_mask_crop": 8}, "padding_mask_crop=8 has no effect: it belongs to a mask_image"),
        ({"height": 0}, "height=0"),
        ({"eta": 2.0}, "eta=2.0"),
        ({"clip_skip": -1}, "clip_skip=-1"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(settings, words):
    with pytest.raises(ValueError) as caught:
        make_request(**settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_field_names_the_nearest_one():
    with pytest.raises(ValueError, match="'guidance_scal' is unknown: did you mean 'guidance_scale'"):
        GenerationRequest.from_json('{"guidance_scal": 4.0}')
    with pytest.raises(ValueError, match="did you mean 'num_inference_steps'"):
        GenerationDefaults.from_json('{"steps": 4}')


@pytest.mark.parametrize("text", ["", "[1]", "{", "3", '{"prompts": "Paris"}', "[" * 100_000])
def test_json_that_holds_no_request_is_a_value_error(text):
    with pytest.raises(ValueError):
        GenerationRequest.from_json(text)


def test_defaults_write_only_what_differs_from_diffusers():
    assert json.loads(GenerationDefaults().to_json()) == {}
    chosen = GenerationDefaults(num_inference_steps=14, guidance_interval=(0.1, 1.0))
    assert json.loads(chosen.to_json()) == {"num_inference_steps": 14, "guidance_interval": [0.1, 1.0]}
    assert GenerationDefaults.from_json(chosen.to_json()) == chosen


def test_seeds_count_on_from_one_number_and_stop_at_the_largest():
    assert seeds_for(7, 3) == (7, 8, 9)
    assert seeds_for([5, 5], 2) == (5, 5)
    assert seeds_for(LARGEST_SEED - 1, 2) == (LARGEST_SEED - 1, LARGEST_SEED)
    with pytest.raises(ValueError, match=f"use at most {LARGEST_SEED - 2}"):
        seeds_for(LARGEST_SEED - 1, 3)
    with pytest.raises(ValueError, match="seed=-1"):
        seeds_for(-1, 1)


def test_without_a_seed_every_request_draws_another_first_seed():
    first = {seeds_for(None, 2) for _ in range(8)}
    assert len(first) == 8
    assert all(b == a + 1 and 0 <= a < LARGEST_SEED for a, b in first)


def test_arguments_of_a_request_leave_out_what_is_no_argument():
    arguments = make_request(start="picture", strength=0.5, scheduler="DDIMScheduler").to_arguments()
    assert arguments["prompt"] == ["Paris in the rain"] and arguments["seed"] == [7]
    assert not {"height", "width", "start", "scheduler", "prompts", "negative_prompt"} & arguments.keys()


def test_the_front_door_and_the_request_import_no_torch():
    code = (
        "import sys, ldm_pipeline, ldm_pipeline.request, ldm_pipeline.folder; print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_the_front_door_hands_out_at_most_ten_names():
    import ldm_pipeline

    assert 0 < len(ldm_pipeline.__all__) <= 10
    assert all(getattr(ldm_pipeline, name).__name__ == name for name in ldm_pipeline.__all__)
    with pytest.raises(AttributeError):
        _ = ldm_pipeline.nothing_of_that_name
