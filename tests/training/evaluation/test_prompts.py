"""Fresh prompts: unseen by training, true, seen in the render; it knows no model."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from training.evaluation.prompts import (
    PROMPT_SEED,
    UMBRELLA_SEED,
    BenchPrompt,
    derangement,
    fresh_prompts,
    sham_word,
    umbrella_prompts,
)
from training.scenes.caption import is_true, vocabulary
from training.scenes.phrases import compose, words_of
from training.scenes.scene import has_held_out_pair
from training.scenes.world import FLAT_WORLD, WATER_CITIES

SIZE = 64
WORLD = replace(FLAT_WORLD, kinds=("umbrella", "dog", "balloon", "boat"))


@pytest.fixture(scope="module")
def prompts() -> list[BenchPrompt]:
    return fresh_prompts(WORLD, size=SIZE, count=6)


@pytest.fixture(scope="module")
def rainy() -> list[BenchPrompt]:
    return umbrella_prompts(WORLD, size=SIZE, count=6)


def test_every_prompt_states_city_weather_time_and_one_thing_with_color_count_and_side(prompts):
    for prompt in prompts:
        claims, (thing,) = prompt.claims, prompt.claims.things
        assert None not in (claims.city, claims.weather, claims.time, thing.color, thing.count, thing.side)


def test_the_claims_are_true_and_are_what_the_text_says(prompts, rainy):
    for prompt in [*prompts, *rainy]:
        assert is_true(prompt.claims, prompt.scene)
        assert prompt.text == compose(prompt.claims, form="full", seed=prompt.scene.index)
        assert set(words_of(prompt.text)) <= set(vocabulary())


def test_only_what_can_be_seen_is_claimed(prompts):
    for prompt in prompts:
        (thing,) = prompt.claims.things
        (group,) = (g for g in prompt.scene.groups if g.named and g.kind == thing.kind)
        assert all(prompt.sight.things_seen[i] and prompt.sight.colors_seen[i] for i in group.members)
        assert prompt.sight.weather_seen
        assert prompt.image.shape == (SIZE, SIZE, 3)


def test_the_scenes_are_of_streams_that_no_training_draws_and_hold_no_held_out_pair(prompts, rainy):
    # read, not imported: the commands bring every network with them
    source = (Path(__file__).parents[3] / "training" / "options.py").read_text(encoding="utf-8")
    held_out = re.search(r"^HELD_OUT_SEED = (\d+)$", source, re.MULTILINE)
    judging = re.search(r"^JUDGING_SEEDS = range\((\d+), (\d+)\)$", source, re.MULTILINE)
    assert held_out and judging
    kept = range(*map(int, judging.groups()))
    assert {p.scene.seed for p in prompts} == {PROMPT_SEED}
    assert {p.scene.seed for p in rainy} == {UMBRELLA_SEED}
    assert len({PROMPT_SEED, UMBRELLA_SEED, int(held_out[1])}) == 3
    assert all(seed in kept for seed in (PROMPT_SEED, UMBRELLA_SEED, int(held_out[1])))
    assert not any(has_held_out_pair(p.scene) for p in [*prompts, *rainy])


def test_prompts_are_a_function_of_the_world_and_a_longer_list_only_adds_to_it(prompts):
    again = fresh_prompts(WORLD, size=SIZE, count=3)
    assert [p.text for p in again] == [p.text for p in prompts[:3]]


def test_rainy_prompts_never_name_an_umbrella_and_half_of_them_name_another_thing(rainy):
    assert {p.claims.weather for p in rainy} == {"rainy"}
    assert [len(p.claims.things) for p in rainy] == [0, 1, 0, 1, 0, 1]
    for prompt in rainy:
        assert all(thing.kind != "umbrella" for thing in prompt.claims.things)
        assert not any(group.named and group.kind == "umbrella" for group in prompt.scene.groups)
        carried = [t for t in prompt.scene.things if t.kind == "umbrella"]
        assert prompt.umbrella in (None, bool(carried))


def test_the_sham_word_is_of_the_world_and_not_of_the_scene(rainy):
    for prompt in rainy:
        word = sham_word(prompt, WORLD)
        assert word in WORLD.kinds
        assert word != "umbrella"
        assert word not in {thing.kind for thing in prompt.scene.things}
        assert (word == "boat") == (prompt.scene.city not in WATER_CITIES)


def test_a_world_without_an_umbrella_in_the_rain_is_refused():
    with pytest.raises(ValueError, match="pairs=4: this world has no umbrella"):
        umbrella_prompts(replace(WORLD, weathers=("sunny",)), size=SIZE, count=4)


@pytest.mark.parametrize("count", [2, 3, 64])
def test_shuffled_captions_are_a_permutation_that_leaves_none_in_its_place(count):
    order = derangement(count)
    assert sorted(order) == list(range(count))
    assert all(i != other for i, other in enumerate(order))


def test_a_single_prompt_cannot_be_shuffled():
    with pytest.raises(ValueError, match="prompts=1: must be at least 2"):
        derangement(1)
