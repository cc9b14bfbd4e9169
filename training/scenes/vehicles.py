"""Draws cars, buses, bicycles, boats and balloons.

Knows nothing of scenes; all coordinates are local: origin at the lower middle, y upward, unit = height.
"""

import math

from training.scenes.canvas import Pen, mix, shade
from training.scenes.scene import Thing
from training.scenes.shapes import (
    CREAM,
    GLASS,
    GLASS_SHEEN,
    INK,
    IRON,
    SNOW,
    STEEL,
    TIRE,
    WARM,
    WOOD,
    WOOD_DARK,
    Blob,
    Stroke,
    blob,
    paint,
    paint_rim,
    tones_of,
)
from training.scenes.world import RGB

TAIL_LIGHT = (172, 96, 88)


def draw_car(pen: Pen, thing: Thing, *, lit: bool, snow: bool) -> None:
    """A small round car that drives to the right."""
    own = tones_of(thing.color)
    cabin = blob((-0.62, 0.50), (-0.55, 0.72), (-0.40, 0.93), (-0.20, 0.975), (0.12, 0.97), (0.30, 0.88),
                 (0.48, 0.62), (0.56, 0.50))  # fmt: skip
    body = blob((-0.94, 0.22), (-0.97, 0.40), (-0.92, 0.55), (-0.70, 0.615), (-0.30, 0.62), (0.35, 0.61),
                (0.72, 0.565), (0.93, 0.47), (0.975, 0.32), (0.94, 0.18), (0.94, 0.18), (0.0, 0.16),
                (-0.92, 0.17), (-0.92, 0.17))  # fmt: skip
    paint_rim(pen, (cabin, body), own, width=0.024)
    paint(pen, cabin, own.base, part=own.part)
    paint(pen, body, own.base, part=own.part)
    pen.polygon([(-0.95, 0.36), (0.97, 0.36), (0.95, 0.18), (-0.93, 0.17)], own.dark, part=own.part)
    paint(pen, blob((-0.90, 0.54), (-0.68, 0.60), (0.30, 0.60), (0.70, 0.55), (0.88, 0.48), (0.60, 0.50),
                    (0.0, 0.53), (-0.60, 0.53)), own.light, part=own.part)  # fmt: skip
    for window in (
        ((-0.50, 0.60), (-0.44, 0.76), (-0.33, 0.87), (-0.10, 0.88), (-0.10, 0.60)),
        ((-0.02, 0.60), (-0.02, 0.88), (0.14, 0.87), (0.25, 0.80), (0.40, 0.60)),
    ):
        pen.polygon(window, GLASS, glow=_glow(shade(WARM, 0.55), lit))
        (x0, y0), y1 = window[0], window[2][1]
        pen.line(
            [(x0 + 0.12, y0 + 0.04), (x0 + 0.21, y1 - 0.04)],
            0.045,
            GLASS_SHEEN,
            glow=_glow(shade(WARM, 0.6), lit),
        )
    pen.line([(-0.06, 0.58), (-0.06, 0.30)], 0.02, own.detail)
    pen.line([(-0.24, 0.48), (-0.14, 0.48)], 0.035, own.detail)
    pen.line([(-0.93, 0.21), (-0.80, 0.20)], 0.06, STEEL)
    pen.line([(0.82, 0.20), (0.94, 0.21)], 0.06, STEEL)
    pen.ellipse(0.885, 0.415, 0.065, 0.075, CREAM, glow=_glow((255, 240, 190), lit))
    pen.ellipse(-0.935, 0.43, 0.03, 0.06, TAIL_LIGHT, glow=_glow((200, 50, 40), lit))
    for x in (-0.55, 0.57):
        pen.pie(x, 0.20, 0.245, 0.25, 0, 180, own.detail)
        _wheel(pen, x, 0.195, 0.195)
    if snow:
        paint(
            pen,
            blob((-0.40, 0.94), (-0.20, 1.02), (0.10, 1.015), (0.24, 0.93), (0.05, 0.935), (-0.15, 0.925)),
            SNOW,
        )


def draw_bus(pen: Pen, thing: Thing, *, lit: bool, snow: bool) -> None:
    """A double-decker that drives to the right."""
    own = tones_of(thing.color)
    body = blob((-0.80, 0.13), (-0.80, 0.13), (-0.80, 0.90), (-0.74, 0.985), (-0.60, 0.99), (0.62, 0.99),
                (0.74, 0.97), (0.79, 0.86), (0.805, 0.50), (0.805, 0.13), (0.805, 0.13))  # fmt: skip
    paint_rim(pen, (body,), own, width=0.02)
    paint(pen, body, own.base, part=own.part)
    pen.polygon([(-0.79, 0.97), (-0.70, 0.985), (0.64, 0.985), (0.74, 0.96), (0.76, 0.925),
                (-0.79, 0.925)], own.light, part=own.part)  # fmt: skip
    pen.rectangle(-0.80, 0.13, 0.805, 0.22, own.dark, part=own.part)
    pen.rectangle(-0.80, 0.545, 0.80, 0.59, CREAM)
    warm = _glow(shade(WARM, 0.72), lit)
    for y0, y1, count in ((0.655, 0.86, 5), (0.335, 0.50, 4)):
        for i in range(count):
            x0 = -0.72 + i * 0.29
            pen.rectangle(x0, y0, x0 + 0.23, y1, GLASS, glow=warm)
            pen.polygon(
                [(x0 + 0.03, y0), (x0 + 0.10, y0), (x0 + 0.17, y1), (x0 + 0.10, y1)], GLASS_SHEEN, glow=warm
            )
    pen.rectangle(0.455, 0.19, 0.64, 0.50, shade(GLASS, 0.88), glow=warm)
    pen.line([(0.5475, 0.19), (0.5475, 0.50)], 0.025, own.detail)
    pen.polygon([(0.70, 0.335), (0.70, 0.50), (0.805, 0.50), (0.805, 0.335)], GLASS, glow=warm)
    pen.ellipse(0.765, 0.225, 0.04, 0.045, CREAM, glow=_glow((255, 240, 190), lit))
    for x in (-0.46, 0.26):
        pen.pie(x, 0.14, 0.185, 0.185, 0, 180, own.detail)
        _wheel(pen, x, 0.145, 0.145)
    if snow:
        paint(pen, blob((-0.72, 0.965), (-0.62, 1.02), (0.0, 1.01), (0.60, 1.02), (0.71, 0.965),
                        (0.35, 0.95), (0.1, 0.965), (-0.3, 0.945)), SNOW)  # fmt: skip


def draw_bicycle(pen: Pen, thing: Thing) -> None:
    """A city bicycle with mudguards and a basket."""
    own = tones_of(thing.color)
    rear, front, r = (-0.375, 0.33), (0.42, 0.33), 0.30
    for cx, cy in (rear, front):
        for k in range(4):
            a = math.pi * (k + 0.3) / 4
            dx, dy = r * math.cos(a), r * math.sin(a)
            pen.line([(cx - dx, cy - dy), (cx + dx, cy + dy)], 0.014, STEEL)
        circle = [
            (cx + r * math.cos(i * math.pi / 14), cy + r * math.sin(i * math.pi / 14)) for i in range(29)
        ]
        pen.line([*circle, circle[1]], 0.06, TIRE)
        inner = [(cx + (x - cx) * 0.86, cy + (y - cy) * 0.86) for x, y in circle]
        pen.line([*inner, inner[1]], 0.034, own.base, part=own.part)
    crank, saddle, steer = (-0.06, 0.30), (-0.20, 0.72), (0.27, 0.74)
    guards = [
        Stroke([(cx + 0.345 * math.cos(a), cy + 0.345 * math.sin(a)) for a in _arc(a0, a1)], 0.07)
        for (cx, cy), a0, a1 in ((rear, 60, 185), (front, 35, 140))
    ]
    tubes = [
        Stroke((rear, crank, steer), 0.092),
        Stroke((rear, (-0.165, 0.64), (0.255, 0.68)), 0.092),
        Stroke((saddle, crank), 0.092),
        Stroke(((0.24, 0.86), steer, front), 0.092),
    ]
    paint_rim(pen, (*guards, *tubes), own, width=0.024)
    for guard in guards:
        paint(pen, guard, own.dark, part=own.part)
    for tube in tubes:
        paint(pen, tube, own.base, part=own.part)
    pen.ellipse(*crank, 0.075, 0.075, own.base, part=own.part)
    pen.ellipse(*crank, 0.035, 0.035, IRON)
    pen.line([crank, (0.02, 0.19)], 0.04, IRON)
    pen.line([(-0.03, 0.18), (0.08, 0.18)], 0.05, IRON)
    for hub in (rear, front):
        pen.ellipse(*hub, 0.045, 0.045, IRON)
    paint(
        pen,
        blob((-0.36, 0.79), (-0.34, 0.72), (-0.20, 0.72), (-0.07, 0.745), (-0.08, 0.78), (-0.22, 0.79)),
        WOOD_DARK,
    )
    pen.polygon([(0.35, 0.88), (0.68, 0.88), (0.62, 0.64), (0.40, 0.64)], WOOD)
    pen.line([(0.37, 0.81), (0.66, 0.81)], 0.03, mix(WOOD, CREAM, 0.45))
    pen.line([(0.385, 0.72), (0.64, 0.72)], 0.03, mix(WOOD, CREAM, 0.45))
    pen.line(pen.curve([(0.245, 0.84), (0.26, 0.97), (0.14, 0.95), (0.06, 0.90)], steps=6), 0.05, IRON)
    pen.line([(0.11, 0.925), (0.04, 0.885)], 0.065, WOOD_DARK)


def draw_boat(pen: Pen, thing: Thing, *, lit: bool) -> None:
    """A sailing boat."""
    own = tones_of(thing.color)
    hull = blob((-0.55, 0.31), (-0.55, 0.31), (0.0, 0.275), (0.565, 0.35), (0.565, 0.35), (0.46, 0.14),
                (0.30, 0.0), (0.30, 0.0), (-0.38, 0.0), (-0.38, 0.0), (-0.49, 0.13))  # fmt: skip
    main = blob(
        (0.06, 0.97), (0.06, 0.97), (-0.22, 0.70), (-0.49, 0.40), (-0.49, 0.40), (0.06, 0.375), (0.06, 0.375)
    )
    jib = blob(
        (0.15, 0.87), (0.15, 0.87), (0.36, 0.64), (0.50, 0.42), (0.50, 0.42), (0.15, 0.40), (0.15, 0.40)
    )
    paint_rim(pen, (hull, main), own)
    pen.line([(0.10, 0.20), (0.10, 0.975)], 0.045, WOOD)
    paint(pen, jib, CREAM)
    pen.polygon([(0.15, 0.46), (0.15, 0.40), (0.50, 0.42), (0.475, 0.465)], shade(CREAM, 0.85))
    paint(pen, main, own.base, part=own.part)
    pen.polygon([(0.06, 0.97), (0.06, 0.375), (-0.10, 0.382), (-0.02, 0.70)], own.dark, part=own.part)
    pen.polygon([(0.06, 0.64), (0.06, 0.57), (-0.335, 0.57), (-0.275, 0.64)], CREAM)
    pen.line([(-0.52, 0.355), (0.10, 0.345)], 0.035, WOOD)
    paint(pen, hull, own.base, part=own.part)
    pen.polygon([(-0.475, 0.11), (0.44, 0.12), (0.30, 0.0), (-0.38, 0.0)], own.dark, part=own.part)
    pen.polygon(
        [(-0.55, 0.31), (0.0, 0.277), (0.565, 0.35), (0.545, 0.30), (0.0, 0.23), (-0.54, 0.262)], CREAM
    )
    for x in (-0.26, -0.04, 0.18):
        pen.ellipse(x, 0.165, 0.042, 0.042, GLASS, glow=_glow(WARM, lit))
    pen.ellipse(0.10, 0.965, 0.03, 0.03, CREAM, glow=_glow((255, 240, 190), lit))


def draw_balloon(pen: Pen, thing: Thing, *, lit: bool) -> None:
    """A hot-air balloon with a wicker basket."""
    own = tones_of(thing.color)

    def gore(left: float, right: float) -> Blob:
        """The part of the envelope between two shares of its half width."""
        half = (
            (0.0, 1.0),
            (0.20, 0.965),
            (0.325, 0.85),
            (0.355, 0.69),
            (0.30, 0.53),
            (0.19, 0.38),
            (0.10, 0.27),
        )
        return blob(*((x * right, y) for x, y in half), *((x * left, y) for x, y in reversed(half[1:])))

    ropes = ((-0.095, 0.27, -0.07, 0.14), (0.095, 0.27, 0.07, 0.14))
    paint_rim(pen, (gore(-1.0, 1.0),), own, width=0.015)
    for x0, y0, x1, y1 in ropes:
        pen.line([(x0, y0), (x1, y1)], 0.016, WOOD_DARK)
    pen.polygon(
        [(-0.025, 0.20), (0.025, 0.20), (0.0, 0.27)], (236, 190, 120), glow=_glow((255, 190, 90), lit)
    )
    glow = _glow(shade(own.base, 0.42 if thing.color != "black" else 0.9), lit)
    for left, right, fill in (
        (-1.0, 1.0, own.dark), (-1.0, 0.64, own.base), (-0.64, 0.64, own.light), (-0.22, 0.64, own.base),
        (0.22, 0.64, mix(own.base, own.dark, 0.5)),
    ):  # fmt: skip
        paint(pen, gore(left, right), fill, part=own.part, glow=glow)
    low, high = [
        pen.curve([(-w, y), (0.0, y - 0.05), (w, y)], steps=6) for y, w in ((0.49, 0.275), (0.55, 0.31))
    ]
    pen.polygon([*low, *reversed(high)], CREAM, glow=_glow(shade(WARM, 0.5), lit))
    pen.polygon(
        [(-0.105, 0.30), (0.105, 0.30), (0.09, 0.245), (-0.09, 0.245)],
        CREAM,
        glow=_glow(shade(WARM, 0.8), lit),
    )
    pen.polygon([(-0.10, 0.155), (0.10, 0.155), (0.08, 0.0), (-0.08, 0.0)], WOOD)
    pen.line([(-0.10, 0.15), (0.10, 0.15)], 0.03, mix(WOOD, CREAM, 0.4))
    pen.line([(-0.08, 0.075), (0.08, 0.075)], 0.018, WOOD_DARK)


def _glow(color: RGB, lit: bool) -> RGB | None:
    return color if lit else None


def _arc(start: float, end: float) -> list[float]:
    return [math.radians(start + (end - start) * i / 10) for i in range(11)]


def _wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.ellipse(x, y, radius, radius, TIRE)
    pen.ellipse(x, y, radius * 0.55, radius * 0.55, STEEL)
    pen.ellipse(x, y, radius * 0.22, radius * 0.22, INK)
