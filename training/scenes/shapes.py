"""Smooth outlines and the shades of a color name, shared by the drawings of things.

Knows nothing of any kind of thing, nor of scenes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from training.scenes.canvas import OWN, Pen, Point, shade
from training.scenes.world import COLORS, RGB

INK = (44, 46, 56)
TIRE = (52, 54, 62)
IRON = (84, 88, 98)
STEEL = (158, 164, 172)
CREAM = (246, 236, 212)
GLASS = (188, 208, 216)
GLASS_SHEEN = (216, 229, 232)
WOOD = (126, 92, 66)
WOOD_DARK = (98, 70, 52)
SNOW = (250, 252, 255)
WARM = (255, 206, 120)
"""Light of lamps and windows, for `glow`."""


@dataclass(frozen=True)
class Tones:
    """Shades of one color name, light from the upper left."""

    base: RGB
    light: RGB
    dark: RGB
    detail: RGB
    """For lines drawn on the color: darker, but lighter on black."""
    rim: RGB | None
    """Outline that keeps white visible on snow and black at night; None for the other colors."""
    part: int = OWN


def tones_of(color: str, *, part: int = OWN) -> Tones:
    base = COLORS[color]
    if color == "white":
        return Tones(base, (255, 255, 252), (216, 219, 224), (178, 184, 194), (138, 146, 160), part)
    if color == "black":
        return Tones(base, (64, 65, 74), (24, 24, 30), (92, 95, 106), (122, 128, 142), part)
    yellow = color == "yellow"
    lift = 1.06 if yellow else 1.12
    vivid = (
        min(255, round(base[0] * lift)),
        min(255, round(base[1] * lift)),
        min(255, round(base[2] * lift)),
    )
    return Tones(
        base, shade(vivid, 1.08), shade(base, 0.87 if yellow else 0.81), shade(base, 0.62), None, part
    )


@lru_cache(maxsize=512)
def smooth(points: tuple[Point, ...], *, steps: int = 5) -> tuple[Point, ...]:
    """The closed Catmull-Rom curve through `points`; a point given twice is a corner."""
    result: list[Point] = []
    n = len(points)
    for i in range(n):
        a, b, c, d = points[i - 1], points[i], points[(i + 1) % n], points[(i + 2) % n]
        if b == c:
            continue
        for step in range(steps):
            t = step / steps
            wa, wb = -0.5 * t + t * t - 0.5 * t**3, 1 - 2.5 * t * t + 1.5 * t**3
            wc, wd = 0.5 * t + 2 * t * t - 1.5 * t**3, 0.5 * t**3 - 0.5 * t * t
            result.append(
                (
                    wa * a[0] + wb * b[0] + wc * c[0] + wd * d[0],
                    wa * a[1] + wb * b[1] + wc * c[1] + wd * d[1],
                )
            )
    return tuple(result)


@dataclass(frozen=True)
class Blob:
    """A filled outline."""

    points: Sequence[Point]


@dataclass(frozen=True)
class Disk:
    """A filled ellipse."""

    x: float
    y: float
    rx: float
    ry: float


@dataclass(frozen=True)
class Stroke:
    """A thick line."""

    points: Sequence[Point]
    width: float


Shape = Blob | Disk | Stroke


def blob(*points: Point) -> Blob:
    """The smooth outline through `points`."""
    return Blob(smooth(points))


def paint(pen: Pen, shape: Shape, fill: RGB, *, part: int = 0, glow: RGB | None = None) -> None:
    """Fill one shape."""
    match shape:
        case Blob(points):
            pen.polygon(points, fill, part=part, glow=glow)
        case Disk(x, y, rx, ry):
            pen.ellipse(x, y, rx, ry, fill, part=part, glow=glow)
        case Stroke(points, width):
            pen.line(points, width, fill, part=part, glow=glow)


def paint_rim(pen: Pen, shapes: Sequence[Shape], tones: Tones, *, width: float = 0.02) -> None:
    """Draw the shapes `width` units larger in the rim color, to be covered by the shapes themselves."""
    if tones.rim is None:
        return
    for shape in shapes:
        match shape:
            case Blob(points):
                pen.line([*points, points[0], points[1]], 2 * width, tones.rim)
            case Disk(x, y, rx, ry):
                pen.ellipse(x, y, rx + width, ry + width, tones.rim)
            case Stroke(points, stroke_width):
                pen.line(points, stroke_width + 2 * width, tones.rim)
