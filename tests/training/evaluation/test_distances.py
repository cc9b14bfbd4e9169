"""Distances between sets of features: zero for equal sets, growing with a shift, right on average."""

import numpy as np
import pytest

from ldm_pipeline.judge import Recogniser, RecogniserConfig
from tests.tiny import randomize
from training.claims import FIELDS
from training.evaluation.distances import WORDS, compare_sets, distance, gaussian, polynomial

KERNELS = {"polynomial": polynomial, "gaussian": gaussian(2.0)}


def drawn(count: int, seed: int, *, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (count, 8))


@pytest.mark.parametrize("name", KERNELS)
def test_a_set_is_at_no_distance_from_itself_and_farther_the_more_it_is_shifted(name: str):
    x = drawn(100, 0)
    found = [distance(KERNELS[name], x, x + shift).squared for shift in (0.0, 0.25, 0.5, 1.0)]
    assert found[0] == pytest.approx(0.0, abs=1e-9)
    assert found == sorted(found) and found[1] > 0.001


@pytest.mark.parametrize("name", KERNELS)
def test_the_distance_of_equal_distributions_is_zero_on_average_and_as_uncertain_as_told(name: str):
    pairs = [(drawn(30, 2 * i), drawn(30, 2 * i + 1)) for i in range(200)]
    found = [distance(KERNELS[name], x, y) for x, y in pairs]
    values = np.array([one.squared for one in found])
    assert abs(values.mean()) < 3 * values.std() / 200**0.5
    assert (values < 0).any()
    told = np.sqrt(np.mean([one.error**2 for one in found]))
    assert 0.7 < told / values.std() < 2


def test_the_kernels_are_those_of_the_papers():
    x, y = np.array([[1.0, 2.0]]), np.array([[3.0, -1.0]])
    assert polynomial(x, y) == pytest.approx((1 / 2 + 1) ** 3)
    assert gaussian(2.0)(x, y) == pytest.approx(np.exp(-(4 + 9) / 8))


def test_by_hand_on_three_pairs():
    x, y = np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [0.0], [3.0]])

    def k(a: float, b: float) -> float:
        return (a * b + 1) ** 3

    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    terms = [
        k(x[i, 0], x[j, 0]) + k(y[i, 0], y[j, 0]) - k(x[i, 0], y[j, 0]) - k(x[j, 0], y[i, 0])
        for i, j in pairs
    ]
    assert distance(polynomial, x, y).squared == pytest.approx(sum(terms) / 6)


def test_sets_of_other_sizes_or_of_two_pictures_are_refused():
    with pytest.raises(ValueError, match="y has 4 pictures and x 5"):
        distance(polynomial, drawn(5, 0), drawn(4, 1))
    with pytest.raises(ValueError, match="at least 3"):
        distance(polynomial, drawn(2, 0), drawn(2, 1))
    with pytest.raises(ValueError, match="bandwidth=0"):
        gaussian(0.0)


def test_pictures_are_compared_through_the_judge():
    judge = Recogniser(RecogniserConfig(widths=(8, 8), blocks=0, fields=FIELDS))
    randomize(judge, 5)
    renders, others = np.random.default_rng(0).integers(0, 256, (2, 12, 64, 64, 3), dtype=np.uint8)
    dark = others // 4
    found = compare_sets(judge.eval(), renders, model=dark, round_trip=renders, others=others)
    for measure in (found.kid, found.mmd):
        assert set(measure) == set(WORDS)
        assert measure["round_trip"].squared == pytest.approx(0.0, abs=1e-9)
        assert measure["model"].squared > 10 * abs(measure["others"].squared)
    assert found.pictures == 12 and all(words in found.to_markdown() for words in WORDS.values())
