"""Copies of training pictures are found, other pictures are not; it knows no model but a tiny VAE."""

import numpy as np
import pytest

from tests.tiny import make_pipeline
from training.data.postcards import PostcardConfig
from training.evaluation.copying import copying_from, rendered, search_copies, spaced
from training.recipes import SMOKE

TRAINING = (
    PostcardConfig(world=SMOKE.world, seed=1, count=16, size=64),
    PostcardConfig(world=SMOKE.world, seed=101, count=12, size=64),
)
HELD_OUT = PostcardConfig(world=SMOKE.world, seed=2, count=8, size=64)
FRESH = PostcardConfig(world=SMOKE.world, seed=3, count=8, size=64)


def searched(pictures: np.ndarray, *, most: int = 100):
    renders = rendered(FRESH, range(8), title="renders")
    return search_copies(make_pipeline(), pictures, renders, training=TRAINING, held_out=HELD_OUT, most=most)


def test_a_model_that_draws_training_pictures_again_shows_as_copying():
    copies = np.concatenate([rendered(config, range(4), title="copies") for config in TRAINING])
    found = searched(copies)
    assert found.model == pytest.approx(0.0, abs=1e-6) and found.ratio == pytest.approx(0.0, abs=1e-4)
    assert found.nearer.rate == 1.0 and found.nearer.asked == 8
    assert (found.searched, found.training, found.streams) == (28, 28, (1, 101))
    assert "100.0" in found.to_markdown() and "28 of the 28 training pictures" in found.to_markdown()


def test_fresh_renders_are_as_far_as_held_out_ones():
    found = searched(rendered(FRESH, range(8), title="fresh"))
    assert found.model == found.renders > 0.0
    assert 0.3 < found.ratio < 3 and found.ratio_interval.low <= found.ratio <= found.ratio_interval.high
    assert found.nearer.right <= 4


def test_a_few_training_pictures_are_searched_evenly_and_said_to_be_few():
    found = searched(rendered(FRESH, range(8), title="fresh"), most=6)
    assert found.searched == 6 and "6 of the 28" in found.to_markdown()
    assert spaced(16, 3) == [0, 7, 15]
    assert spaced(3, 10) == [0, 1, 2]


def test_the_threshold_is_what_one_in_a_hundred_held_out_pictures_falls_below():
    held_out = np.linspace(1.0, 2.0, 101)
    found = copying_from(
        model=np.array([0.5, 1.005, 1.5, 1.5]), held_out=held_out, renders=held_out,
        searched=1, training=1, streams=(1,),
    )  # fmt: skip
    assert found.threshold == pytest.approx(1.01)
    assert (found.nearer.right, found.nearer.asked) == (2, 4)
    assert found.ratio == pytest.approx((1.005 + 1.5) / 2 / 1.5)
