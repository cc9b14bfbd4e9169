"""Prompts of the eight tasks: true, seen in their renders, asking for their task and nothing else."""

from dataclasses import replace

import pytest

from training.evaluation.prompts import PROMPT_SEED, UMBRELLA_SEED, BenchPrompt
from training.evaluation.suites import SUITE_SEEDS, SUITES, suite_prompts
from training.scenes.claims import Claims, is_true
from training.scenes.scene import has_held_out_pair
from training.scenes.world import FLAT_WORLD

COUNT = 4


@pytest.fixture(scope="module")
def prompts() -> dict[str, list[BenchPrompt]]:
    return {name: suite_prompts(name, FLAT_WORLD, size=64, count=COUNT) for name in SUITES}


def asked(claims: Claims) -> set[str]:
    """The facts that claims name."""
    facts = {name for name in ("city", "weather", "time", "style") if getattr(claims, name)}
    for thing in claims.things:
        facts |= {name for name in ("kind", "color", "count", "side", "garments") if getattr(thing, name)}
    return facts


def test_each_task_asks_for_its_own_and_nothing_else(prompts: dict[str, list[BenchPrompt]]):
    expected = {
        "city": {"city"},
        "light": {"weather", "time"},
        "thing": {"city", "kind"},
        "color": {"city", "kind", "color"},
        "count": {"city", "kind", "count"},
        "side": {"city", "kind", "side"},
    }
    for name, facts in expected.items():
        assert [asked(prompt.claims) for prompt in prompts[name]] == [facts] * COUNT
    for prompt in prompts["bound"]:
        first, *rest = prompt.claims.things
        bound = [thing.color for thing in rest] or [garment.color for garment in first.garments]
        assert len(bound) == 1 and None not in (first.color, *bound) and first.color != bound[0]


def test_claims_are_true_and_can_be_seen(prompts: dict[str, list[BenchPrompt]]):
    for prompt in (one for name in SUITES for one in prompts[name]):
        assert is_true(prompt.claims, prompt.scene)
        for thing in prompt.claims.things:
            (group,) = (g for g in prompt.scene.groups if g.named and g.kind == thing.kind)
            assert all(prompt.sight.things_seen[i] and prompt.sight.colors_seen[i] for i in group.members)


def test_only_the_last_task_asks_for_pairs_that_training_never_shows(prompts: dict[str, list[BenchPrompt]]):
    for name, chosen in prompts.items():
        assert [has_held_out_pair(prompt.scene) for prompt in chosen] == [name == "held_out"] * COUNT


def test_streams_are_the_tasks_own_and_kept_for_judging():
    assert len(set(SUITE_SEEDS.values())) == len(SUITES) == 8
    assert not {PROMPT_SEED, UMBRELLA_SEED} & set(SUITE_SEEDS.values())
    assert all(2 < seed < 100 for seed in SUITE_SEEDS.values())


def test_more_prompts_only_add_and_what_cannot_be_asked_is_told(prompts: dict[str, list[BenchPrompt]]):
    fewer = suite_prompts("side", FLAT_WORLD, size=64, count=2)
    assert [p.text for p in fewer] == [p.text for p in prompts["side"][:2]]
    with pytest.raises(ValueError, match="task='sides': is unknown; choose from city, light"):
        suite_prompts("sides", FLAT_WORLD, size=64, count=1)
    small = replace(FLAT_WORLD, cities=("paris",), kinds=("umbrella",), colors=("red",))
    with pytest.raises(ValueError, match="only 0 of 1 scenes for the task 'bound' found"):
        suite_prompts("bound", small, size=64, count=1)
