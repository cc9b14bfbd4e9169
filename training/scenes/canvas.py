"""A canvas for one thing: anti-aliased shapes in the thing's own coordinates, with light it gives off.

Knows nothing of scenes, weather or other things; `render.py` places and lights what is drawn here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.scenes.world import RGB

Point = tuple[float, float]
OWN = 1
"""Part label of the area painted in the thing's own (captioned) color; garments follow with 2, 3."""


@dataclass(frozen=True)
class Layers:
    """What a canvas holds after anti-aliasing. Arrays of height x width (x 3), float32 in [0, 1]."""

    color: NDArray[np.float32]
    """Daylight color, premultiplied by `alpha`."""
    alpha: NDArray[np.float32]
    glow: NDArray[np.float32]
    """Light given off when lit, to be added after shading (premultiplied)."""
    parts: dict[int, NDArray[np.float32]]
    """Coverage of each labelled part (`OWN`, garments)."""


class Canvas:
    """Pixels at `supersample` times the final resolution, reduced by a box filter at the end."""

    def __init__(self, width: int, height: int, *, supersample: int = 3):
        self.width, self.height, self.supersample = width, height, supersample
        size = (width * supersample, height * supersample)
        self._ink = Image.new("RGBA", size)
        self._ink_draw = ImageDraw.Draw(self._ink)
        self._glow: Image.Image | None = None
        self._glow_draw: ImageDraw.ImageDraw | None = None
        self._label: Image.Image | None = None
        self._label_draw: ImageDraw.ImageDraw | None = None

    def pen(self, x: float, y: float, unit: float, *, mirrored: bool = False) -> "Pen":
        """A pen with its origin (x, y) pixels from the top left and a unit of `unit` pixels, y upward."""
        s = self.supersample
        return Pen(self, x * s, y * s, unit * s, mirrored)

    def paint(
        self, shape: str, points: object, fill: RGB, *, glow: RGB | None, part: int, **options: object
    ) -> None:
        """Draw one `ImageDraw` shape on all planes; it hides the light and parts of earlier shapes."""
        getattr(self._ink_draw, shape)(points, fill=(*fill, 255), **options)
        if glow is not None and self._glow_draw is None:
            self._glow = Image.new("RGB", self._ink.size)
            self._glow_draw = ImageDraw.Draw(self._glow)
        if self._glow_draw is not None:
            getattr(self._glow_draw, shape)(points, fill=glow or (0, 0, 0), **options)
        if part and self._label_draw is None:
            self._label = Image.new("L", self._ink.size)
            self._label_draw = ImageDraw.Draw(self._label)
        if self._label_draw is not None:
            getattr(self._label_draw, shape)(points, fill=part, **options)

    def layers(self) -> Layers:
        """Anti-aliased planes at the final resolution."""
        full = np.float32(255)
        ink = np.asarray(self._ink.convert("RGBa").reduce(self.supersample), dtype=np.float32) / full
        glow = np.zeros_like(ink[..., :3])
        if self._glow is not None:
            glow = np.asarray(self._glow.reduce(self.supersample), dtype=np.float32) / full
        parts: dict[int, NDArray[np.float32]] = {}
        if self._label is not None:
            label = np.asarray(self._label).reshape(
                self.height, self.supersample, self.width, self.supersample
            )
            for part in range(1, int(label.max()) + 1):
                parts[part] = (label == part).mean(axis=(1, 3), dtype=np.float32)
        return Layers(color=ink[..., :3], alpha=ink[..., 3], glow=glow, parts=parts)


@dataclass(frozen=True)
class Pen:
    """Draws in local coordinates: x to the right (to the left when mirrored), y upward, both in units."""

    canvas: Canvas
    x: float
    y: float
    unit: float
    mirrored: bool

    def at(self, x: float, y: float, scale: float = 1.0, *, mirrored: bool = False) -> "Pen":
        """A pen with its origin at local (x, y) and its unit scaled."""
        px, py = self._pixel((x, y))
        return Pen(self.canvas, px, py, self.unit * scale, self.mirrored != mirrored)

    def polygon(self, points: Sequence[Point], fill: RGB, *, glow: RGB | None = None, part: int = 0) -> None:
        self.canvas.paint("polygon", [self._pixel(p) for p in points], fill, glow=glow, part=part)

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, fill: RGB, *, glow: RGB | None = None, part: int = 0
    ) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill, glow=glow, part=part)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, fill: RGB, *, glow: RGB | None = None, part: int = 0
    ) -> None:
        px, py = self._pixel((x, y))
        box = (px - rx * self.unit, py - ry * self.unit, px + rx * self.unit, py + ry * self.unit)
        self.canvas.paint("ellipse", box, fill, glow=glow, part=part)

    def pie(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        start: float,
        end: float,
        fill: RGB,
        *,
        glow: RGB | None = None,
        part: int = 0,
    ) -> None:
        """A sector from `start` to `end` degrees, counter-clockwise from the x axis; 0 to 180 is a dome."""
        n = max(8, int(abs(end - start) / 6))
        angles = [math.radians(start + (end - start) * i / n) for i in range(n + 1)]
        self.polygon(
            [(x, y), *((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles)],
            fill,
            glow=glow,
            part=part,
        )

    def line(
        self, points: Sequence[Point], width: float, fill: RGB, *, glow: RGB | None = None, part: int = 0
    ) -> None:
        """A polyline `width` units wide (at least one supersampled pixel) with round joints."""
        pixels = [self._pixel(p) for p in points]
        w = max(1, round(width * self.unit))
        self.canvas.paint("line", pixels, fill, glow=glow, part=part, width=w, joint="curve")
        if w > 3:
            for px, py in (pixels[0], pixels[-1]):
                r = w / 2
                self.canvas.paint("ellipse", (px - r, py - r, px + r, py + r), fill, glow=glow, part=part)

    def curve(self, points: Sequence[Point], *, steps: int = 12) -> list[Point]:
        """Points of the Bezier curve with these control points (any degree), for `polygon` and `line`."""
        n = len(points) - 1
        result: list[Point] = []
        for i in range(steps + 1):
            t = i / steps
            w = [math.comb(n, k) * t**k * (1 - t) ** (n - k) for k in range(n + 1)]
            result.append(
                (sum(a * p[0] for a, p in zip(w, points)), sum(a * p[1] for a, p in zip(w, points)))  # noqa: B905
            )
        return result

    def _pixel(self, point: Point) -> Point:
        x = -point[0] if self.mirrored else point[0]
        return (self.x + x * self.unit, self.y - point[1] * self.unit)


def shade(color: RGB, factor: float) -> RGB:
    """The color darkened (`factor` < 1) or lightened towards white (`factor` > 1, at most 2)."""
    if factor <= 1:
        return (round(color[0] * factor), round(color[1] * factor), round(color[2] * factor))
    t = factor - 1
    return (
        round(color[0] + (255 - color[0]) * t),
        round(color[1] + (255 - color[1]) * t),
        round(color[2] + (255 - color[2]) * t),
    )


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """`first` and `second` blended; `share` in [0, 1] of the second."""
    return (
        round(first[0] + (second[0] - first[0]) * share),
        round(first[1] + (second[1] - first[1]) * share),
        round(first[2] + (second[2] - first[2]) * share),
    )
