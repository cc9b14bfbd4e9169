"""Draws dogs, cats and birds, and the garments that dogs and cats wear.

Knows nothing of scenes; all coordinates are local: origin at the lower middle, y upward, unit = height.
"""

from training.scenes.canvas import Pen
from training.scenes.scene import Thing
from training.scenes.shapes import (
    CREAM,
    INK,
    WOOD,
    Blob,
    Stroke,
    Tones,
    blob,
    paint,
    paint_rim,
    tones_of,
)

DARK_FURS = ("black", "blue", "purple")
NOSE = (58, 50, 54)
PINK = (206, 158, 150)
BEAK = (196, 152, 92)


def draw_dog(pen: Pen, thing: Thing) -> None:
    """A dog in profile, standing, its tail up."""
    fur = tones_of(thing.color)
    worn = _worn(thing)
    own = fur.part
    far = (
        blob(
            (-0.30, 0.40),
            (-0.16, 0.38),
            (-0.15, 0.10),
            (-0.09, 0.05),
            (-0.10, 0.0),
            (-0.24, 0.0),
            (-0.25, 0.15),
        ),
        blob((0.10, 0.40), (0.24, 0.38), (0.26, 0.10), (0.32, 0.05), (0.31, 0.0), (0.17, 0.0), (0.15, 0.15)),
    )
    curls = thing.variation % 2
    tip = ((-0.57, 0.62), (-0.54, 0.92)) if curls else ((-0.52, 0.62), (-0.48, 0.95))
    tail = Stroke(pen.curve([(-0.36, 0.52), *tip], steps=12), 0.09)
    body = blob((0.20, 0.64), (0.02, 0.60), (-0.20, 0.585), (-0.38, 0.55), (-0.45, 0.42), (-0.34, 0.31),
                (-0.10, 0.30), (0.10, 0.27), (0.23, 0.34), (0.29, 0.50))  # fmt: skip
    hind = blob((-0.44, 0.48), (-0.30, 0.53), (-0.17, 0.40), (-0.25, 0.24), (-0.27, 0.11), (-0.21, 0.06),
                (-0.22, 0.0), (-0.38, 0.0), (-0.39, 0.14), (-0.42, 0.26))  # fmt: skip
    front = blob(
        (-0.02, 0.40), (0.19, 0.40), (0.14, 0.12), (0.20, 0.06), (0.19, 0.0), (0.03, 0.0), (0.02, 0.14)
    )
    head = blob((0.11, 0.76), (0.19, 0.875), (0.31, 0.885), (0.39, 0.80), (0.46, 0.765), (0.55, 0.74),
                (0.565, 0.66), (0.50, 0.60), (0.38, 0.585), (0.28, 0.52), (0.13, 0.58))  # fmt: skip
    paint_rim(pen, (tail, *far, body, hind, front, head), fur)
    for leg in far:
        paint(pen, leg, fur.dark, part=own)
    paint(pen, tail, fur.base, part=own)
    paint(pen, body, fur.base, part=own)
    paint(pen, blob((0.12, 0.595), (-0.20, 0.57), (-0.37, 0.53), (-0.30, 0.49), (-0.05, 0.53), (0.10, 0.55)),
          fur.light, part=own)  # fmt: skip
    paint(pen, hind, fur.base, part=own)
    pen.line([(-0.17, 0.40), (-0.21, 0.31), (-0.25, 0.24)], 0.02, fur.dark, part=own)
    paint(pen, front, fur.base, part=own)
    if sweater := worn.get("turtleneck"):
        _dog_sweater(pen, sweater)
    paint(pen, head, fur.base, part=own)
    paint(pen, blob((0.20, 0.855), (0.30, 0.87), (0.38, 0.79), (0.47, 0.75), (0.36, 0.75),
          (0.24, 0.80)), fur.light, part=own)  # fmt: skip
    pen.line([(0.545, 0.65), (0.49, 0.63), (0.44, 0.635), (0.405, 0.67)], 0.02, fur.detail)
    pen.ellipse(0.54, 0.725, 0.036, 0.034, NOSE if thing.color != "black" else (112, 104, 108))
    if thing.color in DARK_FURS:
        pen.ellipse(0.355, 0.765, 0.044, 0.044, CREAM)
    pen.ellipse(0.36, 0.765, 0.03, 0.034, INK)
    pen.ellipse(0.35, 0.777, 0.011, 0.011, (255, 255, 255))
    if sweater:
        _band(pen, sweater, ((0.08, 0.665), (0.17, 0.59), (0.31, 0.535)), 0.13)
    elif scarf := worn.get("scarf"):
        _scarf_end(pen.at(0.245, 0.56), scarf)
        _band(pen, scarf, ((0.07, 0.655), (0.17, 0.585), (0.32, 0.54)), 0.135)
    else:
        pen.line([(0.09, 0.625), (0.18, 0.565), (0.285, 0.525)], 0.055, WOOD)
        pen.ellipse(0.265, 0.485, 0.034, 0.034, CREAM)
    if thing.variation % 3 == 0 or "scarf" in worn or "turtleneck" in worn:
        ear = blob((0.10, 0.85), (0.20, 0.88), (0.27, 0.80), (0.27, 0.68), (0.21, 0.63), (0.15, 0.70))
    else:
        ear = blob(
            (0.20, 0.865), (0.09, 0.82), (0.03, 0.68), (0.05, 0.55), (0.13, 0.53), (0.20, 0.63), (0.26, 0.78)
        )
    paint_rim(pen, (ear,), fur, width=0.012)
    paint(pen, ear, fur.dark, part=own)
    if beret := worn.get("beret"):
        _beret(pen.at(0.23, 0.835), beret)


def draw_cat(pen: Pen, thing: Thing) -> None:
    """A sitting cat that looks at us, its tail in a long curve."""
    fur = tones_of(thing.color)
    worn = _worn(thing)
    own = fur.part
    bend = 0.02 * (thing.variation % 3)
    tail = Stroke(
        pen.curve([(0.10, 0.06), (0.62, -0.02), (0.44, 0.36), (0.22 + bend, 0.56), (0.43, 0.74)], steps=20),
        0.1,
    )
    body = blob((-0.06, 0.62), (0.09, 0.56), (0.16, 0.36), (0.24, 0.16), (0.20, 0.01), (-0.06, 0.0),
                (-0.32, 0.01), (-0.36, 0.16), (-0.28, 0.36), (-0.21, 0.56))  # fmt: skip
    head = blob((-0.06, 0.885), (0.10, 0.855), (0.20, 0.72), (0.13, 0.56), (-0.06, 0.51), (-0.25, 0.56),
                (-0.32, 0.72), (-0.22, 0.855))  # fmt: skip
    left = blob(
        (-0.315, 0.70), (-0.325, 0.86), (-0.315, 0.985), (-0.315, 0.985), (-0.20, 0.92), (-0.08, 0.84)
    )
    right = blob((0.195, 0.70), (0.205, 0.86), (0.195, 0.985), (0.195, 0.985), (0.08, 0.92), (-0.04, 0.84))
    paint_rim(pen, (tail, body, head, left, right), fur)
    paint(pen, tail, fur.dark, part=own)
    paint(pen, body, fur.base, part=own)
    paint(pen, blob((0.05, 0.50), (0.16, 0.34), (0.24, 0.16), (0.20, 0.01), (0.04, 0.0), (0.06, 0.14),
          (0.13, 0.22)), fur.dark, part=own)  # fmt: skip
    if sweater := worn.get("turtleneck"):
        _cat_sweater(pen, sweater)
    for x in (-0.13, 0.01):
        if not sweater:
            paint(pen, Stroke(((x, 0.34), (x, 0.06)), 0.11), fur.light if x < 0 else fur.base, part=own)
        pen.ellipse(x, 0.055, 0.075, 0.055, fur.light if x < 0 else fur.base, part=own)
    pen.line([(-0.06, 0.36 if not sweater else 0.12), (-0.06, 0.04)], 0.02, fur.detail)
    paint(pen, left, fur.base, part=own)
    paint(pen, right, fur.dark, part=own)
    pen.polygon([(-0.275, 0.78), (-0.285, 0.92), (-0.15, 0.85)], PINK)
    pen.polygon([(0.155, 0.78), (0.165, 0.92), (0.03, 0.85)], PINK)
    paint(pen, head, fur.base, part=own)
    paint(pen, blob((-0.06, 0.87), (-0.21, 0.84), (-0.30, 0.72), (-0.26, 0.62), (-0.21, 0.74), (-0.12, 0.82)),
          fur.light, part=own)  # fmt: skip
    for x in (-0.165, 0.045):
        pen.ellipse(x, 0.715, 0.052, 0.058, CREAM)
        pen.ellipse(x + 0.004, 0.713, 0.034, 0.052, INK)
        pen.ellipse(x - 0.01, 0.737, 0.013, 0.013, (255, 255, 255))
    pen.polygon([(-0.095, 0.655), (-0.025, 0.655), (-0.06, 0.615)], PINK if thing.color != "red" else NOSE)
    pen.line(
        [(-0.12, 0.602), (-0.095, 0.583), (-0.06, 0.605), (-0.025, 0.583), (0.0, 0.602)], 0.016, fur.detail
    )
    whisker = (96, 98, 108) if thing.color in ("white", "yellow") else (236, 232, 222)
    for side in (-1, 1):
        for end_y in (0.665, 0.595):
            pen.line([(-0.06 + side * 0.12, 0.63), (-0.06 + side * 0.33, end_y)], 0.014, whisker)
    if sweater:
        _band(pen, sweater, ((-0.22, 0.53), (-0.06, 0.475), (0.10, 0.53)), 0.12)
    elif scarf := worn.get("scarf"):
        _scarf_end(pen.at(0.03, 0.48), scarf)
        _band(pen, scarf, ((-0.24, 0.545), (-0.06, 0.475), (0.12, 0.545)), 0.13)
    if beret := worn.get("beret"):
        _beret(pen.at(-0.10, 0.84), beret)


def draw_bird(pen: Pen, thing: Thing) -> None:
    """A bird in flight, wings up."""
    own = tones_of(thing.color)
    far = blob((0.02, 0.42), (0.10, 0.70), (0.30, 0.96), (0.40, 0.99), (0.36, 0.70), (0.26, 0.44))
    tail = Blob(((-0.30, 0.34), (-0.69, 0.44), (-0.66, 0.30), (-0.70, 0.16), (-0.30, 0.20)))
    body = blob((-0.36, 0.30), (-0.10, 0.42), (0.20, 0.46), (0.34, 0.55), (0.48, 0.53), (0.55, 0.42),
                (0.50, 0.30), (0.34, 0.14), (0.08, 0.04), (-0.18, 0.12))  # fmt: skip
    near = blob((0.22, 0.34), (0.20, 0.52), (0.06, 0.78), (-0.20, 0.97), (-0.36, 0.99), (-0.38, 0.86),
                (-0.34, 0.72), (-0.30, 0.58), (-0.22, 0.42), (-0.06, 0.26), (0.12, 0.24))  # fmt: skip
    paint_rim(pen, (far, tail, body, near), own, width=0.028)
    paint(pen, far, own.dark, part=own.part)
    paint(pen, tail, own.dark, part=own.part)
    pen.polygon([(0.49, 0.50), (0.71, 0.40), (0.50, 0.32)], BEAK)
    paint(pen, body, own.base, part=own.part)
    paint(pen, near, own.light, part=own.part)
    for x0, y0, x1, y1 in ((-0.36, 0.84, -0.10, 0.66), (-0.31, 0.66, -0.06, 0.52)):
        pen.line([(x0, y0), (x1, y1)], 0.03, own.dark, part=own.part)
    if thing.color in DARK_FURS:
        pen.ellipse(0.42, 0.44, 0.055, 0.055, CREAM)
    pen.ellipse(0.42, 0.44, 0.038, 0.042, INK)


def _worn(thing: Thing) -> dict[str, Tones]:
    return {g.kind: tones_of(g.color, part=2 + i) for i, g in enumerate(thing.garments)}


def _band(pen: Pen, tones: Tones, points: tuple[tuple[float, float], ...], width: float) -> None:
    """A rolled collar or a scarf around the neck."""
    curve = pen.curve(points, steps=6)
    paint_rim(pen, (Stroke(curve, width),), tones, width=0.014)
    pen.line(curve, width, tones.base, part=tones.part)
    pen.line([(x, y + width * 0.2) for x, y in curve], width * 0.35, tones.light, part=tones.part)


def _scarf_end(pen: Pen, tones: Tones) -> None:
    end = Blob(((-0.065, 0.0), (0.075, 0.0), (0.11, -0.30), (-0.055, -0.30)))
    paint_rim(pen, (end,), tones, width=0.014)
    paint(pen, end, tones.dark, part=tones.part)
    pen.polygon(
        [(-0.059, -0.18), (0.096, -0.18), (0.102, -0.235), (-0.057, -0.235)], tones.light, part=tones.part
    )


def _beret(pen: Pen, tones: Tones) -> None:
    """About 0.44 wide and 0.16 high, hanging over to the left, with its little stalk."""
    cap = blob((-0.20, -0.05), (-0.245, 0.03), (-0.16, 0.115), (0.0, 0.135), (0.14, 0.10), (0.19, 0.04),
               (0.15, 0.01), (0.0, -0.01))  # fmt: skip
    stalk = Stroke(((-0.03, 0.12), (-0.02, 0.15)), 0.03)
    paint_rim(pen, (cap,), tones, width=0.014)
    paint(pen, stalk, tones.base, part=tones.part)
    paint(pen, cap, tones.base, part=tones.part)
    paint(pen, blob((-0.20, 0.05), (-0.14, 0.10), (0.0, 0.12), (0.08, 0.10), (-0.04, 0.08), (-0.14, 0.04)),
          tones.light, part=tones.part)  # fmt: skip
    pen.line([(-0.19, -0.035), (0.0, 0.002), (0.15, 0.025)], 0.03, tones.dark, part=tones.part)


def _dog_sweater(pen: Pen, tones: Tones) -> None:
    torso = blob((0.10, 0.68), (-0.06, 0.61), (-0.26, 0.595), (-0.29, 0.44), (-0.25, 0.29), (-0.08, 0.275),
                 (0.10, 0.25), (0.24, 0.33), (0.31, 0.50), (0.28, 0.60))  # fmt: skip
    sleeve = Blob(((-0.03, 0.40), (0.20, 0.40), (0.165, 0.17), (0.0, 0.17)))
    paint_rim(pen, (torso, sleeve), tones, width=0.014)
    paint(pen, torso, tones.base, part=tones.part)
    pen.line([(-0.255, 0.575), (-0.275, 0.44), (-0.245, 0.315)], 0.05, tones.dark, part=tones.part)
    paint(pen, sleeve, tones.base, part=tones.part)
    pen.line([(0.02, 0.19), (0.15, 0.19)], 0.05, tones.dark, part=tones.part)
    pen.line([(-0.02, 0.38), (0.0, 0.24)], 0.02, tones.dark, part=tones.part)
    for x in (-0.17, -0.08):
        pen.line([(x, 0.55), (x - 0.01, 0.33)], 0.022, tones.light, part=tones.part)


def _cat_sweater(pen: Pen, tones: Tones) -> None:
    torso = blob((-0.06, 0.60), (0.10, 0.55), (0.18, 0.36), (0.225, 0.22), (0.16, 0.15), (-0.06, 0.125),
                 (-0.28, 0.15), (-0.345, 0.22), (-0.30, 0.36), (-0.22, 0.55))  # fmt: skip
    paint_rim(pen, (torso,), tones, width=0.014)
    paint(pen, torso, tones.base, part=tones.part)
    paint(pen, blob((0.06, 0.50), (0.17, 0.36), (0.215, 0.22), (0.14, 0.16), (0.10, 0.30)), tones.dark,
          part=tones.part)  # fmt: skip
    for x in (-0.2, -0.06):
        pen.line([(x, 0.42), (x - 0.01, 0.22)], 0.022, tones.light, part=tones.part)
    pen.line([(-0.30, 0.19), (-0.18, 0.155), (-0.06, 0.145), (0.06, 0.155), (0.18, 0.19)], 0.05, tones.dark,
             part=tones.part)  # fmt: skip
