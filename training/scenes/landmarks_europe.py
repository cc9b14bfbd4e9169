"""Landmarks of northern Europe: the Eiffel Tower, Big Ben, the Brandenburg Gate and Saint Basil's.

Knows nothing of weather, time or where the landmark stands in the picture.
"""

import math

from training.scenes.canvas import Pen, Point, shade
from training.scenes.masonry import (
    FLOODLIGHT,
    LIT,
    ONION,
    SNOW,
    arch,
    bushes,
    column,
    half_width,
    ledge,
    roof,
    spire,
    turned,
    wall,
    windows,
)
from training.scenes.world import RGB

IRON: RGB = (150, 98, 62)
IRON_LIGHT: RGB = (206, 150, 98)
IRON_SHADE: RGB = (112, 70, 48)
IRON_GLOW: RGB = (170, 104, 30)


def paris(pen: Pen, *, variation: int, snow: bool) -> None:
    """The Eiffel Tower between boulevard houses."""
    for x, side in ((-0.95, 0), (-0.71, 1), (-0.52, 2), (0.36, 3), (0.55, 4), (0.77, 5)):
        _boulevard_house(pen, x, 0.19 + (side % 2) * 0.03, variation + side, snow)
    for side in (-1, 1):
        _tower_legs(pen, side)
    rim = [
        (0.168 * math.cos(math.radians(a)), 0.02 + 0.18 * math.sin(math.radians(a)))
        for a in range(0, 181, 12)
    ]
    inner = [(x * 0.87, 0.02 + (y - 0.02) * 0.87) for x, y in reversed(rim)]
    pen.polygon([*rim, *inner], IRON_LIGHT, glow=LIT)
    for y, half, height in ((0.205, 0.19, 0.04), (0.43, 0.11, 0.034), (0.865, 0.036, 0.026)):
        pen.rectangle(-half, y, half, y + height, IRON, glow=IRON_GLOW)
        pen.rectangle(-half, y + height * 0.5, half, y + height, IRON_LIGHT, glow=LIT)
        pen.rectangle(half * 0.45, y, half, y + height * 0.5, IRON_SHADE, glow=IRON_GLOW)
        if snow:
            pen.rectangle(-half, y + height * 0.7, half, y + height + 0.014, SNOW)
    pen.rectangle(-0.02, 0.89, 0.02, 0.915, IRON)
    pen.pie(0, 0.912, 0.026, 0.024, 0, 180, SNOW if snow else IRON_LIGHT, glow=LIT)
    pen.line([(0, 0.93), (0, 1.0)], 0.012, IRON)
    pen.ellipse(0, 0.945, 0.012, 0.012, IRON_LIGHT, glow=(255, 255, 220))
    bushes(pen, [(-0.36, 0.07), (-0.27, 0.045), (0.3, 0.06), (0.38, 0.045)], (92, 138, 70), snow=snow)


def _tower_legs(pen: Pen, side: int) -> None:
    """The left (-1) or right (1) half of the tower: three tapering pieces with a lattice."""
    body = IRON if side < 0 else IRON_SHADE
    strut = IRON_LIGHT if side < 0 else IRON

    def along(points: list[Point], steps: int) -> list[Point]:
        return [(side * x, y) for x, y in pen.curve(points, steps=steps)]

    pieces = (
        ([(0.285, 0.0), (0.215, 0.11), (0.165, 0.21)], [(0.172, 0.0), (0.125, 0.11), (0.095, 0.21)], 3),
        ([(0.155, 0.24), (0.11, 0.33), (0.088, 0.435)], [(0.082, 0.24), (0.052, 0.33), (0.036, 0.435)], 3),
        ([(0.08, 0.46), (0.032, 0.6), (0.022, 0.87)], [(0.034, 0.46), (0.0, 0.56), (0.0, 0.87)], 6),
    )
    for outer, inner, steps in pieces:
        a, b = along(outer, steps), along(inner, steps)
        pen.polygon([*a, *reversed(b)], body, glow=IRON_GLOW)
        for i in range(steps):
            pen.line([a[i], b[i + 1]], 0.009, strut, glow=LIT)
            if steps == 3:
                pen.line([b[i], a[i + 1]], 0.009, strut, glow=LIT)
        pen.line(a, 0.012, IRON_LIGHT if side < 0 else IRON, glow=LIT)
    wide = 0.292 if side < 0 else 0.292
    pen.rectangle(side * 0.165, 0, side * wide, 0.022, (196, 182, 160))


def _boulevard_house(pen: Pen, x: float, height: float, variation: int, snow: bool) -> None:
    walls: tuple[RGB, ...] = ((240, 226, 200), (232, 212, 184), (246, 236, 216))
    width = 0.19 + (variation % 3) * 0.012
    wall(pen, x, 0, x + width, height, walls[variation % 3], dark=0.87)
    windows(pen, x, 0.01, x + width, height, 3, 2, (120, 120, 132), fullness=0.42, variation=variation)
    ledge(pen, x - 0.008, x + width + 0.008, height - 0.005, 0.016, (214, 196, 166), snow=snow)
    roof(pen, x, x + width, height + 0.01, height + 0.075, (98, 112, 134), inset=0.025, snow=snow)


STONE: RGB = (226, 184, 112)
SLATE: RGB = (74, 92, 104)


def london(pen: Pen, *, variation: int, snow: bool) -> None:
    """Big Ben with the Houses of Parliament and Westminster Bridge."""
    _westminster_bridge(pen, snow)
    _parliament(pen, variation, snow)
    x, half = 0.14, 0.092
    wall(pen, x - half, 0, x + half, 0.64, STONE, dark=0.74)
    for k in range(4):
        wx = x - half + 0.032 + k * 0.04
        pen.rectangle(wx, 0.05, wx + 0.015, 0.6, (150, 108, 62), glow=(80, 54, 20))
    for y in (0.19, 0.34, 0.49):
        pen.rectangle(x - half, y, x + half, y + 0.022, shade(STONE, 1.25))
    ledge(pen, x - half - 0.018, x + half + 0.018, 0.62, 0.03, shade(STONE, 1.3), snow=snow)
    wall(pen, x - half - 0.01, 0.65, x + half + 0.01, 0.815, STONE, dark=0.78)
    pen.ellipse(x, 0.732, 0.084, 0.084, (150, 106, 46))
    pen.ellipse(x, 0.732, 0.07, 0.07, (252, 248, 232), glow=(255, 240, 190))
    pen.line([(x, 0.732), (x, 0.783)], 0.014, (40, 44, 60))
    pen.line([(x, 0.732), (x + 0.032, 0.714)], 0.016, (40, 44, 60))
    ledge(pen, x - half - 0.024, x + half + 0.024, 0.812, 0.024, shade(STONE, 1.3), snow=snow)
    for side in (-1, 1):
        spire(pen, x + side * (half + 0.006), 0.83, 0.03, 0.9, STONE)
    pen.polygon(
        [(x - half, 0.836), (x - 0.044, 0.9), (x + 0.044, 0.9), (x + half, 0.836)], SNOW if snow else SLATE
    )
    pen.polygon([(x + 0.02, 0.836), (x + 0.01, 0.9), (x + 0.044, 0.9), (x + half, 0.836)], shade(SLATE, 0.7))
    pen.rectangle(x - 0.042, 0.9, x + 0.042, 0.925, (214, 170, 74), glow=(255, 214, 110))
    spire(pen, x, 0.925, 0.1, 0.99, SNOW if snow else SLATE)
    pen.line([(x, 0.97), (x, 1.0)], 0.012, (230, 186, 80))


def _parliament(pen: Pen, variation: int, snow: bool) -> None:
    wall(pen, -0.95, 0, 0.05, 0.25, shade(STONE, 0.94), share=0.0)
    pen.polygon([(-0.8, 0.25), (-0.77, 0.31), (0.02, 0.31), (0.05, 0.25)], SNOW if snow else SLATE)
    for k in range(13):
        x = -0.91 + k * 0.073
        arch(pen, x, 0.035, 0.03, 0.165, (122, 84, 52), pointed=True)
    for k in range(8):
        x = -0.945 + k * 0.1425
        pen.rectangle(x - 0.012, 0, x + 0.012, 0.28, shade(STONE, 1.12))
        spire(pen, x, 0.28, 0.034, 0.36, shade(STONE, 1.12))
    ledge(pen, -0.95, 0.05, 0.235, 0.02, shade(STONE, 1.25), snow=snow)
    wall(pen, -0.68, 0, -0.48, 0.5, STONE, dark=0.76)
    for x in (-0.64, -0.58, -0.52):
        arch(pen, x, 0.26, 0.034, 0.18, (122, 84, 52), pointed=True)
    ledge(pen, -0.69, -0.47, 0.49, 0.022, shade(STONE, 1.25), snow=snow)
    for x in (-0.68, -0.61, -0.55, -0.48):
        spire(pen, x, 0.51, 0.04, 0.58, STONE)
    pen.line([(-0.58, 0.51), (-0.58, 0.68)], 0.01, SLATE)


def _westminster_bridge(pen: Pen, snow: bool) -> None:
    green: RGB = (112, 148, 112)
    pen.rectangle(0.2, 0, 1.15, 0.12, green)
    for k in range(4):
        x = 0.37 + k * 0.25
        pen.pie(x, 0, 0.1, 0.085, 0, 180, (62, 84, 92))
    ledge(pen, 0.2, 1.15, 0.105, 0.026, shade(green, 1.35), snow=snow)


SANDSTONE: RGB = (236, 208, 170)
VERDIGRIS: RGB = (88, 162, 140)


def berlin(pen: Pen, *, variation: int, snow: bool) -> None:
    """The Brandenburg Gate with its quadriga."""
    for side in (-1, 1):
        x0, x1 = sorted((side * 0.5, side * 0.76))
        pen.rectangle(x0, 0, x1, 0.3, shade(SANDSTONE, 0.66))
        for k in range(4):
            column(pen, x0 + 0.035 + k * (x1 - x0 - 0.07) / 3, 0, 0.26, 0.036, shade(SANDSTONE, 0.94))
        ledge(pen, x0 - 0.012, x1 + 0.012, 0.26, 0.036, SANDSTONE)
        middle = (x0 + x1) / 2
        pen.polygon([(x0 - 0.012, 0.296), (middle, 0.39), (x1 + 0.012, 0.296)], SNOW if snow else SANDSTONE)
        pen.polygon([(x0 + 0.035, 0.306), (middle, 0.366), (x1 - 0.035, 0.306)], shade(SANDSTONE, 0.76))
    for k in range(5):
        x = -0.4 + k * 0.2
        pen.rectangle(x + 0.03, 0, x + 0.058, 0.47, shade(SANDSTONE, 0.62), glow=(190, 120, 44))
    for k in range(6):
        column(pen, -0.47 + k * 0.188, 0, 0.47, 0.074, SANDSTONE, glow=FLOODLIGHT)
        pen.rectangle(-0.47 + k * 0.188 - 0.046, 0, -0.47 + k * 0.188 + 0.046, 0.024, shade(SANDSTONE, 0.86))
    wall(pen, -0.54, 0.465, 0.54, 0.565, SANDSTONE, share=0.2, dark=0.86, glow=FLOODLIGHT)
    for k in range(12):
        x = -0.5 + k * 0.0885
        pen.rectangle(x, 0.5, x + 0.03, 0.545, shade(SANDSTONE, 0.74))
    ledge(pen, -0.57, 0.57, 0.56, 0.026, shade(SANDSTONE, 1.35), snow=snow)
    wall(pen, -0.46, 0.586, 0.46, 0.665, SANDSTONE, share=0.2, dark=0.82, glow=FLOODLIGHT)
    pen.rectangle(-0.3, 0.602, 0.3, 0.648, shade(SANDSTONE, 0.84), glow=(140, 100, 46))
    ledge(pen, -0.49, 0.49, 0.66, 0.02, shade(SANDSTONE, 1.35), snow=snow)
    wall(pen, -0.2, 0.68, 0.2, 0.72, SANDSTONE)
    _quadriga(pen.at(0, 0.715), snow)


def _quadriga(pen: Pen, snow: bool) -> None:
    """Four horses, a chariot and Victory with her staff, seen from the front."""
    dark = shade(VERDIGRIS, 0.68)
    pen.polygon([(-0.075, 0), (-0.09, 0.1), (0.09, 0.1), (0.075, 0)], dark)
    pen.polygon([(-0.028, 0.08), (-0.04, 0.17), (0, 0.2), (0.04, 0.17), (0.03, 0.08)], VERDIGRIS)
    pen.polygon([(-0.03, 0.16), (-0.1, 0.225), (-0.085, 0.15), (-0.03, 0.11)], shade(VERDIGRIS, 1.25))
    pen.polygon([(0.03, 0.16), (0.09, 0.225), (0.08, 0.15), (0.03, 0.11)], dark)
    pen.ellipse(0, 0.215, 0.024, 0.028, SNOW if snow else shade(VERDIGRIS, 1.2))
    pen.line([(0.05, 0.1), (0.062, 0.27)], 0.012, dark)
    pen.ellipse(0.063, 0.262, 0.024, 0.024, (222, 182, 84), glow=(255, 210, 110))
    for x, lean in ((-0.165, -0.03), (-0.085, -0.012), (0.085, 0.012), (0.165, 0.03)):
        _horse(pen, x, lean, VERDIGRIS if x < 0 else shade(VERDIGRIS, 0.84), snow)


def _horse(pen: Pen, x: float, lean: float, tone: RGB, snow: bool) -> None:
    """A horse from the front: two forelegs (one raised), chest, neck and a long head."""
    dark = shade(tone, 0.7)
    pen.line([(x - 0.018, 0.07), (x - 0.02, 0.0)], 0.017, tone)
    pen.line([(x + 0.018, 0.07), (x + 0.03, 0.04), (x + 0.016, 0.015)], 0.017, dark)
    pen.ellipse(x, 0.08, 0.034, 0.038, tone)
    pen.pie(x, 0.08, 0.034, 0.038, -90, 70, dark)
    nx, turn = x + lean, lean * 0.9
    pen.polygon([(x - 0.028, 0.09), (nx - 0.016, 0.17), (nx + 0.016, 0.17), (x + 0.028, 0.09)], tone)
    pen.polygon([(nx - 0.017, 0.185), (nx - 0.013, 0.205), (nx, 0.19), (nx + 0.013, 0.205),
                 (nx + 0.017, 0.185), (nx + turn + 0.011, 0.118), (nx + turn - 0.011, 0.118)], shade(tone,
                 1.3))  # fmt: skip
    if snow:
        pen.ellipse(nx, 0.198, 0.018, 0.012, SNOW)


BRICK: RGB = (190, 66, 54)
WHITE: RGB = (250, 242, 228)


def moscow(pen: Pen, *, variation: int, snow: bool) -> None:
    """Saint Basil's: a tent spire among striped onion domes."""
    blue, green, yellow, red = (40, 110, 190), (46, 150, 96), (248, 200, 70), (214, 58, 58)
    _drum(pen, -0.23, 0.085, 0.15, 0.5, WHITE)
    _striped_onion(pen, -0.23, 0.5, 0.125, 0.27, green, yellow, "swirl", snow)
    _drum(pen, 0.23, 0.085, 0.15, 0.47, BRICK)
    _striped_onion(pen, 0.23, 0.47, 0.125, 0.27, yellow, green, "bands", snow)
    wall(pen, -0.1, 0.1, 0.1, 0.52, BRICK, dark=0.78, glow=(70, 26, 14))
    arch(pen, 0, 0.34, 0.07, 0.13, (84, 34, 44))
    ledge(pen, -0.115, 0.115, 0.5, 0.03, WHITE, snow=snow)
    pen.polygon([(-0.1, 0.53), (-0.03, 0.84), (0.03, 0.84), (0.1, 0.53)], (220, 96, 66), glow=(90, 34, 16))
    pen.polygon([(0.02, 0.53), (0.006, 0.84), (0.03, 0.84), (0.1, 0.53)], (168, 60, 52))
    for y in (0.6, 0.68, 0.76):
        half = 0.1 - (y - 0.53) * 0.226
        pen.rectangle(-half, y, half, y + 0.018, SNOW if snow else WHITE)
    turned(pen, 0, 0.84, 0.042, 0.1, ONION, (246, 196, 60), snow=snow, glow=(90, 60, 10))
    pen.line([(0, 0.92), (0, 1.0)], 0.012, (246, 196, 60))
    pen.line([(-0.022, 0.968), (0.022, 0.968)], 0.012, (246, 196, 60))
    pen.rectangle(-0.58, 0, 0.58, 0.15, BRICK)
    pen.rectangle(0.3, 0, 0.58, 0.15, shade(BRICK, 0.8))
    for x, y, r, h, a, b, style in (
        (-0.45, 0.29, 0.105, 0.23, blue, WHITE, "gores"), (0.45, 0.27, 0.105, 0.23, red, WHITE, "swirl"),
        (-0.115, 0.3, 0.1, 0.22, red, yellow, "bands"), (0.125, 0.27, 0.1, 0.22, blue, WHITE, "swirl"),
    ):  # fmt: skip
        _drum(pen, x, r * 0.74, 0.1, y, BRICK if b == WHITE else WHITE)
        ledge(pen, x - r * 0.8, x + r * 0.8, y - 0.02, 0.024, WHITE, snow=snow)
        _striped_onion(pen, x, y, r, h, a, b, style, snow)
    for k in range(9):
        x = -0.512 + k * 0.128
        arch(pen, x, 0.0, 0.084, 0.115, WHITE, glow=None)
        arch(pen, x, 0.0, 0.052, 0.09, (98, 38, 46))
    ledge(pen, -0.6, 0.6, 0.135, 0.022, (104, 170, 130), snow=snow)


def _drum(pen: Pen, x: float, half: float, y0: float, y1: float, color: RGB) -> None:
    wall(pen, x - half, y0, x + half, y1, color, dark=0.8)
    arch(pen, x, y1 - 0.115, half * 0.75, 0.085, (98, 40, 50))


def _striped_onion(
    pen: Pen,
    x: float,
    y: float,
    radius: float,
    height: float,
    color: RGB,
    stripe: RGB,
    style: str,
    snow: bool,
) -> None:
    """An onion dome with upright gores, level bands or slanting swirls, and a golden cross."""
    turned(pen, x, y, radius, height, ONION, color, glow=shade(color, 0.25))

    def at(s: float, share: float) -> Point:
        return (
            x + s * radius * half_width(ONION, min(max(share, 0.0), 1.0)),
            y + min(max(share, 0.0), 1.0) * height,
        )

    steps = [s / 4 for s in range(-4, 5)]
    if style == "gores":
        for low, high in ((-0.8, -0.45), (-0.12, 0.22), (0.52, 0.82)):
            levels = [h for h, _ in ONION]
            tone = stripe if low < 0.4 else shade(stripe, 0.78)
            pen.polygon([*(at(low, h) for h in levels), *(at(high, h) for h in reversed(levels))], tone)
    else:
        rise, width = (0.2, 0.1) if style == "swirl" else (0.0, 0.09)
        for start in (-0.12, 0.1, 0.32, 0.54) if style == "swirl" else (0.06, 0.27, 0.48, 0.69):

            def band(s: float, offset: float, start: float = start) -> Point:
                return at(s, start + offset + rise * (s + 1) / 2 * 1.2)

            pen.polygon([*(band(s, 0.0) for s in steps), *(band(s, width) for s in reversed(steps))], stripe)
            right = [s for s in steps if s >= 0.25]
            pen.polygon(
                [*(band(s, 0.0) for s in right), *(band(s, width) for s in reversed(right))],
                shade(stripe, 0.78),
            )
    if snow:
        cap = [h / 20 for h in range(9, 21)]
        pen.polygon(
            [*(at(-1.04, h) for h in cap), *(at(1.04, h) for h in reversed(cap)), at(0.2, 0.36)], SNOW
        )
    pen.line([(x, y + height * 0.94), (x, y + height + 0.045)], 0.011, (246, 196, 60))
    pen.line([(x - 0.016, y + height + 0.026), (x + 0.016, y + height + 0.026)], 0.011, (246, 196, 60))
