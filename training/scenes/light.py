"""The light of every (time, weather): sky colors and what they do to things, landmarks and ground.

Knows nothing of shapes or pixels; all colors are daylight sRGB multiplied in sRGB, as a poster printer would.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.scenes.world import RGB

Factors = tuple[float, float, float]

SKIES: dict[tuple[str, str], tuple[RGB, RGB, RGB]] = {
    ("sunny", "dawn"): ((146, 158, 222), (246, 186, 200), (255, 226, 186)),
    ("sunny", "day"): ((28, 110, 214), (84, 170, 242), (198, 232, 252)),
    ("sunny", "sunset"): ((74, 38, 122), (216, 66, 108), (255, 164, 58)),
    ("sunny", "night"): ((8, 12, 44), (18, 32, 84), (48, 70, 132)),
    ("cloudy", "dawn"): ((160, 152, 194), (222, 178, 190), (248, 210, 196)),
    ("cloudy", "day"): ((104, 138, 172), (152, 178, 202), (204, 216, 224)),
    ("cloudy", "sunset"): ((92, 54, 108), (184, 78, 100), (244, 148, 84)),
    ("cloudy", "night"): ((14, 18, 42), (28, 36, 68), (50, 58, 96)),
    ("rainy", "dawn"): ((122, 112, 150), (174, 142, 164), (208, 174, 172)),
    ("rainy", "day"): ((78, 100, 124), (112, 134, 154), (152, 168, 180)),
    ("rainy", "sunset"): ((74, 48, 88), (144, 68, 90), (210, 118, 80)),
    ("rainy", "night"): ((10, 14, 32), (22, 28, 54), (42, 50, 80)),
    ("snowy", "dawn"): ((140, 134, 188), (202, 162, 192), (238, 200, 202)),
    ("snowy", "day"): ((104, 140, 186), (140, 172, 208), (188, 206, 226)),
    ("snowy", "sunset"): ((100, 66, 136), (186, 94, 132), (244, 162, 120)),
    ("snowy", "night"): ((18, 26, 62), (38, 50, 96), (74, 86, 134)),
    ("foggy", "dawn"): ((206, 186, 208), (232, 204, 210), (246, 222, 212)),
    ("foggy", "day"): ((180, 196, 206), (206, 216, 221), (224, 229, 230)),
    ("foggy", "sunset"): ((176, 106, 124), (222, 142, 118), (246, 180, 132)),
    ("foggy", "night"): ((28, 36, 60), (48, 58, 84), (72, 84, 110)),
    ("stormy", "dawn"): ((66, 56, 92), (112, 86, 116), (178, 132, 138)),
    ("stormy", "day"): ((44, 58, 78), (74, 92, 108), (122, 138, 144)),
    ("stormy", "sunset"): ((44, 22, 60), (112, 38, 68), (208, 88, 52)),
    ("stormy", "night"): ((5, 7, 20), (13, 17, 38), (32, 36, 62)),
}
"""Top, middle and horizon of the sky."""

_AMBIENT: dict[str, Factors] = {
    "dawn": (1.0, 0.87, 0.90),
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.74, 0.64),
    "night": (0.44, 0.47, 0.66),
}
_AMBIENT_WEATHER: dict[str, Factors] = {
    "sunny": (1.02, 1.01, 0.98),
    "cloudy": (0.88, 0.90, 0.93),
    "rainy": (0.74, 0.77, 0.82),
    "snowy": (0.92, 0.94, 1.0),
    "foggy": (0.92, 0.93, 0.95),
    "stormy": (0.58, 0.62, 0.70),
}
_KEY: dict[str, Factors] = {
    "dawn": (1.0, 0.93, 0.94),
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.85, 0.78),
    "night": (0.68, 0.69, 0.79),
}
_KEY_WEATHER = {"sunny": 1.0, "cloudy": 0.95, "rainy": 0.90, "snowy": 0.96, "foggy": 0.96, "stormy": 0.91}
_HAZE = {"sunny": 0.04, "cloudy": 0.08, "rainy": 0.16, "snowy": 0.14, "foggy": 0.46, "stormy": 0.12}


@dataclass(frozen=True)
class Light:
    """What lights a scene. Factors multiply daylight sRGB, colors are sRGB in [0, 1]."""

    top: NDArray[np.floating]
    middle: NDArray[np.floating]
    horizon: NDArray[np.floating]
    ambient: NDArray[np.floating]
    """On landmark and ground."""
    key: NDArray[np.floating]
    """On things: closer to white, so that their color can be told at night."""
    haze: float
    """Share of the horizon's color over the landmark."""


def light_of(time: str, weather: str) -> Light:
    """The light of one of the 24 (time, weather)."""
    top, middle, horizon = (np.array(color, np.float32) / 255 for color in SKIES[weather, time])
    ambient = np.array(_AMBIENT[time], np.float32) * np.array(_AMBIENT_WEATHER[weather], np.float32)
    if time == "night":
        ambient = np.maximum(ambient, np.array((0.36, 0.39, 0.55), np.float32))
    key = np.array(_KEY[time], np.float32) * np.float32(_KEY_WEATHER[weather])
    return Light(top, middle, horizon, ambient, key, _HAZE[weather])
