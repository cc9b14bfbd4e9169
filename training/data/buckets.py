"""A picture's size -> the bucket it is trained at, and the part of it that is seen there.

Knows nothing of pixels. A bucket depends on the picture and the settings alone, never on the other pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

ASPECTS = (1.0, 9 / 8, 5 / 4, 4 / 3, 3 / 2, 5 / 3, 16 / 9, 2.0, 9 / 4, 5 / 2, 3.0, 7 / 2, 4.0)
"""Aspect ratios that buckets aim at: those of cameras and screens, and some between them."""
SMALLEST_AREA = 0.8
"""Least share of resolution^2 that a bucket covers."""
AREA_WEIGHT = 0.1
"""What a lack of area weighs against an error of the aspect ratio, when sides are chosen."""

Size = tuple[int, int]
"""Height, width in pixels."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the whole picture; fractions of a pixel count."""


@dataclass(frozen=True)
class Fit:
    """Where a picture goes."""

    bucket: int
    lost: float
    """Share of the picture's area that is cropped off, in [0, 1)."""
    enlargement: float
    """Pixels of the bucket's side for one of the picture's; above 1 the picture is enlarged."""


@lru_cache(maxsize=16)
def bucket_sizes(resolution: int, *, factor: int, largest_aspect: float) -> tuple[Size, ...]:
    """Sizes with about resolution^2 pixels and never more, sides multiples of `factor`; the square is first.

    For each of `ASPECTS` up to `largest_aspect`, lying and standing, the size that comes nearest to it.

    Raises:
        ValueError: a value out of its range.
    """
    if factor < 1 or resolution < factor or resolution % factor:
        below = max(factor, resolution // max(factor, 1) * factor)
        raise ValueError(
            f"resolution={resolution}: must be a multiple of factor={factor}; "
            f"choose {below} or {below + factor}."
        )
    if not 1 <= largest_aspect <= ASPECTS[-1]:
        raise ValueError(f"largest_aspect={largest_aspect}: choose from 1 to {ASPECTS[-1]:g}.")
    sizes: dict[Size, None] = {(resolution, resolution): None}
    for aspect in ASPECTS[1:]:
        if aspect > largest_aspect * (1 + 1e-9):
            break
        short, long = _nearest(aspect, resolution, factor)
        sizes |= {(short, long): None, (long, short): None}
    return tuple(sizes)


def best_fit(size: Size, sizes: Sequence[Size]) -> Fit:
    """The bucket that loses the least of a picture; among equal ones the first."""
    lost = [1 - _kept(size, bucket) for bucket in sizes]
    bucket = min(range(len(sizes)), key=lambda number: (round(lost[number], 9), number))
    scale = max(sizes[bucket][0] / size[0], sizes[bucket][1] / size[1])
    return Fit(bucket=bucket, lost=max(0.0, lost[bucket]), enlargement=scale)


def seen_part(size: Size, bucket: Size, *, across: float = 0.5) -> Box:
    """The largest part of a picture with the bucket's aspect ratio, so that resizing it squashes nothing.

    `across` in [0, 1] says where along the cropped axis: 0.5 is the middle.
    """
    height, width = size
    scale = max(bucket[0] / height, bucket[1] / width)
    seen_height, seen_width = min(height, bucket[0] / scale), min(width, bucket[1] / scale)
    left, top = (width - seen_width) * across, (height - seen_height) * across
    return (left, top, min(width, left + seen_width), min(height, top + seen_height))


def _kept(size: Size, bucket: Size) -> float:
    picture, wanted = size[1] / size[0], bucket[1] / bucket[0]
    return min(picture, wanted) / max(picture, wanted)


def _nearest(aspect: float, resolution: int, factor: int) -> Size:
    """(short, long) side of the bucket for an aspect ratio of at least 1."""
    area = resolution * resolution
    candidates = []
    for short in range(factor, resolution + 1, factor):
        ideal = round(short * aspect / factor) * factor
        for long in (ideal - factor, ideal, ideal + factor):
            if short <= long and short * long <= area:
                error = abs(math.log(long / short / aspect)) + AREA_WEIGHT * (1 - short * long / area)
                candidates.append((short * long < SMALLEST_AREA * area, error, short, long))
    _, _, short, long = min(candidates)
    return short, long
