"""What of a scene can be told by eye: the part of each thing's record that captions may speak of.

Knows nothing of drawing; it looks at displayed pixels and exact masks only. Color distances are Euclidean in
Oklab times 100 (https://bottosson.github.io/posts/oklab/): 2 is just noticeable, red to green about 35.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.scenes.world import COLORS

MIN_AREA = 0.0040
"""Visible share of the picture under which a thing is not `seen` (8 x 8 pixels of 128 x 128)."""
MAX_OCCLUDED = 0.72
"""Hidden share above which a thing is not `seen`."""
MIN_COLOR_DISTANCE = 4.0
"""Oklab distance from the surroundings under which a thing is not `seen`."""
MIN_GARMENT_AREA = 0.0007
"""Visible share of the picture under which a garment is not seen (11 pixels of 128 x 128)."""

_TO_LMS = np.array(
    (
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    )  # fmt: skip
)
_TO_LAB = np.array(
    (
        (0.2104542553, 0.7936177850, -0.0040720468),
        (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660),
    )  # fmt: skip
)


@dataclass(frozen=True, kw_only=True)
class Visibility:
    """How well one thing can be told."""

    area: float
    """Visible share of the picture, in [0, 1]."""
    occluded: float
    """Share of the thing inside the picture that later things hide, in [0, 1]."""
    color_distance: float
    """Oklab distance (x 100) of its own part from the surroundings, as displayed."""
    seen: bool
    color_seen: bool
    """The displayed color is nearest to its own name among the eight, all lit by the same light."""
    garments_seen: tuple[bool, ...]


def oklab(srgb: NDArray[np.floating]) -> NDArray[np.float64]:
    """Oklab x 100 of sRGB in [0, 1], ... x 3."""
    c = np.clip(np.asarray(srgb, np.float64), 0, 1)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T * 100


def color_table(lit: NDArray[np.floating]) -> NDArray[np.float64]:
    """Oklab of the eight colors under a light: `lit` holds their sRGB, 8 x 3, in the order of `COLORS`."""
    return oklab(lit)


def judge(
    picture: NDArray[np.floating],
    *,
    mask: NDArray[np.bool_],
    box: tuple[int, int, int, int],
    full_area: int,
    own: NDArray[np.bool_],
    garments: Sequence[NDArray[np.bool_]],
    color: str,
    garment_colors: Sequence[str],
    table: NDArray[np.float64],
) -> Visibility:
    """Visibility of one thing in the finished `picture` (size x size x 3 in [0, 1]).

    `mask`: its visible pixels, size x size; `box` = (top, bottom, left, right) encloses it; `full_area`: its
    pixels before occlusion; `own` and `garments`: visible pixels of the part in its own color and of each
    garment, in box coordinates; `table`: `color_table` of the light that falls on it.
    """
    size = picture.shape[0]
    top, bottom, left, right = box
    visible = int(np.count_nonzero(mask[top:bottom, left:right]))
    area = visible / size**2
    occluded = 1 - visible / full_area if full_area else 1.0
    inside = picture[top:bottom, left:right]
    if not own.any():
        return Visibility(area=area, occluded=occluded, color_distance=0.0, seen=False, color_seen=False,
                          garments_seen=(False,) * len(garments))  # fmt: skip
    displayed = oklab(inside[own].mean(axis=0, dtype=np.float64))
    margin = max(2, size // 24)
    t, b, le, r = (
        max(top - margin, 0),
        min(bottom + margin, size),
        max(left - margin, 0),
        min(right + margin, size),
    )
    around = picture[t:b, le:r][~mask[t:b, le:r]]
    distance = 0.0
    if len(around):
        distance = float(np.sqrt(((displayed - oklab(around.mean(axis=0, dtype=np.float64))) ** 2).sum()))
    names = list(COLORS)
    seen = area >= MIN_AREA and occluded <= MAX_OCCLUDED and distance >= MIN_COLOR_DISTANCE
    garments_seen = tuple(
        bool(
            seen
            and np.count_nonzero(part) >= MIN_GARMENT_AREA * size**2
            and _nearest(inside[part], table) == names.index(name)
        )
        for part, name in zip(garments, garment_colors, strict=True)
    )
    return Visibility(area=area, occluded=occluded, color_distance=distance, seen=seen,
                      color_seen=seen and _nearest(inside[own], table) == names.index(color),
                      garments_seen=garments_seen)  # fmt: skip


def _nearest(pixels: NDArray[np.floating], table: NDArray[np.float64]) -> int:
    """Index of the color nearest to the mean of `pixels`, n x 3."""
    return int(((table - oklab(pixels.mean(axis=0, dtype=np.float64))) ** 2).sum(axis=1).argmin())
