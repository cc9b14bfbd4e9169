"""What lies at the landmark's feet: distant skyline, water, and the promenade, lawn, paving or sand.

Knows nothing of things, and nothing of weather beyond "snow".
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.scenes.canvas import Canvas, Layers, Pen, mix, shade
from training.scenes.scene import HORIZON, PROMENADE, Scene
from training.scenes.sky import Picture, dice, oversampling
from training.scenes.world import RGB


@dataclass(frozen=True)
class Site:
    """Surroundings of a landmark in daylight."""

    surface: Literal["lawn", "paving", "sand"]
    color: RGB
    accent: RGB
    skyline: Literal["trees", "roofs", "dunes", "towers", "hills"]
    skyline_color: RGB


SITES: dict[str, Site] = {
    "paris": Site("lawn", (126, 170, 84), (226, 208, 170), "roofs", (172, 178, 190)),
    "london": Site("paving", (176, 168, 160), (140, 134, 130), "roofs", (150, 140, 140)),
    "rome": Site("paving", (208, 178, 142), (176, 142, 108), "roofs", (204, 150, 112)),
    "cairo": Site("sand", (232, 196, 124), (214, 170, 98), "dunes", (222, 184, 116)),
    "new york": Site("paving", (170, 172, 176), (134, 138, 146), "towers", (146, 160, 180)),
    "tokyo": Site("lawn", (138, 176, 104), (228, 216, 200), "hills", (140, 164, 196)),
    "agra": Site("lawn", (112, 164, 82), (232, 206, 176), "trees", (92, 142, 86)),
    "venice": Site("paving", (214, 188, 164), (184, 150, 128), "roofs", (206, 150, 120)),
    "sydney": Site("paving", (200, 188, 172), (164, 152, 140), "towers", (150, 170, 190)),
    "berlin": Site("paving", (186, 182, 172), (150, 146, 140), "trees", (120, 156, 104)),
    "moscow": Site("paving", (172, 128, 112), (138, 98, 88), "roofs", (170, 110, 96)),
    "pisa": Site("lawn", (118, 176, 78), (222, 210, 180), "roofs", (206, 168, 128)),
    "athens": Site("sand", (206, 184, 136), (150, 156, 92), "hills", (170, 170, 160)),
    "san francisco": Site("lawn", (140, 168, 92), (214, 196, 150), "hills", (132, 152, 124)),
    "rio": Site("sand", (240, 220, 172), (220, 190, 138), "hills", (92, 142, 104)),
    "seattle": Site("lawn", (100, 154, 92), (196, 190, 178), "towers", (130, 150, 172)),
}

SNOW: RGB = (240, 245, 252)
SNOW_SHADE: RGB = (206, 218, 238)


def horizon_row(size: int) -> int:
    """First pixel row below the landmark."""
    return (HORIZON * size + 500) // 1000


def promenade_row(scene: Scene, size: int) -> int:
    """First pixel row on which one can walk."""
    return ((PROMENADE if scene.has_water else HORIZON) * size + 500) // 1000


def draw_skyline(scene: Scene, size: int, *, snow: bool) -> Layers:
    """The far background up to the horizon, in daylight colors."""
    site = SITES[scene.city]
    rng = dice(scene, 3)
    canvas = Canvas(size, horizon_row(size), supersample=oversampling(size))
    pen = canvas.pen(0, horizon_row(size), size)
    color = mix(site.skyline_color, (236, 240, 248), 0.45) if snow else site.skyline_color
    for layer in range(2):
        tone = mix(color, (206, 220, 236), 0.38 - 0.38 * layer)
        _SKYLINES[site.skyline](pen, rng, tone, 1.25 - 0.45 * layer)
    return canvas.layers()


def _trees(pen: Pen, rng: np.random.Generator, color: RGB, scale: float) -> None:
    x = -0.02
    while x < 1.05:
        r = (0.024 + 0.022 * float(rng.random())) * scale
        pen.ellipse(x, r * 0.9, r * 1.2, r * 1.1, color)
        x += r * 1.5
    pen.rectangle(-0.1, -0.02, 1.1, 0.024 * scale, color)


def _roofs(pen: Pen, rng: np.random.Generator, color: RGB, scale: float) -> None:
    x = -0.03
    while x < 1.05:
        w, h = 0.05 + 0.05 * float(rng.random()), (0.030 + 0.040 * float(rng.random())) * scale
        pen.rectangle(x, -0.02, x + w, h, color)
        if rng.random() < 0.7:
            pen.polygon(
                [(x - 0.006, h), (x + w + 0.006, h), (x + w * 0.8, h + 0.024), (x + w * 0.2, h + 0.024)],
                shade(color, 0.92),
            )
        x += w


def _towers(pen: Pen, rng: np.random.Generator, color: RGB, scale: float) -> None:
    x = -0.03
    while x < 1.05:
        w, h = 0.035 + 0.040 * float(rng.random()), (0.05 + 0.11 * float(rng.random()) ** 2) * scale
        pen.rectangle(x, -0.02, x + w, h, color)
        x += w * 0.96


def _hills(pen: Pen, rng: np.random.Generator, color: RGB, scale: float) -> None:
    _ridge(pen, rng, color, 0.060 * scale, 0.045 * scale)


def _dunes(pen: Pen, rng: np.random.Generator, color: RGB, scale: float) -> None:
    _ridge(pen, rng, color, 0.030 * scale, 0.022 * scale)


def _ridge(pen: Pen, rng: np.random.Generator, color: RGB, height: float, swing: float) -> None:
    phase, second = (float(v) * 6.28 for v in rng.random(2))
    points = [
        (i / 40, height + swing * (0.7 * math.sin(i * 0.17 + phase) + 0.3 * math.sin(i * 0.41 + second)))
        for i in range(-2, 43)
    ]
    pen.polygon([(-0.1, -0.02), *points, (1.1, -0.02)], color)


_SKYLINES = {"trees": _trees, "roofs": _roofs, "towers": _towers, "hills": _hills, "dunes": _dunes}


def draw_ground(scene: Scene, size: int, *, snow: bool) -> Layers:
    """The rows from `promenade_row` down, in daylight colors; fully opaque."""
    top = promenade_row(scene, size)
    canvas = Canvas(size, size - top, supersample=oversampling(size))
    depth = 1 - top / size
    pen = canvas.pen(0, 0, size)
    site = SITES[scene.city]
    rng = dice(scene, 4)
    color, accent = (SNOW, SNOW_SHADE) if snow else (site.color, site.accent)
    far = mix(color, (255, 250, 240), 0.12) if not snow else mix(color, SNOW_SHADE, 0.4)
    bands = 5
    for i in range(bands):
        y = depth * (i / bands) ** 1.5
        pen.rectangle(-0.1, -depth - 0.1, 1.1, -y, mix(far, shade(color, 0.94), i / (bands - 1)))
    vanish = scene.landmark_x / 1000
    if snow:
        _drifts(pen, rng, depth, accent)
    elif site.surface == "paving":
        _paving(pen, depth, vanish, color, accent)
    elif site.surface == "lawn":
        _lawn(pen, rng, depth, vanish, color, accent, has_path=not scene.has_water)
    else:
        _drifts(pen, rng, depth, accent)
    if scene.has_water:
        wall = mix((150, 142, 136), site.accent, 0.4) if not snow else (176, 184, 202)
        pen.rectangle(-0.1, -0.022, 1.1, 0.1, wall)
        pen.rectangle(-0.1, -0.008, 1.1, 0.1, shade(wall, 1.35) if not snow else (248, 250, 255))
    else:
        pen.rectangle(-0.1, -0.010, 1.1, 0.1, mix(shade(color, 0.78), accent, 0.2))
    return canvas.layers()


def _paving(pen: Pen, depth: float, vanish: float, color: RGB, accent: RGB) -> None:
    line, plate = mix(color, accent, 0.75), mix(color, accent, 0.28)
    rows = [depth * (0.10 + 0.90 * (i / 5) ** 1.7) for i in range(6)]

    def across(k: float, y: float) -> float:
        return vanish + (k - vanish) * (0.30 + 0.70 * y / depth) * 1.7

    for i in range(5):
        for k in range(-6, 16):
            if (i + k) % 2 == 0:
                a, b = k / 8, (k + 1) / 8
                near, off = rows[i + 1], rows[i]
                corners = [(across(a, off), -off), (across(b, off), -off)]
                corners += [(across(b, near), -near), (across(a, near), -near)]
                pen.polygon(corners, plate)
    for y in rows[:-1]:
        pen.rectangle(-0.1, -y - 0.003 - 0.004 * y / depth, 1.1, -y, line)


def _lawn(
    pen: Pen,
    rng: np.random.Generator,
    depth: float,
    vanish: float,
    color: RGB,
    accent: RGB,
    *,
    has_path: bool,
) -> None:
    for i in range(0, 6, 2):
        y0, y1 = (depth * (k / 6) ** 1.6 for k in (i, i + 1))
        pen.rectangle(-0.1, -y1, 1.1, -y0, mix(color, shade(color, 1.25), 0.6))
    if has_path:
        for grow, tone in ((1.16, shade(color, 0.80)), (1.0, accent)):
            far, near = 0.055 * grow, 0.30 * grow
            corners = [(vanish - far, 0.0), (vanish + far, 0.0)]
            corners += [(vanish + near, -depth - 0.02), (vanish - near, -depth - 0.02)]
            pen.polygon(corners, tone)
    else:
        pen.rectangle(-0.1, -depth * 0.42, 1.1, 0.0, accent)
    for tuft_x, tuft_y, size in rng.random((26, 3)).tolist():
        y = depth * (0.15 + 0.85 * tuft_y)
        if has_path and abs(tuft_x - vanish) < 0.08 + 0.26 * y / depth:
            continue
        if not has_path and y < depth * 0.5:
            continue
        w = 0.006 + 0.006 * size
        pen.polygon([(tuft_x - w, -y), (tuft_x + w, -y), (tuft_x, -y + 2.4 * w)], shade(color, 0.82))


def _drifts(pen: Pen, rng: np.random.Generator, depth: float, accent: RGB) -> None:
    for i in range(4):
        y = depth * (0.16 + 0.24 * i)
        cx, w = float(rng.random()), 0.35 + 0.25 * float(rng.random())
        crest = [(cx - w, -y), (cx - w * 0.3, -y + 0.035), (cx + w * 0.4, -y + 0.02), (cx + w, -y)]
        foot = [(cx + w * 0.2, -y - 0.008), (cx - w, -y)]
        pen.polygon(pen.curve(crest + foot, steps=16), accent)


def draw_water(scene: Scene, mirrored: Picture, ambient: Picture) -> Picture:
    """Water as high as `mirrored` (the picture above the horizon turned over), rows x size x 3."""
    rows, size = mirrored.shape[:2]
    deep = np.array((0.10, 0.36, 0.50), np.float32) * ambient
    t = (np.arange(rows, dtype=np.float32) / max(rows - 1, 1))[:, None, None]
    water = mirrored * (0.62 - 0.22 * t) + deep * (0.38 + 0.22 * t)
    canvas = Canvas(size, rows, supersample=oversampling(size))
    pen = canvas.pen(0, 0, size)
    depth = rows / size
    for x, y, length in dice(scene, 5).random((22, 3)).tolist():
        py = depth * (0.06 + 0.86 * y)
        w, h = 0.018 + 0.040 * length * (0.5 + y), 0.0032 + 0.0022 * y
        tone: RGB = (255, 255, 255) if length > 0.35 else (0, 0, 0)
        pen.polygon([(x - w, -py), (x, -py + h), (x + w, -py), (x, -py - h)], tone)
    ripple = canvas.layers()
    light = water.mean(axis=(0, 1))
    bright = np.minimum(light * np.float32(1.35) + np.float32(0.10), 1)
    dark = light * np.float32(0.62)
    white = ripple.color[..., :1]
    share = ripple.alpha[..., None]
    return water * (1 - share * np.float32(0.6)) + np.float32(0.6) * (white * bright + (share - white) * dark)
