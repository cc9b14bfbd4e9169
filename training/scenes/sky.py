"""The sky: gradient, sun, moon, stars and clouds behind everything.

Knows nothing of what stands before it.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from training.scenes.canvas import Canvas, Layers, Pen, mix
from training.scenes.light import Light
from training.scenes.scene import HORIZON, Scene
from training.scenes.world import RGB

Picture = NDArray[np.floating]

_DISC: dict[str, tuple[float, RGB]] = {
    "dawn": (0.060, (255, 244, 214)),
    "day": (0.064, (255, 246, 196)),
    "sunset": (0.112, (255, 226, 120)),
    "night": (0.062, (246, 244, 224)),
}
"""Radius in picture heights and color of the sun (at night: the moon)."""


def dice(scene: Scene, purpose: int) -> Generator:
    """The draws for one purpose of a scene: the same on every machine and at every size."""
    return Generator(PCG64([scene.variation, purpose]))


def oversampling(size: int) -> int:
    """Subpixels per pixel and axis for shapes drawn over the whole picture."""
    return 3 if size <= 192 else 2


def paint_over(picture: Picture, color: Picture, alpha: Picture, *, share: float = 1.0) -> None:
    """Lay premultiplied `color` over `picture` in place; `share` in [0, 1] scales its coverage."""
    picture *= 1 - alpha[..., None] * np.float32(share)
    picture += color if share == 1.0 else color * np.float32(share)


def light_over(
    picture: Picture, layers: Layers, light: Picture, haze_color: Picture, haze: float | Picture
) -> None:
    """Light `layers`, sink them into haze, and lay them over `picture` in place."""
    share = np.asarray(haze, np.float32)[..., None]
    color = layers.color * (light * (1 - share)) + layers.alpha[..., None] * (haze_color * share)
    paint_over(picture, color, layers.alpha)


@lru_cache(maxsize=16)
def grid(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixel centers as a column of y and a row of x, in picture heights."""
    middle = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    return middle[:, None], middle[None, :]


def draw_sky(scene: Scene, size: int, light: Light) -> Picture:
    """The whole picture filled with sky, size x size x 3 in [0, 1]."""
    y, x = grid(size)
    t = np.clip(y / np.float32(HORIZON / 1000), 0, 1)[..., None]
    low, high = np.clip(t / np.float32(0.55), 0, 1), np.clip((t - np.float32(0.55)) / np.float32(0.45), 0, 1)
    rows = light.top + (light.middle - light.top) * low + (light.horizon - light.middle) * high
    sky = np.broadcast_to(rows, (size, size, 3)).astype(np.float32)
    if scene.weather == "sunny":
        if scene.time == "night":
            _stars(scene, size, sky)
        _sun_or_moon(scene, size, sky)
    elif scene.weather == "foggy" and scene.time != "night":
        distance = np.sqrt(
            (x - np.float32(scene.sun_x / 1000)) ** 2 + (y - np.float32(scene.sun_y / 1000)) ** 2
        )
        halo = np.clip(1 - distance / np.float32(0.30), 0, 1) ** 2 * np.float32(0.30)
        sky += (1 - sky) * halo[..., None]
    _clouds(scene, size, sky, light)
    return sky


def _sun_or_moon(scene: Scene, size: int, sky: Picture) -> None:
    y, x = grid(size)
    radius, color = _DISC[scene.time]
    dx, dy = x - np.float32(scene.sun_x / 1000), y - np.float32(scene.sun_y / 1000)
    distance = np.sqrt(dx * dx + dy * dy)
    warm = np.array(color, np.float32) / 255
    reach, strength = {
        "dawn": (0.42, 0.5),
        "day": (0.34, 0.42),
        "sunset": (0.55, 0.62),
        "night": (0.26, 0.30),
    }[scene.time]
    halo = np.clip(1 - distance / np.float32(reach), 0, 1)
    sky += (warm - sky) * (halo * halo * np.float32(strength))[..., None]
    for ring, share in ((1.9, 0.16), (1.45, 0.20)):
        disc = np.clip((np.float32(radius * ring) - distance) * size + np.float32(0.5), 0, 1)
        sky += (warm - sky) * (disc * np.float32(share))[..., None]
    disc = np.clip((np.float32(radius) - distance) * size + np.float32(0.5), 0, 1)
    if scene.time == "night":
        bite = np.sqrt((dx - np.float32(0.42 * radius)) ** 2 + (dy + np.float32(0.26 * radius)) ** 2)
        disc = disc * np.clip((bite - np.float32(0.80 * radius)) * size + np.float32(0.5), 0, 1)
    sky += (warm - sky) * disc[..., None]


def _stars(scene: Scene, size: int, sky: Picture) -> None:
    canvas = Canvas(size, int(size * 0.66), supersample=oversampling(size))
    pen = canvas.pen(0, 0, size)
    draws = dice(scene, 1).random((46, 4))
    for star_x, star_y, brightness, kind in draws.tolist():
        r = 0.0042 + 0.0050 * brightness * brightness
        color = mix((150, 170, 230), (255, 252, 236), 0.35 + 0.65 * brightness)
        py = -star_y * 0.60
        if abs(star_x - scene.sun_x / 1000) < 0.09 and abs(-py - scene.sun_y / 1000) < 0.09:
            continue
        if brightness > 0.86:
            arm, waist = 2.9 * r, 0.55 * r
            for ax, ay in ((arm, waist), (waist, arm)):
                points = [(star_x - ax, py), (star_x, py + ay), (star_x + ax, py), (star_x, py - ay)]
                pen.polygon(points, color)
        else:
            pen.ellipse(star_x, py, r, r, mix(color, (255, 220, 190), 0.3 * kind))
    layers = canvas.layers()
    paint_over(sky[: canvas.height], layers.color, layers.alpha)


def _clouds(scene: Scene, size: int, sky: Picture, light: Light) -> None:
    weather = scene.weather
    if weather == "foggy" or (weather == "sunny" and scene.time == "night"):
        return
    canvas = Canvas(size, int(size * 0.62), supersample=oversampling(size))
    pen = canvas.pen(0, 0, size)
    rng = dice(scene, 2)
    bright, dim = cloud_colors(scene.time, weather, light)
    if weather == "sunny":
        for _ in range(2 + int(rng.integers(0, 2))):
            cx, cy = float(rng.random()), 0.10 + 0.30 * float(rng.random())
            cumulus(pen, rng, cx, cy, 0.13 + 0.09 * float(rng.random()), bright, dim)
    elif weather == "cloudy":
        _deck(pen, rng, 0.06, mix(dim, bright, 0.25), 0.07)
        for row, (cy, width) in enumerate(((0.34, 0.34), (0.24, 0.46), (0.135, 0.56))):
            shift = float(rng.random()) * 0.4
            for k in range(4):
                cx = shift - 0.35 + k * (0.42 + 0.06 * row) + 0.10 * float(rng.random())
                tone = 0.55 + 0.22 * row
                cy_here = cy + 0.05 * float(rng.random())
                w = width * (0.8 + 0.35 * float(rng.random()))
                cumulus(pen, rng, cx, cy_here, w, mix(dim, bright, tone), mix(dim, bright, tone - 0.5))
    else:
        depth = {"rainy": 0.17, "snowy": 0.13, "stormy": 0.21}[weather]
        for row in range(3):
            tone = 0.75 - 0.375 * row if weather != "snowy" else 0.25 + 0.375 * row
            _deck(pen, rng, depth * (1.25 - 0.5 * row), mix(dim, bright, tone), 0.085)
    layers = canvas.layers()
    paint_over(sky[: canvas.height], layers.color, layers.alpha)


def cloud_colors(time: str, weather: str, light: Light) -> tuple[RGB, RGB]:
    """The lit and the shaded side of clouds."""
    white: RGB = {
        "dawn": (255, 236, 226),
        "day": (255, 255, 255),
        "sunset": (255, 182, 140),
        "night": (98, 108, 152),
    }[time]
    top: RGB = tuple(int(c) for c in (light.top * 255 + 0.5))  # pyright: ignore[reportAssignmentType]
    middle: RGB = tuple(int(c) for c in (light.middle * 255 + 0.5))  # pyright: ignore[reportAssignmentType]
    if weather == "sunny":
        return white, mix(white, middle, 0.38)
    if weather == "cloudy":
        return mix(white, middle, 0.10), mix(mix(top, (70, 78, 100), 0.25), white, 0.12)
    if weather == "snowy":
        return mix(middle, white, 0.45), mix(top, middle, 0.30)
    if weather == "rainy":
        return mix(middle, white, 0.22), mix(top, (40, 44, 60), 0.35)
    return mix(middle, white, 0.10), mix(top, (12, 14, 26), 0.55)


def cumulus(pen: Pen, rng: Generator, cx: float, cy: float, width: float, bright: RGB, dim: RGB) -> None:
    """A heaped cloud with a flat base at `cy` (picture heights from the top)."""
    n = 5 + int(rng.integers(0, 2))
    puffs: list[tuple[float, float]] = []
    for i in range(n):
        t = (i + 0.5) / n
        r = width * (0.085 + 0.115 * math.sin(math.pi * t)) * (0.85 + 0.35 * float(rng.random()))
        puffs.append((cx + (t - 0.5) * width * 0.84, r))
    base = width * 0.11
    for color, rise, shrink in ((dim, 0.0, 1.0), (bright, 0.045 * width, 0.93)):
        y = -cy + rise
        pen.rectangle(cx - width * 0.40, y, cx + width * 0.40, y + base, color)
        for sign in (-1, 1):
            pen.ellipse(cx + sign * width * 0.41, y + base / 2, base * 0.62, base / 2, color)
        for px, r in puffs:
            pen.ellipse(px - rise * 0.3, y + r * shrink, r * shrink * 1.12, r * shrink, color)


def _deck(pen: Pen, rng: Generator, depth: float, color: RGB, radius: float) -> None:
    """A ceiling of cloud from the top edge down to about `depth`, billowing downwards."""
    pen.rectangle(-0.1, -depth * 0.8, 1.1, 0.1, color)
    x = -0.08 * float(rng.random())
    while x < 1.08:
        r = radius * (0.65 + 0.75 * float(rng.random()))
        pen.ellipse(x, -depth * (0.80 + 0.25 * float(rng.random())), r * 1.25, r * 0.72, color)
        x += r * 1.25
