"""The code of claims: one class number per field.

It does not know how captions are drawn or worded.
"""

from collections.abc import Callable

import numpy as np
import pytest

from training.claims import (
    ABSENT,
    FIELD_INDEX,
    FIELDS,
    NOT_CLAIMED,
    PRESENT,
    class_counts,
    decode_claims,
    encode_claims,
    field_names,
)
from training.scenes.claims import Claims, GarmentClaim, GroupClaim
from training.scenes.world import KINDS

FULL = Claims(
    city="paris",
    weather="rainy",
    time="night",
    style="ink",
    things=(
        GroupClaim(
            kind="dog",
            color="white",
            count=2,
            side="left",
            garments=(GarmentClaim("beret"), GarmentClaim("turtleneck", "black")),
        ),
        GroupClaim(kind="bus"),
    ),
)


def test_fields_cover_the_world_once():
    assert len(set(field_names())) == len(FIELDS) == len(class_counts()) == 4 + 4 * 12 + 2 * 3 * 2
    assert all(len(set(classes)) == len(classes) >= 2 for _, classes in FIELDS)
    for kind in KINDS.values():
        assert FIELDS[FIELD_INDEX[f"{kind.name}.count"]][1][-1] == str(kind.max_count)


def test_what_is_claimed_can_be_read_back_and_the_rest_is_absent_or_open():
    read = decode_claims(encode_claims(FULL))
    present = {name for name, value in read.items() if value == "yes"}
    assert present == {"dog.present", "dog.beret.present", "dog.turtleneck.present", "bus.present"}
    assert read["cat.present"] == read["dog.scarf.present"] == "no"
    rest = {name: value for name, value in read.items() if not name.endswith(".present")}
    assert rest == {
        "city": "paris",
        "weather": "rainy",
        "time": "night",
        "style": "ink",
        "dog.color": "white",
        "dog.count": "2",
        "dog.side": "left",
        "dog.turtleneck.color": "black",
    }


def test_the_empty_caption_names_nothing_and_leaves_everything_else_open():
    codes = encode_claims(Claims())
    presence = np.array([name.endswith(".present") for name in field_names()])
    assert (codes[presence] == ABSENT).all() and (codes[~presence] == NOT_CLAIMED).all()
    assert codes.dtype == np.int64 and codes.shape == (len(FIELDS),)


def test_more_than_one_without_a_number_leaves_the_count_open():
    codes = encode_claims(Claims(things=(GroupClaim(kind="cat", plural=True),)))
    assert codes[FIELD_INDEX["cat.present"]] == PRESENT
    assert codes[FIELD_INDEX["cat.count"]] == NOT_CLAIMED


@pytest.mark.parametrize(
    ("claims", "named"),
    [
        (lambda: Claims(city="atlantis"), "city: 'atlantis' is unknown; choose from paris"),
        (
            lambda: Claims(things=(GroupClaim(kind="bus", count=4),)),
            "bus.count: '4' is unknown; choose from 1, 2",
        ),
        (lambda: Claims(things=(GroupClaim(kind="yeti"),)), "kind 'yeti' is unknown"),
        (lambda: Claims(things=(GroupClaim(kind="cat"), GroupClaim(kind="cat"))), "'cat' is claimed twice"),
        (
            lambda: Claims(things=(GroupClaim(kind="car", garments=(GarmentClaim("scarf", "red"),)),)),
            "a car wears no 'scarf'",
        ),
    ],
)
def test_a_claim_without_a_code_is_refused_by_name(claims: Callable[[], Claims], named: str):
    with pytest.raises(ValueError, match=named):
        encode_claims(claims())
