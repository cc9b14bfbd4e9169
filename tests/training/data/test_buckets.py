"""Buckets cover the usual shapes, never squash, and lose little."""

import random

import pytest

from training.data.buckets import ASPECTS, best_fit, bucket_sizes, seen_part
from training.data.picture_config import LARGEST_TRIM

SETTINGS = [(64, 8, 2.0), (128, 8, 2.0), (256, 8, 2.0), (512, 8, 2.0), (512, 8, 4.0), (1024, 64, 2.0)]


@pytest.mark.parametrize("resolution, factor, aspect", SETTINGS)
def test_sizes_are_multiples_with_nearly_the_area_of_the_square(resolution: int, factor: int, aspect: float):
    sizes = bucket_sizes(resolution, factor=factor, largest_aspect=aspect)
    assert sizes[0] == (resolution, resolution) and len(set(sizes)) == len(sizes)
    assert {(width, height) for height, width in sizes} == set(sizes)
    for height, width in sizes:
        assert height % factor == width % factor == 0
        assert 0.75 * resolution**2 <= height * width <= resolution**2
    assert len(sizes) <= 2 * len(ASPECTS) - 1


@pytest.mark.parametrize("resolution, factor, aspect", [one for one in SETTINGS if one[0] >= 128])
def test_a_picture_up_to_the_largest_aspect_loses_no_more_than_the_trim(
    resolution: int, factor: int, aspect: float
):
    sizes = bucket_sizes(resolution, factor=factor, largest_aspect=aspect)
    draws = random.Random(0)
    for _ in range(2000):
        ratio = aspect ** draws.uniform(-1, 1)
        fit = best_fit((3000, round(3000 * ratio)), sizes)
        assert 0 <= fit.lost <= LARGEST_TRIM


@pytest.mark.parametrize("size", [(3000, 4000), (4000, 3000), (2000, 3000), (1080, 1920), (512, 512)])
def test_shapes_of_cameras_and_screens_lose_next_to_nothing_at_512(size: tuple[int, int]):
    assert best_fit(size, bucket_sizes(512, factor=8, largest_aspect=2.0)).lost < 0.03


def test_the_fit_names_what_is_lost_and_how_much_is_enlarged():
    sizes = ((64, 64), (32, 96))
    assert best_fit((32, 32), sizes).enlargement == 2.0 and best_fit((32, 32), sizes).lost == 0
    fit = best_fit((64, 128), sizes)
    assert fit.bucket == 1 and fit.lost == pytest.approx(1 / 3) and fit.enlargement == 0.75


def test_the_part_that_is_seen_has_the_bucket_s_aspect_and_as_much_area_as_can_be():
    draws = random.Random(3)
    for _ in range(500):
        size = (draws.randint(20, 3000), draws.randint(20, 3000))
        bucket = (draws.randint(2, 90) * 8, draws.randint(2, 90) * 8)
        across = draws.random()
        left, top, right, bottom = seen_part(size, bucket, across=across)
        assert 0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]
        assert (right - left) / (bottom - top) == pytest.approx(bucket[1] / bucket[0])
        assert right - left == pytest.approx(size[1]) or bottom - top == pytest.approx(size[0])
        lost = 1 - (right - left) * (bottom - top) / (size[0] * size[1])
        assert best_fit(size, [bucket]).lost == pytest.approx(lost, abs=1e-9)


def test_a_crop_lies_in_the_middle_or_where_it_is_told():
    assert seen_part((10, 30), (10, 10)) == (10.0, 0.0, 20.0, 10.0)
    assert seen_part((10, 30), (10, 10), across=0.0) == (0.0, 0.0, 10.0, 10.0)
    assert seen_part((30, 10), (10, 10), across=1.0) == (0.0, 20.0, 10.0, 30.0)


@pytest.mark.parametrize(
    "resolution, factor, aspect, words",
    [
        (100, 8, 2.0, "resolution=100: must be a multiple of factor=8; choose 96 or 104"),
        (4, 8, 2.0, "resolution=4: must be a multiple of factor=8; choose 8 or 16"),
        (64, 0, 2.0, "must be a multiple of factor=0"),
        (64, 8, 0.5, "largest_aspect=0.5: choose from 1 to 4"),
        (64, 8, 9.0, "largest_aspect=9.0: choose from 1 to 4"),
    ],
)
def test_bad_settings_are_refused(resolution: int, factor: int, aspect: float, words: str):
    with pytest.raises(ValueError, match=words):
        bucket_sizes(resolution, factor=factor, largest_aspect=aspect)
