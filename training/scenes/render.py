"""A scene's pixels: `render` lays backdrop, things, light and weather over each other and says what is seen.

Knows nothing of captions or of how single landmarks and things are drawn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.scenes.backdrop import draw_backdrop
from training.scenes.light import Light, light_of
from training.scenes.parts import NOTHING, part_code
from training.scenes.scene import Scene
from training.scenes.shine import shine
from training.scenes.sky import Picture, grid
from training.scenes.standing import Placed, place, stand
from training.scenes.styles import STYLIZE, color_after, style_light
from training.scenes.visibility import Visibility, color_table, judge
from training.scenes.weather import has_precipitation, lay_weather
from training.scenes.world import COLORS

MIN_WEATHER_CONTRAST = 0.006
"""Mean change of the picture (of 1) by rain or snow under which the weather cannot be told."""


@dataclass(frozen=True)
class Rendering:
    """A picture and the truth about it."""

    image: NDArray[np.uint8]
    """size x size x 3, sRGB."""
    masks: tuple[NDArray[np.bool_], ...]
    """Visible pixels of each thing, size x size; disjoint."""
    parts: NDArray[np.uint8]
    """What each pixel belongs to, size x size, coded as in `parts.py`."""
    visibility: tuple[Visibility, ...]
    """One per thing."""
    weather_seen: bool
    """Whether rain or snow stands out; True for the weathers that color the whole picture."""


def render(scene: Scene, size: int = 128) -> Rendering:
    """Draw `scene` at `size` x `size` pixels: a pure function, the same composition at every size.

    Raises ValueError unless 64 <= size <= 512.
    """
    if not 64 <= size <= 512:
        raise ValueError(f"size: {size} is out of range; choose 64 to 512 pixels.")
    light = style_light(scene.style, light_of(scene.time, scene.weather))
    glow = np.zeros((size, size, 3), np.float32)
    picture = draw_backdrop(scene, size, light, glow)
    order = sorted(range(len(scene.things)), key=lambda i: (scene.things[i].y, i))
    owner = np.full((size, size), -1, np.int16)
    placed: dict[int, Placed] = {}
    for index in order:
        placed[index] = place(scene, scene.things[index], size)
        stand(scene, placed[index], picture, glow, owner, index, light)
    shine(scene, picture, glow)
    picture = STYLIZE[scene.style](scene, picture, owner)
    before = picture.copy()
    lay_weather(scene, picture, light)
    contrast = float(np.abs(picture - before).mean())
    weather_seen = contrast >= MIN_WEATHER_CONTRAST or not has_precipitation(scene.weather)
    _vignette(picture)
    np.clip(picture, 0, 1, out=picture)
    masks = tuple(owner == index for index in range(len(scene.things)))
    shown = [_shown(masks[index], placed[index]) for index in range(len(scene.things))]
    return Rendering(
        image=(picture * 255 + np.float32(0.5)).astype(np.uint8),
        masks=masks,
        parts=_parts(shown, size),
        visibility=tuple(_judge(scene, picture, one, light) for one in shown),
        weather_seen=weather_seen,
    )


def _vignette(picture: Picture) -> None:
    y, x = grid(picture.shape[0])
    picture *= (1 - np.float32(0.16) * ((x - np.float32(0.5)) ** 2 + (y - np.float32(0.5)) ** 2))[..., None]


@dataclass(frozen=True)
class _Shown:
    """What is visible of a thing: its mask in the picture, its parts in box coordinates."""

    placed: Placed
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    """Top, bottom, left, right."""
    full_area: int
    own: NDArray[np.bool_]
    garments: list[NDArray[np.bool_]]


def _shown(mask: NDArray[np.bool_], placed: Placed) -> _Shown:
    size = mask.shape[0]
    layers = placed.layers
    height, width = layers.alpha.shape
    t, b = max(placed.top, 0), min(placed.top + height, size)
    le, r = max(placed.left, 0), min(placed.left + width, size)
    cut = (slice(t - placed.top, b - placed.top), slice(le - placed.left, r - placed.left))
    visible = mask[t:b, le:r]
    empty = np.zeros(visible.shape, bool)

    def part(number: int) -> NDArray[np.bool_]:
        plane = layers.parts.get(number)
        return empty if plane is None else (plane[cut] > 0.75) & visible

    return _Shown(
        placed=placed,
        mask=mask,
        box=(t, b, le, r),
        full_area=int(np.count_nonzero(layers.alpha[cut] > 0.5)),
        own=part(1),
        garments=[part(2 + i) for i in range(len(placed.thing.garments))],
    )


def _parts(shown: list[_Shown], size: int) -> NDArray[np.uint8]:
    codes = np.full((size, size), NOTHING, np.uint8)
    for one in shown:
        thing = one.placed.thing
        top, bottom, left, right = one.box
        here = codes[top:bottom, left:right]
        here[one.mask[top:bottom, left:right]] = part_code(thing.kind, None)
        here[one.own] = part_code(thing.kind, thing.color)
        for garment, pixels in zip(thing.garments, one.garments, strict=True):
            here[pixels] = part_code(f"{thing.kind}.{garment.kind}", garment.color)
    return codes


def _judge(scene: Scene, picture: Picture, shown: _Shown, light: Light) -> Visibility:
    thing = shown.placed.thing
    nominal = np.array(list(COLORS.values()), np.float32) / 255
    return judge(
        picture,
        mask=shown.mask,
        box=shown.box,
        full_area=shown.full_area,
        own=shown.own,
        garments=shown.garments,
        color=thing.color,
        garment_colors=[garment.color for garment in thing.garments],
        table=color_table(color_after(scene.style, nominal * light.key)),
    )
