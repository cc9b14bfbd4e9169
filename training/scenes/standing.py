"""Things on their places: drawn on tiles, lit, with shadow and reflection.

Knows nothing of what is behind them or in front of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.scenes.canvas import Canvas, Layers
from training.scenes.light import Light
from training.scenes.scene import Scene, Thing
from training.scenes.shine import is_lit
from training.scenes.sky import Picture, light_over, paint_over
from training.scenes.things import draw_thing
from training.scenes.weather import fog_share, is_wet
from training.scenes.world import KINDS


@dataclass(frozen=True)
class Placed:
    """A thing's planes and where they lie: rows top..bottom and columns left..right of the picture."""

    thing: Thing
    layers: Layers
    top: int
    left: int
    feet: int
    """Row of the picture on which it stands."""


def place(scene: Scene, thing: Thing, size: int) -> Placed:
    """Draw a thing on a tile just large enough, standing at its exact place between pixels."""
    spec = KINDS[thing.kind]
    height = thing.height * size / 1000
    half = height * spec.width / spec.height * 0.62 + 2
    x, y = thing.x * size / 1000, thing.y * size / 1000
    left, right = int(x - half), int(x + half) + 2
    top, bottom = int(y - height * 1.14) - 1, int(y + height * 0.10) + 2
    canvas = Canvas(right - left, bottom - top)
    lit = is_lit(scene)
    draw_thing(
        canvas.pen(x - left, y - top, height, mirrored=thing.mirrored),
        thing,
        lit=lit,
        snow=scene.weather == "snowy",
    )
    return Placed(thing, canvas.layers(), top, left, int(y))


def stand(
    scene: Scene,
    placed: Placed,
    picture: Picture,
    glow: Picture,
    owner: NDArray[np.int16],
    index: int,
    light: Light,
) -> None:
    """Lay one thing, its shadow and its reflection over the picture, in place."""
    size = picture.shape[0]
    layers, top, left = placed.layers, placed.top, placed.left
    place = KINDS[placed.thing.kind].place
    if place != "sky":
        _reflect(scene, placed, picture, light, place == "water")
        if place == "ground":
            _shadow(scene, placed, picture)
    height, width = layers.alpha.shape
    t, b, le, r = max(top, 0), min(top + height, size), max(left, 0), min(left + width, size)
    if t >= b or le >= r:
        return
    cut = (slice(t - top, b - top), slice(le - left, r - left))
    here = (slice(t, b), slice(le, r))
    depth = 0.35 if place == "sky" else min(max((960 - placed.thing.y) / 240, 0.0), 1.0)
    haze = fog_share(depth) if scene.weather == "foggy" else 0.0
    alpha = layers.alpha[cut]
    light_over(
        picture[here], Layers(layers.color[cut], alpha, layers.glow[cut], {}), light.key, light.horizon, haze
    )
    glow[here] *= 1 - alpha[..., None]
    if is_lit(scene):
        glow[here] += layers.glow[cut] * np.float32(_thing_glow(scene, placed.thing))
    owner[here][alpha > 0.5] = index


def _thing_glow(scene: Scene, thing: Thing) -> float:
    """How bright a thing's light is: lamps outshine balloons, whose color must stay readable."""
    return (0.85 if thing.kind == "lamp" else 0.60) * (1.0 if scene.time == "night" else 0.6)


def _shadow(scene: Scene, placed: Placed, picture: Picture) -> None:
    """A soft dark ellipse under the feet; in hard light also a slanted cast shadow towards the viewer."""
    size = picture.shape[0]
    alpha = placed.layers.alpha
    feet = placed.thing.y * size / 1000
    columns = alpha[max(placed.feet - placed.top - alpha.shape[0] // 5, 0) :].max(axis=0)
    where = np.flatnonzero(columns > 0.5)
    if not len(where):
        return
    x0, x1 = placed.left + int(where[0]), placed.left + int(where[-1]) + 1
    rx, ry = (x1 - x0) / 2 + 0.012 * size, 0.014 * size + 0.03 * (x1 - x0)
    strength = {"sunny": 0.42, "foggy": 0.22}.get(scene.weather, 0.32)
    t, b = max(int(feet - ry) - 1, 0), min(int(feet + ry) + 2, size)
    le, r = max(int((x0 + x1) / 2 - rx) - 1, 0), min(int((x0 + x1) / 2 + rx) + 2, size)
    y = (np.arange(t, b, dtype=np.float32)[:, None] + np.float32(0.5 - feet)) / np.float32(ry)
    x = (np.arange(le, r, dtype=np.float32)[None, :] + np.float32(0.5 - (x0 + x1) / 2)) / np.float32(rx)
    soft = np.clip(1 - (x * x + y * y), 0, 1) * np.float32(strength * 1.5)
    picture[t:b, le:r] *= 1 - np.minimum(soft, np.float32(strength))[..., None]
    if scene.weather == "sunny":
        _cast(scene, placed, picture)


def _cast(scene: Scene, placed: Placed, picture: Picture) -> None:
    """The thing's outline, squashed and sheared over the ground away from the sun."""
    size = picture.shape[0]
    alpha = placed.layers.alpha
    squash = 0.42 if scene.time in ("dawn", "sunset") else 0.24
    body = placed.feet - placed.top
    length = min(int(body * squash), size - placed.feet)
    if length < 2:
        return
    slope = min(max((placed.thing.x - scene.sun_x) / 1000, -0.7), 0.7) * 1.4
    row = np.arange(length, dtype=np.float32) + np.float32(0.5)
    source = np.clip((body - row / np.float32(squash)).astype(np.int64), 0, alpha.shape[0] - 1)
    spread = int(abs(slope) * length) + 2
    width = alpha.shape[1]
    column = (
        np.arange(-spread, width + spread, dtype=np.float32)[None, :] - (row * np.float32(slope))[:, None]
    )
    lower = np.floor(column).astype(np.int64)
    share = (column - lower).astype(np.float32)
    flat = np.pad(alpha[source], ((0, 0), (1, 2)))
    index = np.arange(length)[:, None]
    cast = (
        flat[index, np.clip(lower + 1, 0, width + 2)] * (1 - share)
        + flat[index, np.clip(lower + 2, 0, width + 2)] * share
    )
    le, r = max(placed.left - spread, 0), min(placed.left + width + spread, size)
    cut = cast[:, le - placed.left + spread : r - placed.left + spread]
    fade = (1 - row / length * np.float32(0.5))[:, None] * np.float32(0.30 if scene.time != "night" else 0.2)
    picture[placed.feet : placed.feet + length, le:r] *= 1 - (cut * fade)[..., None]


def _reflect(scene: Scene, placed: Placed, picture: Picture, light: Light, on_water: bool) -> None:
    """The thing upside down below its feet, on water or wet ground."""
    if not on_water and not is_wet(scene.weather):
        return
    size = picture.shape[0]
    layers = placed.layers
    body = placed.feet - placed.top
    squash = 0.5 if on_water else 0.8
    rows = min(int(body * squash), size - placed.feet)
    le, r = max(placed.left, 0), min(placed.left + layers.alpha.shape[1], size)
    if rows < 2 or le >= r:
        return
    row = np.arange(rows, dtype=np.float32) + np.float32(0.5)
    source = np.clip((body - row / np.float32(squash)).astype(np.int64), 0, layers.alpha.shape[0] - 1)
    cut = slice(le - placed.left, r - placed.left)
    fade = (1 - row / rows)[:, None] * np.float32(0.46 if on_water else 0.42)
    alpha = layers.alpha[source, cut] * fade
    color = layers.color[source, cut] * (light.key * np.float32(0.9)) * fade[..., None]
    if is_lit(scene):
        color = color + layers.glow[source, cut] * fade[..., None]
    paint_over(picture[placed.feet : placed.feet + rows, le:r], color, alpha)
