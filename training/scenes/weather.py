"""Weather between the viewer and the scene: rain, snow, fog, lightning, and the mirror of wet ground.

Knows nothing of what it covers.
"""

import math

import numpy as np

from training.scenes.canvas import Canvas, Layers, Pen, mix
from training.scenes.light import Light
from training.scenes.scene import HORIZON, Scene
from training.scenes.sky import Picture, dice, grid, oversampling, paint_over
from training.scenes.world import RGB


def is_wet(weather: str) -> bool:
    return weather in ("rainy", "stormy")


def has_precipitation(weather: str) -> bool:
    return weather in ("rainy", "snowy", "stormy")


def turn_over(picture: Picture, axis_row: int, rows: int, *, reach: float, sway: float) -> Picture:
    """The picture above `axis_row` as calm water below it shows it, `rows` high.

    `reach`: rows of the picture per row of the mirror; `sway`: amplitude of ripples in picture heights.
    """
    size = picture.shape[1]
    row = np.arange(rows, dtype=np.float32) + np.float32(0.5)
    source = np.clip(axis_row - row * np.float32(reach) - np.float32(0.5), 0, axis_row - 1)
    upper = np.minimum(source.astype(np.int64), axis_row - 2)
    share = (source - upper)[:, None, None].astype(np.float32)
    flipped = picture[upper] * (1 - share) + picture[upper + 1] * share
    t = row / np.float32(size)
    shift = np.float32(sway * size) * np.sin(t * np.float32(190.0) / (1 + 6 * t)) * (np.float32(0.4) + 3 * t)
    x = np.clip(np.arange(size, dtype=np.float32)[None, :] + shift[:, None], 0, size - 1)
    left = np.minimum(x.astype(np.int64), size - 2)
    share = (x - left)[..., None].astype(np.float32)
    index = np.arange(rows)[:, None]
    return flipped[index, left] * (1 - share) + flipped[index, left + 1] * share


def wet_ground(scene: Scene, ground: Picture, mirrored: Picture) -> Picture:
    """Ground (rows x size x 3) with a film of water on it, and puddles that mirror fully."""
    rows, size = ground.shape[:2]
    canvas = Canvas(size, rows, supersample=oversampling(size))
    pen = canvas.pen(0, 0, size)
    depth = rows / size
    for x, y, width in dice(scene, 6).random((7, 3)).tolist():
        py = depth * (0.16 + 0.80 * y)
        w = (0.07 + 0.10 * width) * (0.5 + 0.8 * y)
        pen.ellipse(x, -py, w, w * 0.17, (255, 255, 255))
        pen.ellipse(x + w * 0.75, -py - w * 0.10, w * 0.62, w * 0.11, (255, 255, 255))
    puddle = canvas.layers().alpha[..., None]
    film = ground * np.float32(0.66) * np.float32(0.60) + mirrored * np.float32(0.40)
    pool = mirrored * np.float32(0.88) + np.float32(0.06)
    return film + (pool - film) * puddle * np.float32(0.85)


def fog_share(depth: float) -> float:
    """Share of fog over a thing at `depth` in [0, 1] (0: at the viewer's feet, 1: at the landmark)."""
    return 0.10 + 0.38 * depth


def fog_banks(scene: Scene, size: int) -> Picture:
    """Coverage in [0, 1] of drifting banks of fog, size x size, thickest at the horizon."""
    y, x = grid(size)
    banks = np.exp(-(((y - np.float32(HORIZON / 1000 - 0.02)) / np.float32(0.11)) ** 2)) * np.float32(0.50)
    result = np.broadcast_to(banks, (size, size)).copy()
    for cx, cy, width, strength in dice(scene, 7).random((6, 4)).tolist():
        across = np.exp(-(((x - np.float32(cx)) / np.float32(0.16 + 0.22 * width)) ** 2))
        down = np.exp(-(((y - np.float32(0.22 + 0.46 * cy)) / np.float32(0.030 + 0.020 * strength)) ** 2))
        result += (1 - result) * (across * down) * np.float32(0.42 + 0.28 * strength)
    return result


def bolt(scene: Scene, size: int) -> Layers:
    """A forked flash from the clouds to the horizon, beside the landmark."""
    canvas = Canvas(size, int(size * 0.72), supersample=oversampling(size))
    pen = canvas.pen(0, 0, size)
    rng = dice(scene, 8)
    x = 0.10 + 0.18 * float(rng.random())
    lean = 0.05 + 0.05 * float(rng.random())
    if scene.landmark_x < 500:
        x, lean = 1 - x, -lean
    path = [(x, -0.08)]
    for i, drop in enumerate((0.13, 0.035, 0.12, 0.035, 0.11, 0.03, 0.12)):
        last_x, last_y = path[-1]
        jog = (
            lean * (0.45 + 0.30 * float(rng.random()))
            if i % 2 == 0
            else -lean * (0.75 + 0.35 * float(rng.random()))
        )
        path.append((last_x + jog, last_y - drop))
    _tapered(pen, path, 0.024, 0.009)
    fork_x, fork_y = path[3]
    branch = [(fork_x, fork_y), (fork_x + lean * 1.3, fork_y - 0.06), (fork_x + lean * 1.0, fork_y - 0.085)]
    branch.append((fork_x + lean * 2.2, fork_y - 0.16))
    _tapered(pen, branch, 0.013, 0.007)
    return canvas.layers()


def _tapered(pen: Pen, path: list[tuple[float, float]], first: float, last: float) -> None:
    n = len(path) - 1
    for i, (a, b) in enumerate(zip(path, path[1:], strict=False)):
        pen.line([a, b], first + (last - first) * i / n, (255, 252, 224), glow=(255, 246, 200))


def lay_weather(scene: Scene, picture: Picture, light: Light) -> None:
    """Rain or snow in front of everything, in place."""
    if scene.weather == "snowy":
        layers, share = _flakes(scene, picture.shape[0]), 0.96
    elif is_wet(scene.weather):
        layers, share = _streaks(scene, picture.shape[0], light), 0.80
    else:
        return
    paint_over(picture, layers.color, layers.alpha, share=share)


def _streaks(scene: Scene, size: int, light: Light) -> Layers:
    storm = scene.weather == "stormy"
    canvas = Canvas(size, size, supersample=oversampling(size))
    pen = canvas.pen(0, 0, size)
    rng = dice(scene, 9)
    slant = (0.42 if storm else 0.16) * (1 if rng.random() < 0.5 else -1)
    bright: RGB = {
        "dawn": (244, 238, 250),
        "day": (228, 240, 250),
        "sunset": (252, 222, 216),
        "night": (158, 180, 226),
    }[scene.time]
    far = mix(bright, tuple(int(c * 255) for c in light.middle), 0.45)  # pyright: ignore[reportArgumentType]
    for nearness, count, color in ((0.0, 34 if storm else 26, far), (1.0, 38 if storm else 28, bright)):
        length, width = 0.055 + 0.045 * nearness + 0.03 * storm, 0.0105 + 0.0035 * nearness
        for x, y, vary in _spread(rng, count):
            x, y = -0.15 + 1.3 * x, -0.05 + 1.05 * y
            run = length * (0.75 + 0.5 * vary)
            half, dx = width / 2, slant * run
            pen.polygon(
                [
                    (x - half * 0.5, -y),
                    (x + half * 0.5, -y),
                    (x + dx + half, -y - run),
                    (x + dx - half, -y - run),
                ],
                color,
            )
    for x, y, vary in rng.random((14, 3)).tolist():
        py, w = 0.79 + 0.20 * y, 0.013 + 0.012 * vary
        ring = [
            (x + w * math.cos(a * math.pi / 6), -py + 0.34 * w * math.sin(a * math.pi / 6)) for a in range(13)
        ]
        pen.line(ring, 0.0055, bright)
    return canvas.layers()


def _flakes(scene: Scene, size: int) -> Layers:
    canvas = Canvas(size, size, supersample=oversampling(size))
    pen = canvas.pen(0, 0, size)
    rng = dice(scene, 9)
    color: RGB = (222, 230, 252) if scene.time == "night" else (255, 255, 255)
    for count, radius in ((46, 0.0068), (34, 0.0105), (13, 0.0165)):
        for x, y, vary in _spread(rng, count):
            r = radius * (0.85 + 0.3 * vary)
            pen.ellipse(x, -y, r, r, color)
    return canvas.layers()


def _spread(rng: np.random.Generator, count: int) -> list[list[float]]:
    """`count` points over the unit square, one in each cell of a jittered lattice, and a third draw."""
    columns = math.ceil(math.sqrt(count))
    draws = rng.random((count, 3))
    cell = np.arange(count)
    rows = math.ceil(count / columns)
    draws[:, 0] = (cell % columns + draws[:, 0] * 1.3 - 0.15) / columns
    draws[:, 1] = (cell // columns + draws[:, 1] * 1.3 - 0.15) / rows
    return draws.tolist()
