"""Prompts of an audit: training's own captions that leave something open; it knows no model."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from training.evaluation.audit_cards import CAPTION_SEED, CARD_SEED, RECORD_SEED, Card, cards, records
from training.evaluation.audit_questions import cell_associations
from training.evaluation.audit_table import ASSOCIATIONS
from training.evaluation.prompts import PROMPT_SEED, UMBRELLA_SEED
from training.evaluation.suites import SUITE_SEEDS
from training.scenes.caption import draw_caption
from training.scenes.claims import is_true, sight_from
from training.scenes.render import render
from training.scenes.scene import sample_scene
from training.scenes.world import FLAT_WORLD, Skew

WORLD = replace(FLAT_WORLD, cities=("rome", "cairo"), kinds=("umbrella", "bus", "dog"))
RAIN, DRY = ASSOCIATIONS["umbrella_in_rain"], ASSOCIATIONS["umbrella_in_dry_air"]
ASKED = (RAIN, DRY, *cell_associations(WORLD, "rome/bus/red"))


@pytest.fixture(scope="module")
def dealt() -> list[Card]:
    return list(cards(WORLD, ASKED, size=64, count=4))


def test_every_question_gets_its_cards_each_with_a_number(dealt: list[Card]):
    for one in ASKED:
        numbers = [card.asked[one.name] for card in dealt if one.name in card.asked]
        assert numbers == [0, 1, 2, 3]
        assert all(one.when(card.claims) for card in dealt if one.name in card.asked)


def test_a_card_is_a_true_caption_that_training_could_draw(dealt: list[Card]):
    for card in dealt:
        assert card.scene.seed == CARD_SEED
        assert is_true(card.claims, card.scene)
        assert card.image.shape == (64, 64, 3)
        assert card.caption.seed and card.caption.text
        assert card.facts.get("city") == card.scene.city
    world = replace(WORLD, cities=("rome",))
    (first,) = [card for card in dealt if card.asked.get("bus red in rome") == 0]
    assert first.scene == sample_scene(CARD_SEED, first.scene.index, world)


def test_a_longer_list_only_adds(dealt: list[Card]):
    shorter = list(cards(WORLD, ASKED, size=64, count=2))
    for one in ASKED:
        texts = [[c.caption.text for c in deal if one.name in c.asked] for deal in (shorter, dealt)]
        assert texts[0] == texts[1][:2]


def test_looking_ends_where_a_question_is_too_rare():
    assert list(cards(WORLD, [ASSOCIATIONS["neon_is_night"]], size=64, count=1, total=20)) == []


def test_records_are_the_captions_and_facts_of_another_stream():
    found = records(WORLD, ASKED, scenes=400)
    assert {*found} == {one.name for one in ASKED}
    assert len(found[RAIN.name]) > 20
    assert all(RAIN.when(claims) and facts["weather"] == "rainy" for facts, claims in found[RAIN.name])
    assert all(facts["city"] == "rome" for facts, _ in found["bus red in rome"])


def test_a_question_about_one_city_sees_that_citys_skew():
    world = replace(WORLD, skews=(Skew("rome/bus/red/1.0"), Skew("cairo/dog/blue/1.0")))
    found = records(world, cell_associations(world, "rome/bus/red"), scenes=1_500)
    seen = [facts["bus.color"] for facts, _ in found["bus red in rome"]]
    assert len(seen) > 5 and set(seen) == {"red"}


def test_the_streams_are_for_judging_and_of_the_audit_alone():
    source = (Path(__file__).parents[3] / "training" / "options.py").read_text(encoding="utf-8")
    judging = re.search(r"^JUDGING_SEEDS = range\((\d+), (\d+)\)$", source, re.MULTILINE)
    assert judging and {CARD_SEED, RECORD_SEED} <= {*range(*map(int, judging.groups()))}
    assert not {CARD_SEED, RECORD_SEED} & {2, PROMPT_SEED, UMBRELLA_SEED, *SUITE_SEEDS.values()}


def test_captions_are_drawn_as_training_draws_them(dealt: list[Card]):
    for card in dealt:
        rendering = render(card.scene, 64)
        sight = sight_from(rendering.visibility, weather_seen=rendering.weather_seen)
        assert draw_caption(card.scene, sight, seed=CAPTION_SEED) == card.caption
