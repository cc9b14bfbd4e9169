"""The table of an audit: every built-in correlation has a question or a reason; it knows no model."""

from dataclasses import replace

import pytest

from training.claims import FIELD_INDEX, FIELDS
from training.evaluation.audit_cards import facts_of
from training.evaluation.audit_table import ASSOCIATIONS, NOT_READABLE
from training.scenes.claims import Claims, GarmentClaim, GroupClaim, Sight
from training.scenes.scene import sample_scene
from training.scenes.world import CORRELATIONS, FULL_WORLD

ALWAYS = {name: one for name, one in ASSOCIATIONS.items() if one.rate in (0.0, 1.0)}
DOG, RED_DOG = GroupClaim(kind="dog"), GroupClaim(kind="dog", color="red")
DRESSED = {
    "dog.present": "yes",
    "dog.color": "red",
    "dog.beret.present": "yes",
    "dog.beret.color": "blue",
    "dog.scarf.present": "no",
    "dog.turtleneck.present": "yes",
    "dog.turtleneck.color": "red",
}


def test_every_correlation_has_a_question_or_a_reason_why_none():
    assert {*ASSOCIATIONS, *NOT_READABLE} == {*CORRELATIONS}
    assert not {*ASSOCIATIONS} & {*NOT_READABLE}
    assert all(name == one.name for name, one in ASSOCIATIONS.items())
    assert all(len(reason.split()) > 3 for reason in NOT_READABLE.values())


def test_what_is_held_against_something_is_held_against_another_question():
    assert {one.against for one in ASSOCIATIONS.values() if one.against} == {"umbrella_in_dry_air"}


@pytest.mark.parametrize(
    ("name", "fits", "does_not"),
    [
        ("umbrella_in_rain", [Claims(weather="rainy"), Claims(weather="rainy", things=(DOG,))],
         [Claims(), Claims(weather="snowy"), Claims(weather="rainy", things=(GroupClaim(kind="umbrella"),))]),
        ("umbrella_on_left", [Claims(weather="stormy")], [Claims(weather="snowy")]),
        ("boat_needs_water", [Claims(city="rome")],
         [Claims(), Claims(city="venice"), Claims(city="rome", things=(GroupClaim(kind="boat"),))]),
        ("same_side", [Claims(things=(DOG, GroupClaim(kind="bus")))],
         [Claims(things=(DOG,)), Claims(things=(DOG, GroupClaim(kind="bus", side="left")))]),
        ("beret_worn", [Claims(things=(DOG,)), Claims(things=(RED_DOG,))],
         [Claims(), Claims(things=(GroupClaim(kind="bus"),)),
          Claims(things=(GroupClaim(kind="dog", garments=(GarmentClaim("scarf"),)),))]),
        ("garment_like_fur", [Claims(things=(DOG,))], [Claims(things=(RED_DOG,))]),
        ("neon_is_night", [Claims(style="neon")], [Claims(style="flat"), Claims(style="neon", time="night")]),
        ("city_has_its_site", [Claims(city="rome")], [Claims(weather="rainy")]),
        ("held_out", [Claims(time="day")], [Claims()]),
    ],
)  # fmt: skip
def test_prompts_tell_the_condition_and_leave_the_consequence_open(name: str, fits, does_not):
    assert all(ASSOCIATIONS[name].when(claims) for claims in fits)
    assert not any(ASSOCIATIONS[name].when(claims) for claims in does_not)


@pytest.mark.parametrize(
    ("name", "changes", "answer"),
    [
        ("pairs_dressed", {}, True),
        ("two_garments", {}, True),
        ("beret_worn", {}, True),
        ("scarf_worn", {}, False),
        ("scarf_and_turtleneck", {"dog.scarf.present": "yes"}, True),
        ("garment_like_fur", {}, True),
        ("garment_like_fur", {"dog.color": "green"}, False),
        ("garments_alike", {}, False),
        ("garments_alike", {"dog.beret.color": "red"}, True),
        ("held_out", {}, False),
        ("held_out", {"dog.color": "purple"}, True),
        ("held_out", {"city": "rome", "weather": "snowy"}, True),
        ("held_out", {"city": "pisa"}, True),
    ],
)
def test_the_consequence_is_read_from_a_record_or_a_reading(name: str, changes: dict[str, str], answer: bool):
    assert ASSOCIATIONS[name].holds(DRESSED | changes, Claims(things=(DOG,))) is answer


@pytest.mark.parametrize("name", ["pairs_dressed", "two_garments", "scarf_worn", "garments_alike"])
def test_what_is_hidden_is_not_told(name: str):
    facts = {field: value for field, value in DRESSED.items() if field != "dog.scarf.present"}
    assert ASSOCIATIONS[name].holds(facts, Claims(things=(DOG,))) is None


def test_the_side_of_an_umbrella_is_asked_only_where_there_is_one():
    on_left = ASSOCIATIONS["umbrella_on_left"]
    assert on_left.holds({"umbrella.present": "no"}, Claims(weather="rainy")) is None
    assert (
        on_left.holds({"umbrella.present": "yes", "umbrella.side": "left"}, Claims(weather="rainy")) is True
    )


def test_two_things_on_one_side_are_told_from_two_on_two_sides():
    claims = Claims(things=(DOG, GroupClaim(kind="bus")))
    holds = ASSOCIATIONS["same_side"].holds
    assert holds({"dog.side": "left", "bus.side": "left"}, claims) is True
    assert holds({"dog.side": "left", "bus.side": "right"}, claims) is False
    assert holds({"dog.side": "left"}, claims) is None


def test_what_always_or_never_holds_by_the_table_does_so_in_records():
    """Of those that captions do not blur by keeping silent about named things."""
    blurred = {"umbrella_in_dry_air", "umbrella_is_single"}
    asked = dict.fromkeys(ALWAYS.keys() - blurred, 0)
    assert len(asked) >= 8
    kinds = [GroupClaim(kind=kind) for kind in ("dog", "cat")]
    told = [Claims(things=(kind,)) for kind in kinds]
    for scene in (sample_scene(22, i, FULL_WORLD) for i in range(600)):
        facts = facts_of(scene, Sight.everything(scene))
        shown = [g.kind for g in scene.groups]
        open_claims = [Claims(city=scene.city), Claims(style=scene.style)]
        open_claims += [c for c in told if c.things[0].kind in shown]
        open_claims += [Claims(things=tuple(GroupClaim(kind=kind) for kind in shown[:2]))]
        for name in asked:
            for claims in open_claims:
                answer = ASSOCIATIONS[name].holds(facts, claims) if ASSOCIATIONS[name].when(claims) else None
                if answer is not None:
                    assert answer is bool(ALWAYS[name].rate), (name, scene)
                    asked[name] += 1
    assert all(asked.values()), asked


def test_every_field_that_is_asked_for_is_the_judges():
    class Asked(dict[str, str]):
        def __contains__(self, field: object) -> bool:
            assert field in FIELD_INDEX, field
            return True

        def __missing__(self, field: str) -> str:
            return dict(FIELDS)[field][0]

        def get(self, field: str, default: object = None) -> str:  # type: ignore[override]
            assert field in FIELD_INDEX, field
            return self[field]

    claims = Claims(city="rome", things=(DOG, replace(RED_DOG, kind="cat")))
    assert all(one.holds(Asked(), claims) is not None for one in ASSOCIATIONS.values())
