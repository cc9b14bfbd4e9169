"""Draws what stands in a street: a person with an umbrella, trees, lamps, benches.

Knows nothing of scenes; all coordinates are local: origin at the lower middle, y upward, unit = height.
"""

import math

from training.scenes.canvas import Pen, mix, shade
from training.scenes.scene import Thing
from training.scenes.shapes import (
    CREAM,
    INK,
    IRON,
    SNOW,
    WARM,
    WOOD,
    WOOD_DARK,
    Blob,
    Disk,
    blob,
    paint,
    paint_rim,
    smooth,
    tones_of,
)

COATS = ((74, 82, 104), (112, 116, 124), (176, 160, 136), (98, 88, 84), (92, 106, 116))
SKINS = ((240, 204, 178), (206, 158, 124), (140, 98, 74))
HAIRS = ((62, 48, 44), (112, 84, 62), (150, 146, 144), (44, 42, 48))
TROUSERS = (58, 60, 70)


def draw_umbrella(pen: Pen, thing: Thing, *, snow: bool) -> None:
    """A person under a big open umbrella."""
    coat = COATS[thing.variation % 5]
    skin, hair = SKINS[thing.variation // 5 % 3], HAIRS[thing.variation // 15 % 4]
    skirt = thing.variation // 60 % 2 == 1
    for x, foot in ((-0.055, -0.035), (0.045, 0.07)):
        pen.line([(x, 0.20), (x, 0.05)], 0.062, shade(TROUSERS, 1.0 if x < 0 else 0.85))
        paint(pen, Blob(((x - 0.035, 0.0), (foot + 0.04, 0.0), (foot + 0.03, 0.04), (x - 0.035, 0.055))), INK)
    hem = 0.16 if skirt else 0.12
    paint(pen, blob((-0.075, 0.515), (0.0, 0.53), (0.07, 0.515), (0.105, 0.44), (0.10, 0.30), (hem, 0.165),
                    (hem, 0.165), (0.0, 0.15), (-hem, 0.165), (-hem, 0.165), (-0.10, 0.30), (-0.11, 0.44)),
          coat)  # fmt: skip
    paint(pen, Blob(((0.02, 0.52), (0.07, 0.51), (0.105, 0.44), (0.10, 0.30), (hem, 0.165), (0.03, 0.155))),
          shade(coat, 0.84))  # fmt: skip
    pen.line([(-0.085, 0.47), (-0.105, 0.38), (-0.085, 0.29)], 0.055, shade(coat, 1.12))
    pen.ellipse(-0.083, 0.275, 0.024, 0.026, skin)
    pen.line([(0.075, 0.40), (0.075, 0.74)], 0.026, IRON)
    pen.line([(0.07, 0.48), (0.115, 0.40), (0.08, 0.425)], 0.05, shade(coat, 0.92))
    pen.ellipse(0.077, 0.435, 0.026, 0.026, skin)
    pen.ellipse(-0.008, 0.60, 0.075, 0.082, hair)
    if skirt:
        paint(pen, blob((-0.08, 0.63), (-0.02, 0.66), (-0.01, 0.56), (-0.04, 0.50), (-0.10, 0.51)), hair)
    pen.ellipse(0.006, 0.582, 0.06, 0.066, skin)
    paint(pen, blob((-0.07, 0.61), (-0.04, 0.67), (0.04, 0.67), (0.07, 0.62), (0.01, 0.635)), hair)
    pen.line([(-0.055, 0.515), (0.0, 0.505), (0.055, 0.515)], 0.045, mix(coat, CREAM, 0.55))
    _canopy(pen, thing)
    if snow:
        paint(
            pen,
            blob((-0.16, 0.915), (0.0, 0.985), (0.16, 0.915), (0.07, 0.93), (0.0, 0.915), (-0.09, 0.935)),
            SNOW,
        )


def _canopy(pen: Pen, thing: Thing) -> None:
    """The dome in five scalloped panels, with its dark inside below."""
    own = tones_of(thing.color)
    top, edge, rx = 0.965, 0.66, 0.345
    xs = [rx * f for f in (-1.0, -0.66, -0.24, 0.24, 0.66, 1.0)]
    rims: list[tuple[float, float]] = []
    for x0, x1 in zip(xs, xs[1:], strict=False):
        rims += pen.curve([(x0, edge), ((x0 + x1) / 2, edge + 0.055), (x1, edge)], steps=5)
    dome = [(rx * math.cos(a), edge + (top - edge) * math.sin(a)) for a in _half_circle()]
    outline = Blob((*dome, *rims))
    pen.line([(0.0, top - 0.02), (0.0, 0.985)], 0.03, IRON)
    paint_rim(pen, (outline,), own, width=0.016)
    pen.polygon([*rims, (rx * 0.9, edge + 0.02), (-rx * 0.9, edge + 0.02)], own.dark, part=own.part)
    fills = (own.light, own.base, own.light, own.base, own.dark)
    for (x0, x1), fill in zip(zip(xs, xs[1:], strict=False), fills, strict=True):
        scallop = pen.curve([(x0, edge), ((x0 + x1) / 2, edge + 0.055), (x1, edge)], steps=5)
        sides = [[(x * math.cos(a), edge + (top - edge) * math.sin(a)) for a in _quarter()] for x in (x1, x0)]
        pen.polygon([*scallop, *sides[0], *reversed(sides[1])], fill, part=own.part)


def draw_tree(pen: Pen, thing: Thing, *, snow: bool) -> None:
    """A tree: cloud-shaped, tall oval or fir, by its variation."""
    pen.polygon([(-0.05, 0.0), (0.05, 0.0), (0.035, 0.45), (-0.035, 0.45)], WOOD)
    pen.polygon([(0.01, 0.0), (0.05, 0.0), (0.035, 0.45), (0.01, 0.45)], WOOD_DARK)
    (_cloud_crown, _oval_crown, _fir_crown)[thing.variation % 3](pen, thing)
    if snow:
        cap = (
            (-0.17, 0.90),
            (-0.06, 0.985),
            (0.08, 0.985),
            (0.17, 0.90),
            (0.07, 0.92),
            (0.0, 0.89),
            (-0.08, 0.925),
        )
        if thing.variation % 3 == 2:
            cap = ((-0.09, 0.85), (-0.015, 0.985), (0.015, 0.985), (0.09, 0.85), (0.03, 0.875), (-0.03, 0.86))
        paint(pen, blob(*cap), SNOW)


def _cloud_crown(pen: Pen, thing: Thing) -> None:
    own = tones_of(thing.color)
    disks = (
        Disk(-0.17, 0.52, 0.155, 0.14), Disk(0.17, 0.52, 0.155, 0.14), Disk(0.0, 0.48, 0.17, 0.13),
        Disk(0.15, 0.70, 0.17, 0.16), Disk(-0.15, 0.71, 0.17, 0.16), Disk(0.0, 0.83, 0.19, 0.16),
    )  # fmt: skip
    paint_rim(pen, disks, own, width=0.016)
    for i, disk in enumerate(disks):
        paint(pen, disk, own.dark if i in (1, 2, 3) else own.base, part=own.part)
    for disk in (Disk(-0.02, 0.66, 0.20, 0.17), Disk(-0.07, 0.83, 0.12, 0.11), Disk(-0.19, 0.69, 0.10, 0.11)):
        paint(pen, disk, own.base if disk.rx == 0.20 else own.light, part=own.part)
    for x, y in ((-0.17, 0.52), (0.05, 0.58), (0.17, 0.74)):
        pen.ellipse(x, y, 0.06, 0.035, own.light if x < 0 else own.base, part=own.part)


def _oval_crown(pen: Pen, thing: Thing) -> None:
    own = tones_of(thing.color)
    outline = smooth(((0.0, 1.0), (0.17, 0.92), (0.28, 0.70), (0.25, 0.46), (0.12, 0.31), (-0.12, 0.31),
                      (-0.25, 0.46), (-0.28, 0.70), (-0.17, 0.92)))  # fmt: skip
    crown = Blob(outline)
    paint_rim(pen, (crown,), own, width=0.016)
    paint(pen, crown, own.base, part=own.part)
    inner = pen.curve([outline[22], (0.20, 0.40), (0.20, 0.80), outline[1]], steps=8)
    pen.polygon([*outline[1:23], *inner], own.dark, part=own.part)
    paint(pen, blob((-0.02, 0.96), (-0.15, 0.89), (-0.24, 0.70), (-0.22, 0.56), (-0.14, 0.68),
          (-0.09, 0.84)), own.light, part=own.part)  # fmt: skip
    pen.line([(0.0, 0.30), (0.0, 0.62)], 0.035, WOOD_DARK)
    pen.line([(0.0, 0.44), (0.09, 0.56)], 0.028, WOOD_DARK)
    pen.line([(0.0, 0.38), (-0.08, 0.48)], 0.028, WOOD_DARK)


def _fir_crown(pen: Pen, thing: Thing) -> None:
    own = tones_of(thing.color)
    tiers = tuple(
        (bottom, top, half)
        for bottom, top, half in ((0.16, 0.56, 0.33), (0.38, 0.78, 0.265), (0.60, 1.0, 0.19))
    )
    shapes = tuple(
        Blob(((-half, bottom), (0.0, bottom - 0.04), (half, bottom), (0.0, top)))
        for bottom, top, half in tiers
    )
    paint_rim(pen, shapes, own, width=0.016)
    for (bottom, top, half), shape in zip(tiers, shapes, strict=True):
        paint(pen, shape, own.base, part=own.part)
        pen.polygon([(half, bottom), (0.0, top), (0.04, bottom - 0.035)], own.dark, part=own.part)
        pen.polygon([(-half, bottom), (0.0, top), (-half * 0.55, bottom + 0.02)], own.light, part=own.part)


def draw_lamp(pen: Pen, thing: Thing, *, lit: bool, snow: bool) -> None:
    """A street lamp with a lantern."""
    own = tones_of(thing.color)
    base = Blob(((-0.085, 0.0), (0.085, 0.0), (0.075, 0.04), (0.045, 0.06), (0.04, 0.17), (-0.04, 0.17),
                 (-0.045, 0.06), (-0.075, 0.04)))  # fmt: skip
    post = Blob(((-0.032, 0.15), (0.032, 0.15), (0.027, 0.72), (-0.027, 0.72)))
    lantern = Blob(((-0.062, 0.70), (0.062, 0.70), (0.11, 0.90), (-0.11, 0.90)))
    cap = blob((-0.125, 0.895), (-0.125, 0.895), (-0.06, 0.955), (0.0, 0.985), (0.06, 0.955), (0.125, 0.895),
               (0.125, 0.895))  # fmt: skip
    paint_rim(pen, (base, post, lantern, cap), own, width=0.012)
    paint(pen, base, own.base, part=own.part)
    paint(pen, post, own.base, part=own.part)
    pen.polygon(
        [(0.008, 0.06), (0.044, 0.06), (0.032, 0.17), (0.027, 0.72), (0.008, 0.72)], own.dark, part=own.part
    )
    pen.line([(-0.085, 0.625), (0.085, 0.625)], 0.034, own.base, part=own.part)
    paint(pen, lantern, own.base, part=own.part)
    glass = (255, 244, 214) if lit else (238, 232, 214)
    pen.polygon([(-0.042, 0.735), (0.042, 0.735), (0.08, 0.885), (-0.08, 0.885)], glass,
                glow=shade(WARM, 1.25) if lit else None)  # fmt: skip
    pen.line([(0.0, 0.735), (0.0, 0.885)], 0.02, own.base, part=own.part)
    paint(pen, cap, own.base, part=own.part)
    pen.polygon([(-0.11, 0.905), (-0.055, 0.95), (0.0, 0.975), (0.0, 0.905)], own.light, part=own.part)
    pen.ellipse(0.0, 0.982, 0.022, 0.018, own.base, part=own.part)
    if snow:
        paint(pen, blob((-0.09, 0.94), (0.0, 1.0), (0.09, 0.94), (0.0, 0.955)), SNOW)


def draw_bench(pen: Pen, thing: Thing, *, snow: bool) -> None:
    """A park bench seen from the front."""
    own = tones_of(thing.color)
    for x in (-0.66, 0.66):
        pen.rectangle(x - 0.04, 0.05, x + 0.04, 0.955, IRON)
    slats = [Blob(((-0.90, y), (0.90, y), (0.90, y + 0.145), (-0.90, y + 0.145))) for y in (0.82, 0.64, 0.46)]
    seat = Blob(((-0.86, 0.40), (0.86, 0.40), (0.95, 0.20), (-0.95, 0.20)))
    paint_rim(pen, (*slats, seat), own, width=0.024)
    for slat, fill in zip(slats, (own.light, own.base, own.base), strict=True):
        paint(pen, slat, fill, part=own.part)
    paint(pen, seat, own.light, part=own.part)
    pen.line([(-0.89, 0.305), (0.89, 0.305)], 0.03, own.detail)
    pen.rectangle(-0.95, 0.19, 0.95, 0.26, own.dark, part=own.part)
    for x in (-0.80, 0.80):
        pen.rectangle(x - 0.05, 0.0, x + 0.05, 0.19, INK)
        pen.line([(x * 1.09, 0.24), (x * 1.09, 0.52), (x * 0.93, 0.55)], 0.06, IRON)
    if snow:
        paint(pen, blob((-0.88, 0.94), (-0.6, 1.02), (0.0, 0.985), (0.5, 1.02), (0.88, 0.94), (0.4, 0.93),
                        (0.1, 0.95), (-0.4, 0.92)), SNOW)  # fmt: skip


def _half_circle() -> list[float]:
    return [math.pi * i / 20 for i in range(21)]


def _quarter() -> list[float]:
    return [math.pi / 2 * i / 9 for i in range(10)]
