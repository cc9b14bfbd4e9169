"""Everything behind the things: sky, lightning, skyline, landmark, ground and water, with what they mirror.

Knows nothing of things, or of the weather in front of them.
"""

import numpy as np

from training.scenes.canvas import Canvas, Layers
from training.scenes.ground import draw_ground, draw_skyline, draw_water, horizon_row, promenade_row
from training.scenes.landmarks import draw_landmark
from training.scenes.light import Light
from training.scenes.scene import HORIZON, Scene
from training.scenes.shine import bloom
from training.scenes.sky import Picture, draw_sky, grid, light_over, oversampling, paint_over
from training.scenes.weather import bolt, fog_banks, is_wet, turn_over, wet_ground

FLOODLIGHT = np.array((0.30, 0.24, 0.14), np.float32)
"""Warm light from below on landmarks at night, added to the ambient factors at the horizon."""


def draw_backdrop(scene: Scene, size: int, light: Light, glow: Picture) -> Picture:
    """Everything behind the things; the landmark's lit windows go to `glow`."""
    horizon, promenade = horizon_row(size), promenade_row(scene, size)
    snow = scene.weather == "snowy"
    picture = draw_sky(scene, size, light)
    if scene.weather == "stormy":
        flash = bolt(scene, size)
        rows = flash.alpha.shape[0]
        halo = bloom(flash.glow, radius=0.06)
        picture[:rows] += (1 - picture[:rows]) * np.minimum(halo * np.float32(1.5), 0.55)
        paint_over(picture[:rows], flash.color, flash.alpha)
    skyline = draw_skyline(scene, size, snow=snow)
    far = min(0.50 + light.haze * 0.8, 0.9)
    light_over(picture[:horizon], skyline, light.ambient, light.horizon, far)

    rows = min(size, horizon + size // 20)
    canvas = Canvas(size, rows, supersample=oversampling(size))
    unit = scene.landmark_height * size / 1000
    pen = canvas.pen(scene.landmark_x * size / 1000, HORIZON * size / 1000, unit)
    draw_landmark(pen, scene.city, variation=scene.variation, snow=snow)
    landmark = canvas.layers()
    y, _ = grid(size)
    rise = np.clip(y[:rows] / np.float32(HORIZON / 1000), 0, 1)
    haze = np.float32(light.haze) * (np.float32(0.72) + np.float32(0.5) * rise)
    ambient = light.ambient
    if scene.time == "night":
        ambient = ambient + FLOODLIGHT * (rise**2)[..., None]
    light_over(picture[:rows], landmark, ambient, light.horizon, haze)
    if scene.time == "night":
        glow[:rows] += landmark.glow * (1 - haze[..., None] * np.float32(0.6))
        picture[:rows] *= 1 - np.clip(landmark.glow, 0, 1)
    seen = np.minimum(picture + glow, 1)
    turned = turn_over(seen, horizon, size - horizon, reach=1.75, sway=0.004)
    ground = draw_ground(scene, size, snow=snow).color * light.ambient
    if is_wet(scene.weather):
        ground = wet_ground(scene, ground, turned[promenade - horizon :])
    if scene.weather == "foggy":
        t = 1 - (np.arange(size - promenade, dtype=np.float32) / (size - promenade))[:, None, None]
        ground += (light.horizon - ground) * (np.float32(0.16) + np.float32(0.44) * t)
    lower = [ground]
    if scene.has_water:
        rows_of_water = promenade - horizon
        water_mirror = turn_over(seen, horizon, rows_of_water, reach=3.2, sway=0.006)
        water = draw_water(scene, water_mirror, light.ambient)
        if scene.weather == "foggy":
            water += (light.horizon - water) * np.float32(0.5)
        lower.insert(0, water)
    picture[horizon:] = np.concatenate(lower)
    feet = Layers(landmark.color[horizon:rows], landmark.alpha[horizon:rows], landmark.glow[horizon:rows], {})
    feet_light = ambient if scene.time != "night" else ambient[horizon:rows]
    light_over(picture[horizon:rows], feet, feet_light, light.horizon, haze[horizon:rows])
    if scene.weather == "foggy":
        veil = fog_banks(scene, size)[..., None]
        picture += (np.minimum(light.horizon * np.float32(1.06), 1) - picture) * veil
        glow *= 1 - veil * np.float32(0.5)
    return picture
