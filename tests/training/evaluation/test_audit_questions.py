"""All questions of an audit of a world: cells, marginals, and none about what the world lacks."""

from dataclasses import replace

import pytest

from training.evaluation.audit_questions import NOTHING, cell_associations, marginals, questions
from training.evaluation.audit_table import ASSOCIATIONS, Marginal
from training.scenes.claims import Claims, GroupClaim
from training.scenes.world import FLAT_WORLD, Skew

BUS, DOG = GroupClaim(kind="bus"), GroupClaim(kind="dog")
MARGINALS = {one.name: one for one in marginals(FLAT_WORLD)}


def test_each_question_has_a_name_of_its_own():
    names = [one.name for one in questions(FLAT_WORLD, ("rome/bus/red", "rome/bus/red", "rome/bus/blue"))]
    assert len(set(names)) == len(names)
    assert {*ASSOCIATIONS} <= {*names}
    assert "bus red in rome" in names and "bus blue elsewhere" in names


def test_nothing_is_asked_about_things_that_the_world_lacks():
    names = {one.name for one in questions(replace(FLAT_WORLD, kinds=("dog", "bus")))}
    assert not any(name.startswith(("umbrella", "boat", "cat ")) for name in names)
    assert {"dog color", "bus color", "kinds", "weather"} <= names
    assert "style" not in names  # there is only one


def test_a_planted_skew_is_asked_about():
    world = replace(FLAT_WORLD, skews=(Skew("rome/bus/red/0.9"),))
    found = {one.name: one for one in questions(world) if not isinstance(one, Marginal)}
    assert found["bus red in rome"].rate == 0.9
    assert found["bus red in rome"].against == "bus red elsewhere"


def test_a_cell_leaves_the_color_open_in_its_city_and_elsewhere():
    there, elsewhere = cell_associations(FLAT_WORLD, "rome/bus/red")
    assert (there.rate, there.city, elsewhere.city) == (1 / 8, "rome", None)
    in_rome, in_paris = (Claims(city=city, things=(BUS,)) for city in ("rome", "tokyo"))
    assert there.when(in_rome) and not there.when(in_paris)
    assert elsewhere.when(in_paris) and not elsewhere.when(in_rome)
    assert not elsewhere.when(Claims(things=(BUS,)))
    assert not there.when(Claims(city="rome", things=(replace(BUS, color="red"),)))
    assert [there.holds({"bus.color": color}, in_rome) for color in ("red", "blue")] == [True, False]
    assert there.holds({}, in_rome) is None


@pytest.mark.parametrize("cell", ["rome/bus", "rome/bus/red/0.9", "atlantis/bus/red", "rome/bus/pink", ""])
def test_what_is_no_cell_is_refused_with_an_example(cell: str):
    with pytest.raises(ValueError, match=r"cell='.*': is no CITY/KIND/COLOR of this world, such as paris/"):
        questions(FLAT_WORLD, (cell,))


@pytest.mark.parametrize(
    ("name", "claims", "facts", "values"),
    [
        ("weather", Claims(city="rome"), {"weather": "foggy"}, ("foggy",)),
        ("kinds", Claims(city="rome"), {"dog.present": "yes", "bus.present": "yes"}, ("dog", "bus")),
        ("kinds", Claims(city="rome"), {"dog.present": "no"}, (NOTHING,)),
        ("side", Claims(things=(replace(BUS, side="left"), DOG)), {"dog.side": "right"}, ("right",)),
        ("side", Claims(things=(BUS,)), {}, ()),
        ("number", Claims(things=(GroupClaim(kind="dog", plural=True),)), {"dog.count": "3"}, ("3",)),
        ("bus color", Claims(things=(BUS,)), {"bus.color": "red"}, ("red",)),
    ],
)  # fmt: skip
def test_marginals_ask_for_what_the_caption_leaves_open(name: str, claims: Claims, facts, values):
    assert MARGINALS[name].when(claims)
    assert MARGINALS[name].values(facts, claims) == values


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("weather", Claims(weather="rainy")),
        ("weather", Claims()),
        ("time", Claims(style="neon")),
        ("kinds", Claims(things=(BUS,))),
        ("side", Claims(things=(replace(BUS, side="left"),))),
        ("number", Claims(things=(replace(BUS, plural=True),))),
        ("number", Claims(things=(GroupClaim(kind="dog", count=2),))),
        ("bus color", Claims(things=(replace(BUS, color="red"),))),
    ],
)
def test_marginals_do_not_ask_for_what_the_caption_tells(name: str, claims: Claims):
    assert not MARGINALS[name].when(claims)
