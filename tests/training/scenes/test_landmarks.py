"""What a landmark promises: something of its own for every city, inside its extent, white when it snows.

Does not know what the landmarks look like; people judge that on contact sheets.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.scenes.canvas import Canvas, Layers
from training.scenes.landmarks import draw_landmark, landmark_extent
from training.scenes.world import CITIES

SIZE, UNIT = 128, 48.0
MIDDLE, HORIZON = 64.0, 80.0


def drawn(city: str, *, variation: int = 1, snow: bool = False) -> Layers:
    canvas = Canvas(SIZE, SIZE, supersample=2)
    draw_landmark(canvas.pen(MIDDLE, HORIZON, UNIT), city, variation=variation, snow=snow)
    return canvas.layers()


def whiteness(layers: Layers) -> float:
    """Area, in pixels, in which the brightest and the darkest primary are both nearly full."""
    color: NDArray[np.float32] = layers.color
    return float((color.min(axis=2) > 0.93).sum())


@pytest.mark.parametrize("city", CITIES)
def test_a_landmark_fills_its_place_and_stays_within_its_extent(city: str) -> None:
    alpha = drawn(city).alpha
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    left, right = landmark_extent(city)
    assert left * UNIT + MIDDLE - 1 <= columns[0]
    assert columns[-1] <= right * UNIT + MIDDLE + 1
    assert 0.6 <= (HORIZON - rows[0]) / UNIT <= 1.03
    assert (HORIZON - rows[-1]) / UNIT >= -0.09
    assert 0.03 < alpha.mean() < 0.5


def test_no_two_cities_look_alike() -> None:
    small = {}
    for city in CITIES:
        layers = drawn(city)
        picture = layers.color + 0.5 * (1 - layers.alpha[..., None])
        small[city] = picture.reshape(16, 8, 16, 8, 3).mean(axis=(1, 3))
    for a in CITIES:
        for b in CITIES:
            if a < b:
                assert np.abs(small[a] - small[b]).mean() > 0.01, (a, b)


@pytest.mark.parametrize("city", CITIES)
def test_snow_whitens_a_landmark(city: str) -> None:
    plain, snowy = drawn(city), drawn(city, snow=True)
    assert whiteness(snowy) > whiteness(plain) + 15
    assert np.abs(snowy.alpha - plain.alpha).mean() < 0.02


@pytest.mark.parametrize("city", CITIES)
def test_a_landmark_gives_off_light_but_not_everywhere(city: str) -> None:
    layers = drawn(city)
    lit = layers.glow.max(axis=2) > 0.1
    assert 5 < lit.sum() < 0.9 * (layers.alpha > 0.5).sum()


@pytest.mark.parametrize("city", CITIES)
def test_the_same_arguments_draw_the_same_pixels(city: str) -> None:
    first, second = drawn(city, variation=12345), drawn(city, variation=12345)
    assert np.array_equal(first.color, second.color)
    assert np.array_equal(first.glow, second.glow)


@pytest.mark.parametrize("city", CITIES)
def test_variation_changes_details_only(city: str) -> None:
    pictures = [drawn(city, variation=v).color for v in (0, 7, 2**31 - 1)]
    assert max(np.abs(pictures[0] - other).mean() for other in pictures[1:]) < 0.06


def test_an_unknown_city_is_refused_by_name() -> None:
    canvas = Canvas(8, 8)
    with pytest.raises(ValueError, match="'atlantis' has no landmark"):
        draw_landmark(canvas.pen(4, 6, 4), "atlantis", variation=0, snow=False)
    with pytest.raises(ValueError, match="'atlantis' has no landmark"):
        landmark_extent("atlantis")
