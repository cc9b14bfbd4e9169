"""The drawings of things: inside their box, in their own color, dressed, lit and the same every time."""

from dataclasses import replace

import numpy as np
import pytest

from training.scenes.canvas import OWN, Canvas, Layers
from training.scenes.scene import Garment, Thing
from training.scenes.things import draw_thing
from training.scenes.world import COLORS, GARMENTS, KINDS

UNIT = 100
MARGIN = 30
MINIMUM_OWN_SHARE = {"bicycle": 0.33, "umbrella": 0.45, "bus": 0.45, "lamp": 0.55, "boat": 0.5, "car": 0.5}
"""Share of the drawn area that shows the own color; 0.6 for kinds not named."""
LIT_KINDS = {"car", "bus", "lamp", "boat", "balloon"}
CAPPED_KINDS = {"umbrella", "car", "bus", "tree", "lamp", "bench"}


def thing_of(kind: str, color: str, *, variation: int = 0, garments: tuple[Garment, ...] = ()) -> Thing:
    return Thing(kind=kind, color=color, side="left", group=0, x=500, y=900, height=KINDS[kind].height,
                 mirrored=False, garments=garments, variation=variation)  # fmt: skip


def drawn(thing: Thing, *, lit: bool = False, snow: bool = False, mirrored: bool = False) -> Layers:
    width = round(UNIT * KINDS[thing.kind].width / KINDS[thing.kind].height)
    canvas = Canvas(width + 2 * MARGIN, UNIT + 2 * MARGIN, supersample=2)
    pen = canvas.pen(MARGIN + width / 2, MARGIN + UNIT, UNIT, mirrored=mirrored)
    draw_thing(pen, thing, lit=lit, snow=snow)
    return canvas.layers()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fills_its_box_and_stays_inside(kind: str):
    for variation in range(3):
        rows, columns = np.nonzero(drawn(thing_of(kind, "black", variation=variation)).alpha > 0.1)
        width = round(UNIT * KINDS[kind].width / KINDS[kind].height)
        tolerance = 4
        assert MARGIN - tolerance <= rows.min() <= MARGIN + 8
        assert MARGIN + UNIT - 8 <= rows.max() + 1 <= MARGIN + UNIT + tolerance
        assert columns.min() >= MARGIN - tolerance
        assert columns.max() + 1 <= MARGIN + width + tolerance
        assert columns.max() - columns.min() >= 0.75 * width


@pytest.mark.parametrize("kind", KINDS)
def test_the_own_color_dominates_and_is_nearest_to_its_name(kind: str):
    for variation, color in enumerate(COLORS):
        layers = drawn(thing_of(kind, color, variation=variation))
        own = layers.parts[OWN]
        assert own.sum() >= MINIMUM_OWN_SHARE.get(kind, 0.6) * layers.alpha.sum(), color
        inside = own > 0.99
        mean = layers.color[inside].mean(axis=0) * 255
        distances = {name: float(np.linalg.norm(mean - np.array(rgb))) for name, rgb in COLORS.items()}
        assert min(distances, key=lambda name: distances[name]) == color
        assert distances[color] < 26


@pytest.mark.parametrize("kind", KINDS)
def test_other_parts_are_neutral(kind: str):
    layers = drawn(thing_of(kind, "white"))
    colors = layers.color[layers.alpha > 0.99]
    chroma = colors.max(axis=1) - colors.min(axis=1)
    assert float((chroma > 0.45).mean()) < 0.01


@pytest.mark.parametrize("kind", ["dog", "cat"])
@pytest.mark.parametrize("name", GARMENTS)
def test_garments_are_large_and_in_their_own_color(kind: str, name: str):
    minimum = {"beret": 0.07, "scarf": 0.08, "turtleneck": 0.20}[name]
    for variation in range(4):
        layers = drawn(thing_of(kind, "white", variation=variation, garments=(Garment(name, "blue"),)))
        part = layers.parts[2]
        assert part.sum() >= minimum * layers.alpha.sum()
        assert np.linalg.norm(layers.color[part > 0.99].mean(axis=0) * 255 - np.array(COLORS["blue"])) < 26
        assert layers.parts[OWN].sum() >= 0.3 * layers.alpha.sum()


@pytest.mark.parametrize("kind", ["dog", "cat"])
def test_garments_are_labelled_in_the_order_they_are_worn(kind: str):
    worn = (Garment("beret", "red"), Garment("turtleneck", "black"))
    layers = drawn(thing_of(kind, "yellow", garments=worn))
    rows = {part: float(np.nonzero(layers.parts[part] > 0.5)[0].mean()) for part in (2, 3)}
    assert rows[2] < rows[3]
    assert layers.parts[3].sum() > layers.parts[2].sum()


@pytest.mark.parametrize("kind", KINDS)
def test_only_lit_lamps_and_windows_give_off_light(kind: str):
    assert drawn(thing_of(kind, "red")).glow.max() == 0
    assert (drawn(thing_of(kind, "red"), lit=True).glow.max() > 0.3) == (kind in LIT_KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_snow_caps_are_white_and_small(kind: str):
    bare, snowy = drawn(thing_of(kind, "red")), drawn(thing_of(kind, "red"), snow=True)
    white = [float((layers.color.min(axis=2) > 0.95).sum()) for layers in (bare, snowy)]
    assert (white[1] > white[0]) == (kind in CAPPED_KINDS)
    assert snowy.parts[OWN].sum() >= 0.85 * bare.parts[OWN].sum()


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_is_pure_and_mirrors(kind: str):
    thing = thing_of(kind, "green", variation=5)
    first, again, mirrored = drawn(thing), drawn(thing), drawn(thing, mirrored=True)
    assert np.array_equal(first.color, again.color)
    assert np.array_equal(first.alpha, again.alpha)
    assert float(np.abs(first.alpha - mirrored.alpha[:, ::-1]).mean()) < 0.02


def test_variation_changes_trees_coats_and_ears():
    for kind in ("tree", "umbrella", "dog"):
        pictures = [drawn(thing_of(kind, "green", variation=variation)).color for variation in range(3)]
        assert not np.array_equal(pictures[0], pictures[1])


def test_an_unknown_kind_is_named_in_the_error():
    dragon = replace(thing_of("dog", "red"), kind="dragon")
    with pytest.raises(ValueError, match="thing.kind: 'dragon' is unknown"):
        draw_thing(Canvas(8, 8).pen(4, 8, 8), dragon, lit=False, snow=False)
