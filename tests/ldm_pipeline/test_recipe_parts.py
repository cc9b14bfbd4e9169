"""Small checked values: what unpacks is bounded, what is shown is one short line.

What a recipe does with them is test_recipe's matter.
"""

import base64
import zlib

import pytest

from ldm_pipeline.recipe_parts import GeneratorRecord, RecipeError, read_json, short, unpacked

NO_ZLIB = base64.b64encode(b"no zlib").decode()


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def test_a_generators_state_comes_back():
    state = bytes(range(256)) * 20
    record = GeneratorRecord.of_state(state, device="cpu", shared=False)
    assert record.state_bytes == state


@pytest.mark.parametrize(
    "text",
    ["", "!", "abc", packed(bytes(10_000)), packed(b"abc" * 100)[:12], NO_ZLIB],
    ids=["empty", "no base64", "odd", "bomb", "cut off", "no zlib"],
)
def test_what_does_not_unpack_is_one_line(text: str):
    with pytest.raises(ValueError) as caught:
        unpacked(text, largest=5_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["NaN", "[1e400]", "[-Infinity]", "[" * 100_000, "{", "9" * 100_000, "x" * 11]
)
def test_json_is_finite_shallow_and_short(text: str):
    with pytest.raises(RecipeError) as caught:
        read_json(text, largest=10 if text[0] == "x" else 10**6)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_anything_is_shown_in_one_short_line():
    assert short("a\n  b" * 1000) == ("a b" * 60)[:120]
    assert short(ValueError("x\ny")) == "x y"
