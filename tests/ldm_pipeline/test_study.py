"""A study says what is drawn in each arm, and every bad one is a line; nothing is drawn here."""

import pytest

from ldm_pipeline.study import Arm, Case, Study, pair, read_seeds, read_setting, read_values, sweep

PARIS = ["Paris on a rainy day"]


def test_a_negative_prompt_gives_three_arms():
    study = pair(PARIS, seeds=[3, 5], change={"negative_prompt": "umbrella"}, sham="boat", ask="umbrella")
    assert [(arm.key, dict(arm.settings)) for arm in study.arms] == [
        ("A", {}),
        ("B", {"negative_prompt": "umbrella"}),
        ("sham", {"negative_prompt": "boat"}),
    ]
    assert [arm.label for arm in study.arms] == [
        "no negative prompt", 'negative_prompt="umbrella"', 'negative_prompt="boat"',
    ]  # fmt: skip
    assert study.cases == (Case(0, 3), Case(0, 5))


def test_a_change_is_laid_over_the_base_and_none_is_the_models_own():
    study = pair(
        ["a", "b"],
        seeds=[0],
        base={"guidance_scale": 3, "scheduler": "unipc"},
        change={"scheduler": "", "guidance_interval": (0.0, 0.5)},
        ask="x",
    )
    assert study.arms[0].arguments() == {"guidance_scale": 3}
    assert study.arms[1].settings == {"guidance_scale": 3, "guidance_interval": [0.0, 0.5]}
    assert study.cases == (Case(0, 0), Case(1, 0))


def test_a_changed_wording_may_hold_the_studys_prompt():
    study = pair(["Paris", "Rome"], seeds=[0], change={"prompt": "{} at night"}, ask="x")
    assert [arm.prompt("Rome") for arm in study.arms] == ["Rome", "Rome at night"]


def test_a_sweep_has_an_arm_for_each_value_and_a_grid_for_each_pair_row_by_row():
    study = sweep(PARIS, seeds=[0], vary={"guidance_scale": (1, 3, 5)}, ask="umbrella")
    assert [(arm.key, arm.settings["guidance_scale"]) for arm in study.arms] == [
        ("x1", 1), ("x2", 3), ("x3", 5),
    ]  # fmt: skip
    grid = sweep(
        PARIS, seeds=[0], vary={"guidance_scale": (1, 3, 5), "negative_prompt": ("", "umbrella")}, ask="x"
    )
    assert [arm.key for arm in grid.arms] == ["x1y1", "x2y1", "x3y1", "x1y2", "x2y2", "x3y2"]
    assert grid.arms[4].settings == {"guidance_scale": 3, "negative_prompt": "umbrella"}
    assert grid.axes == (("guidance_scale", 3), ("negative_prompt", 2))


def test_seeds_and_settings_are_read_from_words():
    assert read_seeds("0-3, 10,20-21") == (0, 1, 2, 3, 10, 20, 21)
    assert read_setting("guidance_scale=3.5") == ("guidance_scale", 3.5)
    assert read_setting("negative_prompt=a=b, c") == ("negative_prompt", "a=b, c")
    assert read_setting("scheduler=") == ("scheduler", None)
    assert read_setting("guidance_interval=[0, 0.5]") == ("guidance_interval", [0, 0.5])
    assert read_values("scheduler=dpm++,unipc") == ("scheduler", ("dpm++", "unipc"))
    assert read_values('prompt=["a, b", "c"]') == ("prompt", ("a, b", "c"))
    assert read_values("num_inference_steps=7,14") == ("num_inference_steps", (7, 14))


@pytest.mark.parametrize("text", ["", "a", "5-3", "-1", "1-", "0-99999999", "4294967296", "1;2", "1,,2"])
def test_seeds_that_cannot_be_read_are_refused(text: str):
    with pytest.raises(ValueError, match="seed") as error:
        read_seeds(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"guidence_scale": 3}, "did you mean 'guidance_scale'"),
        ({"guidance_scale": "many"}, "guidance_scale='many'"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan"),
        ({"num_inference_steps": 0}, "num_inference_steps=0"),
        ({"strength": 0.5}, "strength=0.5 needs an image"),
        ({"mask_image": "m.png"}, "needs an image"),
        ({"scheduler": 3}, "use a text"),
        ({"seeds": [1]}, "unknown"),
        ({}, "nothing differs"),
        ({"negative_prompt": ""}, "equal settings"),
    ],
)
def test_a_change_that_no_call_can_take_is_refused(change: dict, complaint: str):
    with pytest.raises(ValueError, match=complaint) as error:
        pair(PARIS, seeds=[0], change=change, ask="umbrella")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds": [-1]}, "seed=-1"),
        ({"prompts": []}, "prompt is empty"),
        ({"prompts": [" "]}, "prompt is empty"),
        ({"prompts": ["a", "a"]}, "twice"),
        ({"ask": " "}, "ask is empty"),
        ({"also": ["umbrella"]}, "ask each once"),
        ({"sham": "umbrella"}, "is the negative prompt itself"),
        ({"change": {"guidance_scale": 3}, "sham": "boat"}, "no place here"),
        ({"seeds": range(100_001)}, "at most 100000 cases"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(given: dict, complaint: str):
    whole = {
        "prompts": PARIS, "seeds": [0], "change": {"negative_prompt": "umbrella"}, "ask": "umbrella", **given,
    }  # fmt: skip
    with pytest.raises(ValueError, match=complaint):
        pair(**whole)


@pytest.mark.parametrize(
    ("vary", "complaint"),
    [
        ({}, "names 0 settings"),
        ({"eta": (0.0,)}, "has 1 values"),
        ({"eta": (0.0, 0.0)}, "equal settings"),
        ({"eta": (0.0, 1.0), "clip_skip": (0, 1), "guidance_scale": (1, 2)}, "names 3 settings"),
        ({"guidance_scale": tuple(range(65))}, "65 arms"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(vary: dict, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        sweep(PARIS, seeds=[0], vary=vary, ask="umbrella")


@pytest.mark.parametrize("text", ["guidance_scale", "=3", "prompt=[1", "pace=1,2"])
def test_words_that_are_no_setting_are_refused(text: str):
    with pytest.raises(ValueError):
        read_values(text)


def test_a_list_of_wrong_things_is_found_when_the_study_is_made():
    name, values = read_values('prompt=["a", 3]')
    with pytest.raises(ValueError, match="prompt=3 is not allowed"):
        sweep(PARIS, seeds=[0], vary={name: values}, ask="x")


def test_a_study_of_one_arm_is_none():
    with pytest.raises(ValueError, match="1 arms"):
        Study(prompts=("a",), seeds=(0,), arms=(Arm(key="A", label="", settings={}),), ask="x")
