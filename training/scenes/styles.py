"""Drawing styles: what ink, watercolor and neon make of a flat, lit picture.

Knows nothing of what is in the picture beyond which pixels belong to things.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training.scenes.light import Light
from training.scenes.scene import Scene
from training.scenes.shine import bloom
from training.scenes.sky import Picture, grid

Owner = NDArray[np.int16]
Stylize = Callable[[Scene, Picture, Owner], Picture]

PAPER = np.array((0.975, 0.958, 0.915), np.float32)
INK = np.array((0.085, 0.090, 0.160), np.float32)
DARK = np.array((0.030, 0.020, 0.075), np.float32)
"""The night behind neon."""
LUMA = np.array((0.299, 0.587, 0.114), np.float32)
WATER = 0.84
"""How strong watercolor pigments are."""
_WASH = {"thing": 0.94, "rest": 0.62}
_NEON_FILL = {"thing": 0.52, "rest": 0.24}


def style_light(style: str, light: Light) -> Light:
    """The light to draw in before the style is applied: neon dims full daylight colors by itself."""
    if style == "neon":
        full = np.ones(3, np.float32)
        return replace(light, ambient=full * np.float32(0.92), key=full)
    return light


def flat(scene: Scene, picture: Picture, owner: Owner) -> Picture:
    """As it is: a travel poster."""
    return picture


def ink(scene: Scene, picture: Picture, owner: Owner) -> Picture:
    """Pen lines and hatching on paper, under thin washes of color."""
    size = picture.shape[0]
    picture = np.clip(picture, 0, 1)
    dark = np.clip(1 - picture @ LUMA, 0, 1)
    belongs = (owner >= 0).astype(np.float32)[..., None]
    share = _WASH["rest"] + (_WASH["thing"] - _WASH["rest"]) * belongs
    out = PAPER * (1 - (1 - picture) * share)
    y, x = grid(size)
    for direction, start in ((1.0, 0.42), (-1.0, 0.76)):
        wave = np.abs(((x + np.float32(direction) * y) * np.float32(21.0)) % 1 - np.float32(0.5)) * 2
        width = np.clip((dark - np.float32(start)) * np.float32(0.9), 0, 0.26)
        stroke = np.clip((wave - 1 + width) * np.float32(size / 42.0) + np.float32(0.5) * (width > 0), 0, 1)
        out += (INK - out) * (stroke[..., None] * (1 - belongs) * np.float32(0.34))
    lines = outlines(picture, low=0.09, high=0.40)[..., None]
    fine = outlines(picture, low=0.30, high=0.90)[..., None] * np.float32(0.45)
    out += (INK - out) * (lines * np.float32(0.88) * (1 - belongs) + fine * belongs)
    return out


def watercolor(scene: Scene, picture: Picture, owner: Owner) -> Picture:
    """Pigment on rough paper: it bleeds, granulates, dries darker at edges, and leaves a white border."""
    size = picture.shape[0]
    picture = np.clip(picture, 0, 1)
    bled = _blurred(picture, 0.012)
    picture = picture * np.float32(0.76) + bled * np.float32(0.24)
    soft = _blurred(outlines(picture, low=0.03, high=0.30)[..., None].repeat(3, axis=2), 0.004)
    belongs = (owner >= 0).astype(np.float32)[..., None]
    picture = picture * (1 - (np.float32(0.26) - np.float32(0.16) * belongs) * soft)
    grain, cloud = (
        np.roll(t, (scene.variation % size, scene.variation // 512 % size), (0, 1)) for t in paper(size)
    )
    pigment = (1 - picture) * np.float32(WATER)
    rough = np.float32(0.24) * cloud + np.float32(0.16) * grain - np.float32(0.04)
    pigment = pigment * (1 + rough[..., None] * (np.float32(1.25) - pigment))
    out = PAPER * (1 - np.clip(pigment, 0, 1)) * (1 + np.float32(0.035) * grain)[..., None]
    y, x = grid(size)
    inset = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) + np.float32(0.018) * cloud
    dry = np.clip((np.float32(0.030) - inset) * np.float32(70) + np.float32(0.5), 0, 1)[..., None]
    rim = np.clip(1 - np.abs(inset - np.float32(0.040)) * np.float32(90), 0, 1)[..., None]
    return out * (1 - np.float32(0.14) * rim) * (1 - dry) + PAPER * dry


def neon(scene: Scene, picture: Picture, owner: Owner) -> Picture:
    """Glowing tubes along every outline, dim fills, a dark night."""
    size = picture.shape[0]
    picture = np.clip(picture, 0, 1)
    belongs = (owner >= 0).astype(np.float32)[..., None]
    share = _NEON_FILL["rest"] + (_NEON_FILL["thing"] - _NEON_FILL["rest"]) * belongs
    foggy = scene.weather == "foggy"  # where outlines are faint and the veil itself glows
    share = share * np.float32(1.9 if foggy else 1.0) * (1 - belongs) + share * belongs
    lines = outlines(picture, low=0.035 if foggy else 0.08, high=0.18 if foggy else 0.30)[..., None]
    reach = 2 * max(1, round(size / 160)) + 1
    bright = _uint8(picture)
    for _ in range((reach - 1) // 2):
        bright = bright.filter(ImageFilter.MaxFilter(3))
    spread = _blurred(np.asarray(bright, dtype=np.float32) / 255, 0.002)
    tubes = lines * _vivid(spread + (picture - spread) * belongs)
    out = DARK + _saturated(picture) * share
    out = out * (1 - np.float32(0.85) * lines) + tubes
    spill = bloom(tubes, radius=0.014) * np.float32(0.55) + bloom(tubes, radius=0.045) * np.float32(0.45)
    return out + (1 - np.clip(out, 0, 1)) * spill * (1 - np.float32(0.45) * belongs)


STYLIZE: dict[str, Stylize] = {"flat": flat, "ink": ink, "watercolor": watercolor, "neon": neon}


def color_after(style: str, colors: NDArray[np.floating]) -> NDArray[np.floating]:
    """What a style makes of a large thing in each lit color, n x 3 in [0, 1]."""
    if style == "ink":
        return PAPER * (1 - (1 - colors) * _WASH["thing"])
    if style == "watercolor":
        return PAPER * (1 - (1 - colors) * np.float32(WATER))
    if style == "neon":
        fill = DARK + _saturated(colors) * _NEON_FILL["thing"]
        return fill * np.float32(0.85) + _vivid(colors) * np.float32(0.28) + np.float32(0.04)
    return colors


def outlines(picture: Picture, *, low: float, high: float) -> Picture:
    """Where the picture changes quickly, size x size in [0, 1]: 0 below a change of `low`, 1 above `high`.

    Lines are as wide at every size: about 1/64 of the picture.
    """
    size = picture.shape[0]
    reach = max(1, round(size / 150))
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    inner = slice(reach, -reach)
    across = np.abs(padded[inner, 2 * reach :] - padded[inner, : -2 * reach]).max(axis=2)
    down = np.abs(padded[2 * reach :, inner] - padded[: -2 * reach, inner]).max(axis=2)
    lines = np.clip((np.maximum(across, down) - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.clip(_blurred(lines, 0.35 * reach / size) * 2 - np.float32(0.5), 0, 1) if reach > 1 else lines


@lru_cache(maxsize=8)
def paper(size: int) -> tuple[Picture, Picture]:
    """Fine grain and broad clouds of rough paper, size x size each, about in [-1, 1]."""
    return _noise(size, (96, 48), 1), _noise(size, (12, 6), 2)


def _noise(size: int, cells: tuple[int, ...], seed: int) -> Picture:
    """Smooth random fields of ever fewer cells, added up."""
    rng = Generator(PCG64(seed))
    total = np.zeros((size, size), np.float32)
    for count in cells:
        field = rng.integers(0, 256, (count, count), dtype=np.uint8)
        field = np.pad(field, ((0, 1), (0, 1)), mode="wrap")
        image = Image.fromarray(field).resize((size, size), Image.Resampling.BICUBIC)
        total += np.asarray(image, dtype=np.float32) / np.float32(127.5) - 1
    return total / len(cells)


def _saturated(colors: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.clip(colors + (colors - (colors @ LUMA)[..., None]) * np.float32(0.30), 0, 1)


def _vivid(colors: NDArray[np.floating]) -> NDArray[np.floating]:
    """The color of a neon tube: as bright and pure as its hue allows; dark colors stay dim."""
    peak, low = colors.max(axis=-1, keepdims=True), colors.min(axis=-1, keepdims=True)
    pure = (colors - low * np.float32(0.75)) / np.maximum(peak - low * np.float32(0.75), np.float32(0.12))
    return np.minimum(pure, 1) * (np.float32(0.10) + np.float32(0.90) * peak)


def _uint8(picture: Picture) -> Image.Image:
    return Image.fromarray((np.clip(picture, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8))


def _blurred(picture: Picture, radius: float) -> Picture:
    """Twice box-blurred; `radius` in picture heights."""
    image = _uint8(picture)
    for _ in range(2):
        image = image.filter(ImageFilter.BoxBlur(radius * picture.shape[0]))
    return np.asarray(image, dtype=np.float32) / 255
