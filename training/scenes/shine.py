"""Light that the scene gives off itself: lit windows and lamps, what they spill, and the pools below lamps.

Knows nothing of who glows, apart from lamps.
"""

import numpy as np
from PIL import Image, ImageFilter

from training.scenes.scene import Scene, Thing
from training.scenes.sky import Picture, grid


def is_lit(scene: Scene) -> bool:
    """Whether lamps burn and things have their lights on."""
    return scene.time == "night" or scene.weather in ("foggy", "stormy")


def shine(scene: Scene, picture: Picture, glow: Picture) -> None:
    """Add what glows, the light it spills, and the pools of lamps on the ground, in place."""
    if not is_lit(scene):
        return
    size = picture.shape[0]
    strength = 1.0 if scene.time == "night" else 0.55
    for thing in scene.things:
        if thing.kind == "lamp":
            _pool(picture, thing, size, strength)
    if not glow.any():
        return
    picture += glow
    spill = bloom(glow, radius=0.022) * np.float32(0.65) + bloom(glow, radius=0.065) * np.float32(0.55)
    picture += (1 - np.clip(picture, 0, 1)) * spill * np.float32(strength)


def _pool(picture: Picture, thing: Thing, size: int, strength: float) -> None:
    y, x = grid(size)
    dx = (x - np.float32(thing.x / 1000)) / np.float32(0.20)
    warm = np.array((1.0, 0.82, 0.45), np.float32) * np.float32(strength)
    dy = (y - np.float32(thing.y / 1000)) / np.float32(0.055)
    pool = np.clip(1 - (dx * dx + dy * dy), 0, 1) * np.float32(0.34)
    ey = (y - np.float32((thing.y - 0.86 * thing.height) / 1000)) / np.float32(0.20)
    halo = np.clip(1 - np.sqrt(dx * dx + ey * ey), 0, 1) ** 2 * np.float32(0.42)
    picture += (1 - np.clip(picture, 0, 1)) * (pool + halo)[..., None] * warm


def bloom(glow: Picture, *, radius: float) -> Picture:
    """Light spilling around what glows, the same shape as `glow`; `radius` in picture heights."""
    size = glow.shape[1]
    small = Image.fromarray((np.clip(glow, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)).reduce(2)
    pixels = radius * size / 2
    wide = small
    for _ in range(2):
        wide = wide.filter(ImageFilter.BoxBlur(pixels))
    return np.asarray(wide.resize((size, glow.shape[0]), Image.Resampling.BILINEAR), dtype=np.float32) / 255
