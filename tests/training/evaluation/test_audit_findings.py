"""What an audit makes of answers: it recovers a planted skew, and finds none where none was planted.

The pictures of a stand-in for a model are renders of scenes for which the prompt is true: a model that draws
exactly as its world does. Readers are the records themselves, or records with errors.
"""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from training.evaluation.audit_cards import Card, cards, facts_of, records
from training.evaluation.audit_findings import Case, Rate, dependences, rate_of, spread_of
from training.evaluation.audit_questions import cell_associations, marginals
from training.evaluation.audit_table import Facts
from training.scenes.claims import Claims, is_true, sight_from
from training.scenes.render import render
from training.scenes.scene import sample_scene
from training.scenes.world import FLAT_WORLD, Skew, World

SIZE, PROMPTS, SEEDS, RENDERS = 64, 32, 2, 56
PLAIN = replace(
    FLAT_WORLD,
    cities=("rome", "cairo"),
    weathers=("sunny",),
    times=("day",),
    kinds=("bus", "dog"),
    colors=("red", "green", "blue", "yellow"),
    group_weights=(0.0, 1.0, 0.0),
)
SKEWED = replace(PLAIN, skews=(Skew("rome/bus/red/0.9"),))
THERE, ELSEWHERE = cell_associations(PLAIN, "rome/bus/red")
BUS_COLOR = next(one for one in marginals(PLAIN) if one.name == "bus color")
MODEL_SEED = 30
"""Stream of the stand-in's scenes; the audit's own are others."""

Reader = Callable[[Facts], Facts]


def perfect(facts: Facts) -> Facts:
    return facts


def noisy() -> Reader:
    """Takes each fifth color for another one."""
    draws = random.Random("noisy reader")

    def read(facts: Facts) -> Facts:
        color = facts.get("bus.color")
        if color is None or draws.random() > 0.2:
            return facts
        others = [other for other in PLAIN.colors if other != color]
        return {**facts, "bus.color": others[int(draws.random() * len(others))]}

    return read


def stand_in(world: World) -> Callable[[Claims], Facts]:
    """Draws the next scene of which the claims are true; what its render shows."""
    index = iter(range(10**9))

    def draw(claims: Claims) -> Facts:
        scene = next(s for i in index if is_true(claims, s := sample_scene(MODEL_SEED, i, world)))
        return facts_of(scene, sight_from(render(scene, SIZE).visibility))

    return draw


@pytest.fixture(scope="module")
def plain() -> list[Card]:
    return list(cards(PLAIN, (THERE, ELSEWHERE), size=SIZE, count=RENDERS))


@pytest.fixture(scope="module")
def skewed() -> list[Card]:
    return list(cards(SKEWED, (THERE, ELSEWHERE), size=SIZE, count=RENDERS))


def audited(data: list[Card], model: World, reader: Reader) -> dict[str, Rate]:
    draw = stand_in(model)
    rates = {}
    for one in (THERE, ELSEWHERE):
        cases = [
            Case(
                claims=card.claims,
                truth=card.facts,
                rendered=reader(card.facts),
                drawn=[reader(draw(card.claims)) for _ in range(SEEDS * (card.asked[one.name] < PROMPTS))],
            )
            for card in data
            if one.name in card.asked
        ]
        rates[one.name] = rate_of(one, cases, ())
    return rates


def test_a_planted_skew_is_recovered_where_it_was_planted_and_nowhere_else(plain: list[Card]):
    rates = audited(plain, SKEWED, perfect)
    there, elsewhere = rates[THERE.name], rates[ELSEWHERE.name]
    assert there.model.interval.low <= 0.9 <= there.model.interval.high
    assert there.judged.interval.low <= 0.25 <= there.judged.interval.high
    assert there.amplification.clear and (there.amplification.points or 0) > 0.4
    assert (there.amplification.ratio or 0) > 2
    assert elsewhere.model.interval.low <= 0.25 <= elsewhere.model.interval.high
    assert not elsewhere.amplification.clear
    (found,) = dependences((THERE, ELSEWHERE), rates)
    assert found.model.clear and not found.data.clear


def test_a_model_that_follows_skewed_data_amplifies_nothing(skewed: list[Card]):
    rates = audited(skewed, SKEWED, perfect)
    there = rates[THERE.name]
    for seen in (there.truth, there.judged, there.model):
        assert seen.interval.low <= 0.9 <= seen.interval.high
    assert not there.amplification.clear
    (found,) = dependences((THERE, ELSEWHERE), rates)
    assert found.model.clear and found.data.clear


@pytest.mark.parametrize("reader", [perfect, noisy()], ids=["perfect", "noisy"])
def test_where_nothing_was_planted_nothing_is_found(plain: list[Card], reader: Reader):
    rates = audited(plain, PLAIN, reader)
    assert not any(rate.amplification.clear for rate in rates.values())
    (found,) = dependences((THERE, ELSEWHERE), rates)
    assert not found.model.clear and not found.data.clear


def test_a_readers_errors_shrink_the_skew_and_the_correction_restores_it(plain: list[Card]):
    there = audited(plain, SKEWED, noisy())[THERE.name]
    assert (there.model.rate or 1) < 0.82
    assert there.sensitivity.interval.low <= 0.8 <= there.sensitivity.interval.high
    assert there.amplification.clear
    assert there.corrected is not None
    assert there.corrected.interval.low <= 0.9 <= there.corrected.interval.high
    assert there.corrected.rate > (there.model.rate or 1)


def test_records_tell_the_planted_share():
    found = records(SKEWED, (THERE, ELSEWHERE), scenes=4_000)
    for one, planted in ((THERE, 0.9), (ELSEWHERE, 0.25)):
        rate = rate_of(one, (), found[one.name])
        assert rate.records.asked > 20 and rate.model.rate is None and rate.corrected is None
        assert rate.records.interval.low <= planted <= rate.records.interval.high


def test_a_marginal_tells_a_model_of_one_color_from_the_data():
    claims, colors = Claims(city="rome"), PLAIN.colors
    cases = [
        Case(
            claims=claims,
            truth={},
            rendered={"bus.color": colors[i % 4]},
            drawn=[{"bus.color": "red"}, {}] if i < 20 else (),
        )
        for i in range(80)
    ]
    found = spread_of(BUS_COLOR, cases, [({"bus.color": "red"}, claims), ({"bus.color": "blue"}, claims)])
    assert found.seen == 20
    assert found.classes == (*colors, "other")
    assert (found.records, found.judged) == ((0.5, 0, 0.5, 0, 0), (0.25, 0.25, 0.25, 0.25, 0))
    assert found.distance is not None and found.distance.clear
    assert found.data_entropy == pytest.approx(2.0, abs=0.04) and found.distance.entropy == 0.0
    assert found.distance.variation == 0.75


def test_too_few_renders_leave_the_correction_out():
    cases = [
        Case(claims=Claims(), truth={"bus.color": "red"}, rendered={"bus.color": "red"}, drawn=[{}])
    ] * 50
    found = rate_of(THERE, cases, ())
    assert (found.judged.right, found.sensitivity.asked, found.specificity.asked) == (50, 50, 0)
    assert found.model.rate is None and found.amplification.points is None and found.corrected is None
