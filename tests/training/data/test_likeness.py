"""Equal pixels share a hash; copies in other sizes and formats are near; other pictures are not."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from tests.odd_pictures import drawing, encoded, with_alpha
from training.data import likeness
from training.data.likeness import PRINT_BYTES, look, near_pairs, pixel_hash


def pixels_of(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture)


def test_the_hash_follows_pixels_and_shape():
    pixels = pixels_of(drawing())
    assert pixel_hash(pixels) == pixel_hash(pixels.copy()) and len(pixel_hash(pixels)) == 64
    changed = pixels.copy()
    changed[5, 5, 1] ^= 1
    turned = np.ascontiguousarray(pixels.reshape(96, 64, 3))
    assert len({pixel_hash(pixels), pixel_hash(changed), pixel_hash(turned)}) == 3


@pytest.mark.parametrize("number", range(5))
def test_copies_are_near_and_others_are_not(number: int):
    original = drawing(200, 150, number=number)
    jpeg = Image.open(io.BytesIO(encoded(original, "JPEG", quality=60)))
    copies = [
        original,
        original.resize((100, 75)),
        jpeg,
        original.crop((1, 1, 199, 149)),
        ImageEnhance.Brightness(original).enhance(1.02),
    ]
    others = [drawing(200, 150, number=other) for other in range(100, 140)]
    prints = [look(pixels_of(one)) for one in [*copies, *others]]
    assert all(len(one) == PRINT_BYTES for one in prints)
    pairs = near_pairs(prints)
    assert set(pairs) >= {(0, 1), (0, 2), (0, 3), (0, 4)}
    assert all(other < 5 for _, other in pairs)


def test_the_same_shape_in_another_color_is_another_picture():
    disk = np.zeros((64, 64, 3), np.uint8)
    y, x = np.mgrid[:64, :64]
    inside = (x - 32) ** 2 + (y - 32) ** 2 < 500
    red, blue = disk.copy(), disk.copy()
    red[inside], blue[inside] = (110, 0, 0), (0, 40, 82)
    assert near_pairs([look(red), look(blue)]) == []
    assert near_pairs([look(red), look(red)]) == [(0, 1)]


def test_white_on_nothing_can_be_seen():
    white = with_alpha(Image.new("RGB", (64, 64), "white"))
    flipped = white.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert near_pairs([look(pixels_of(white)), look(pixels_of(flipped))]) == []


def test_the_search_gives_the_same_pairs_as_a_look_at_all_pairs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(likeness, "PAIRS_AT_ONCE", 1000)  # so that there are many rounds
    draws = np.random.default_rng(0)
    values = draws.integers(0, 256, (300, 192))
    for row in range(0, 300, 2):  # a neighbor that is up to 5 to 15 levels away
        values[row + 1] = (values[row] + draws.integers(-5 - row % 11, 6 + row % 11, 192)).clip(0, 255)
    distance = np.abs(values[:, None] - values[None]).max(-1)
    expected = sorted((i, j) for i, j in zip(*np.nonzero(distance <= 10), strict=True) if i < j)
    assert near_pairs([row.astype(np.uint8).tobytes() for row in values]) == expected
    assert 50 < len(expected) < 140


def test_many_equal_pictures_are_all_pairs():
    assert len(near_pairs([bytes(PRINT_BYTES)] * 60)) == 60 * 59 // 2


def test_no_pictures_have_no_pairs():
    assert near_pairs([]) == near_pairs([bytes(PRINT_BYTES)]) == []
