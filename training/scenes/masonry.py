"""What buildings are made of: walls, windows, arches, columns, roofs, domes, mountains and the snow on them.

Knows nothing of cities (`landmarks.py`); everything is lit from the upper left.
"""

import math
from collections.abc import Sequence

from training.scenes.canvas import Pen, Point, mix, shade
from training.scenes.world import RGB

FLOODLIGHT: RGB = (104, 80, 44)
"""Light of hidden lamps on pale stone."""
SNOW: RGB = (250, 252, 255)
SNOW_SHADE: RGB = (214, 226, 242)
LIT: RGB = (255, 204, 106)
"""Lamplight behind a window."""

ONION = (
    (0.0, 0.60), (0.07, 0.86), (0.16, 0.98), (0.25, 1.0), (0.36, 0.93), (0.48, 0.74),
    (0.60, 0.47), (0.72, 0.24), (0.85, 0.09), (1.0, 0.0),
)  # fmt: skip
"""Half width of an onion dome at each height, both as shares."""
BULB = (
    (0.0, 0.80), (0.08, 0.93), (0.18, 0.995), (0.28, 1.0), (0.40, 0.95), (0.53, 0.83),
    (0.66, 0.64), (0.78, 0.42), (0.89, 0.18), (0.95, 0.07), (1.0, 0.0),
)  # fmt: skip
"""The calmer onion of a Mughal dome."""
Profile = Sequence[tuple[float, float]]


def wall(
    pen: Pen, x0: float, y0: float, x1: float, y1: float, color: RGB, *,
    share: float = 0.35, dark: float = 0.8, glow: RGB | None = None,
) -> None:  # fmt: skip
    """A block whose right `share` lies in the shade; `glow` is its floodlight."""
    pen.rectangle(x0, y0, x1, y1, color, glow=glow)
    if share:
        pen.rectangle(x1 - (x1 - x0) * share, y0, x1, y1, shade(color, dark), glow=glow)


def windows(
    pen: Pen,
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    columns: int,
    rows: int,
    fill: RGB,
    *,
    fullness: float = 0.52,
    variation: int = 0,
    glow: RGB = LIT,
) -> None:
    """A grid of windows in the rectangle; about one in four stays dark at night."""
    dx, dy = (x1 - x0) / columns, (y1 - y0) / rows
    w, h = dx * fullness, dy * min(fullness * 1.25, 0.8)
    for row in range(rows):
        for column in range(columns):
            x, y = x0 + (column + 0.5) * dx - w / 2, y0 + (row + 0.5) * dy - h / 2
            lit = (row * 7 + column * 5 + row * column + variation) % 4 != 0
            pen.rectangle(x, y, x + w, y + h, fill, glow=glow if lit else None)


def arch_points(x: float, y: float, width: float, height: float, *, pointed: bool = False) -> list[Point]:
    """Outline of an opening that stands on y, with a round (or pointed) head."""
    r = width / 2
    if pointed:
        spring = y + height - width * 0.95
        return [(x - r, y), (x - r, spring), (x - r * 0.86, spring + width * 0.42),
                 (x - r * 0.5, spring + width * 0.72), (x, y + height),
                 (x + r * 0.5, spring + width * 0.72), (x + r * 0.86, spring + width * 0.42),
                 (x + r, spring), (x + r, y)]  # fmt: skip
    spring = y + height - r
    head = [(x - r * math.cos(math.pi * i / 8), spring + r * math.sin(math.pi * i / 8)) for i in range(9)]
    return [(x - r, y), *head, (x + r, y)]


def arch(
    pen: Pen, x: float, y: float, width: float, height: float, fill: RGB, *, pointed: bool = False,
    glow: RGB | None = LIT,
) -> None:  # fmt: skip
    """An opening that stands on y."""
    pen.polygon(arch_points(x, y, width, height, pointed=pointed), fill, glow=glow)


def column(
    pen: Pen,
    x: float,
    y0: float,
    y1: float,
    width: float,
    color: RGB,
    *,
    dark: float = 0.76,
    glow: RGB | None = None,
) -> None:
    """A slightly tapering column with base and capital, shaded on its right."""
    r, top = width / 2, width * 0.43
    pen.polygon([(x - r, y0), (x - top, y1), (x + top, y1), (x + r, y0)], color, glow=glow)
    pen.polygon(
        [(x + r * 0.2, y0), (x + top * 0.2, y1), (x + top, y1), (x + r, y0)], shade(color, dark), glow=glow
    )
    pen.rectangle(x - r * 1.35, y1 - width * 0.3, x + r * 1.35, y1, color, glow=glow)


def roof(
    pen: Pen, x0: float, x1: float, y: float, top: float, color: RGB, *, inset: float, snow: bool
) -> None:
    """A hipped roof on [x0, x1] whose ridge is `inset` shorter on each side."""
    pen.polygon([(x0, y), (x0 + inset, top), (x1 - inset, top), (x1, y)], color)
    if snow:
        cut = y + (top - y) * 0.35
        pen.polygon(
            [(x0 + inset * 0.35, cut), (x0 + inset, top), (x1 - inset, top), (x1 - inset * 0.35, cut)], SNOW
        )


def half_width(profile: Profile, share: float) -> float:
    """The profile's half width at this share of its height, linear between its points."""
    for (h0, w0), (h1, w1) in zip(profile, profile[1:], strict=False):
        if share <= h1:
            return w0 + (w1 - w0) * (share - h0) / (h1 - h0)
    return profile[-1][1]


def turned(
    pen: Pen, x: float, y: float, radius: float, height: float, profile: Profile, color: RGB, *,
    dark: float = 0.74, snow: bool = False, glow: RGB | None = None,
) -> None:  # fmt: skip
    """A body of revolution (an onion, a bulb) with a bright left and a shaded right side."""

    def edge(scale: float) -> list[Point]:
        return [(x + scale * radius * w, y + h * height) for h, w in profile]

    pen.polygon([*edge(-1), *reversed(edge(1))], color, glow=glow)
    pen.polygon([*edge(0.22), *reversed(edge(1))], shade(color, dark), glow=glow)
    pen.polygon([*edge(-0.78)[1:-2], *reversed(edge(-0.46)[1:-2])], shade(color, 1.3), glow=glow)
    if snow:
        cap = [(h, w) for h, w in profile if h >= 0.45]
        left = [(x - radius * w * 1.02, y + h * height) for h, w in cap]
        right = [(x + radius * w * 1.02, y + h * height) for h, w in reversed(cap)]
        pen.polygon(
            [*left, *right, (x + radius * 0.25, y + height * 0.42), (x - radius * 0.2, y + height * 0.5)],
            SNOW,
        )


def dome(
    pen: Pen, x: float, y: float, rx: float, ry: float, color: RGB, *, dark: float = 0.74, snow: bool = False
) -> None:
    """Half an ellipse on y with a bright left and a shaded right side."""
    profile = [(math.sin(math.radians(a)), math.cos(math.radians(a))) for a in range(0, 91, 10)]
    turned(pen, x, y, rx, ry, profile, color, dark=dark)
    if snow:
        pen.polygon([(x + s * rx * 1.02, y + h * ry * 1.03)
                     for s, h in _cap(profile)], SNOW)  # fmt: skip


def _cap(profile: Profile) -> list[Point]:
    upper = [(w, h) for h, w in profile if h >= 0.6]
    return [*((-w, h) for w, h in upper), *((w, h) for w, h in reversed(upper)), (0.3, 0.56), (-0.2, 0.68)]


def spire(pen: Pen, x: float, y: float, width: float, top: float, color: RGB, *, dark: float = 0.74) -> None:
    """A slender pyramid, shaded on its right."""
    pen.polygon([(x - width / 2, y), (x, top), (x + width / 2, y)], color)
    pen.polygon([(x + width * 0.08, y), (x, top), (x + width / 2, y)], shade(color, dark))


def ledge(pen: Pen, x0: float, x1: float, y: float, height: float, color: RGB, *, snow: bool = False) -> None:
    """A cornice from y upward, snow lying on it."""
    pen.rectangle(x0, y, x1, y + height, color)
    if snow:
        pen.rectangle(x0, y + height * 0.55, x1, y + height + 0.012, SNOW)


def bushes(pen: Pen, spots: Sequence[tuple[float, float]], color: RGB, *, snow: bool) -> None:
    """Low shrubs: (x, radius) each, half buried in the ground line."""
    for x, r in spots:
        pen.pie(x, 0, r, r * 0.8, 0, 180, shade(color, 0.78))
        pen.pie(x - r * 0.14, 0, r * 0.82, r * 0.74, 0, 180, color)
        if snow:
            pen.pie(x - r * 0.1, r * 0.32, r * 0.74, r * 0.48, 0, 180, SNOW)


def peak(
    pen: Pen, x: float, half: float, top: float, color: RGB, *, crater: float, cap: float, cap_color: RGB,
) -> None:  # fmt: skip
    """A volcano with concave slopes and a snow cap down to `cap` (share of its height)."""

    def slope(side: int, low: float = 0.0) -> list[Point]:
        full = pen.curve(
            [(x + side * half, 0), (x + side * half * 0.42, top * 0.28), (x + side * crater, top)], steps=20
        )
        return [p for p in full if p[1] >= low * top]

    left, right = slope(-1), slope(1)
    pen.polygon([*left, *reversed(right)], color)
    pen.polygon([(x + half * 0.25, 0), (x + crater * 0.2, top), *reversed(right)], shade(color, 0.84))
    left, right = slope(-1, cap), slope(1, cap)
    (lx, ly), (rx, ry) = left[0], right[0]
    teeth = [(0.86, 0.05), (0.72, -0.10), (0.56, 0.06), (0.42, -0.13), (0.28, 0.05), (0.14, -0.08)]
    hem = [(lx + (rx - lx) * f, ly + (ry - ly) * f + dy * top) for f, dy in teeth]
    pen.polygon([*left, *reversed(right), *hem], cap_color)
    middle = [p for p in hem if p[0] > x - half * 0.02]
    pen.polygon([(x + crater * 0.4, top), *reversed(right), *middle], mix(cap_color, color, 0.3))
