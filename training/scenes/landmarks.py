"""The landmark of each city, in units of its height upward from the horizon.

Knows nothing of weather, time or things; the drawings themselves are in `landmarks_*.py`.
"""

from collections.abc import Callable

from training.scenes import landmarks_america, landmarks_east, landmarks_europe, landmarks_mediterranean
from training.scenes.canvas import Pen
from training.scenes.world import CITIES

_DRAWINGS: dict[str, Callable[..., None]] = {
    "paris": landmarks_europe.paris,
    "london": landmarks_europe.london,
    "rome": landmarks_mediterranean.rome,
    "cairo": landmarks_east.cairo,
    "new york": landmarks_america.new_york,
    "tokyo": landmarks_east.tokyo,
    "agra": landmarks_east.agra,
    "venice": landmarks_mediterranean.venice,
    "sydney": landmarks_east.sydney,
    "berlin": landmarks_europe.berlin,
    "moscow": landmarks_europe.moscow,
    "pisa": landmarks_mediterranean.pisa,
    "athens": landmarks_mediterranean.athens,
    "san francisco": landmarks_america.san_francisco,
    "rio": landmarks_america.rio,
    "seattle": landmarks_america.seattle,
}

_EXTENTS: dict[str, tuple[float, float]] = {
    "paris": (-0.98, 1.01),
    "london": (-0.98, 1.24),
    "rome": (-0.98, 1.0),
    "cairo": (-1.02, 1.02),
    "new york": (-1.18, 1.21),
    "tokyo": (-1.02, 1.1),
    "agra": (-0.9, 0.91),
    "venice": (-1.18, 1.18),
    "sydney": (-1.17, 1.17),
    "berlin": (-0.79, 0.79),
    "moscow": (-0.62, 0.62),
    "pisa": (-1.05, 0.87),
    "athens": (-1.02, 1.02),
    "san francisco": (-1.19, 1.19),
    "rio": (-1.18, 1.18),
    "seattle": (-1.18, 1.18),
}
"""Measured at 400 pixels a unit over variations and snow, with a margin of 0.02."""


def draw_landmark(pen: Pen, city: str, *, variation: int, snow: bool) -> None:
    """Draw the city's landmark; y = 0 is the horizon, y = 1 the tip of the tallest, x = 0 its middle.

    `variation` (>= 0) changes details that no caption names; `snow` puts white caps on roofs and ledges.
    Windows and beacons give off light. Raises ValueError for a city without a landmark.
    """
    if city not in _DRAWINGS:
        raise ValueError(f"city: {city!r} has no landmark; choose from {', '.join(CITIES)}.")
    _DRAWINGS[city](pen, variation=variation, snow=snow)


def landmark_extent(city: str) -> tuple[float, float]:
    """Left and right end of the drawing in units from its middle, side houses and hills included.

    What a city is recognized by lies within 0.64 units of the middle, except for a bridge's ends. Raises
    ValueError for a city without a landmark.
    """
    if city not in _EXTENTS:
        raise ValueError(f"city: {city!r} has no landmark; choose from {', '.join(CITIES)}.")
    return _EXTENTS[city]
