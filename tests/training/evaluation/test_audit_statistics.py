"""The audit's statistics: intervals that hold what they promise, corrections that undo a judge's errors."""

import numpy as np
import pytest

from ldm_pipeline.statistics import Share
from training.evaluation.audit_statistics import (
    OTHER,
    Difference,
    corrected,
    distance,
    distribution,
    entropy_bits,
    total_variation,
)

COLORS = ("red", "green", "blue")


def test_a_difference_is_newcombes_for_independent_shares():
    # Newcombe 1998, Statistics in Medicine 17:873, table II, row (a): 56/70 - 48/80, method 10
    found = Difference(Share(56, 70), Share(48, 80))
    assert found.points == pytest.approx(0.2)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert found.clear and not Difference(Share(5, 10), Share(4, 10)).clear


def test_likeness_within_clusters_widens_a_difference():
    plain, likened = (Difference(Share(56, 70, effect), Share(48, 80)) for effect in (1.0, 2.0))
    assert likened.interval.low < plain.interval.low < plain.interval.high < likened.interval.high
    assert likened.ratio_interval.low < plain.ratio_interval.low


def test_without_answers_there_is_no_difference_and_without_a_rate_no_ratio():
    found = Difference(Share(0, 0), Share(1, 2))
    assert (found.points, found.ratio, found.clear) == (None, None, False)
    assert Difference(Share(1, 2), Share(0, 2)).ratio is None
    none = Difference(Share(0, 64), Share(32, 64))
    assert none.ratio == none.ratio_interval.low == 0 < none.ratio_interval.high < 0.2


@pytest.mark.parametrize(("p", "q"), [(0.6, 0.6), (0.9, 0.2), (0.05, 0.05), (0.98, 0.95)])
def test_differences_and_ratios_hold_the_truth_in_about_95_percent(p: float, q: float):
    draws = np.random.default_rng(1)
    found = [
        Difference(Share(int(a), 64), Share(int(b), 256))
        for a, b in zip(draws.binomial(64, p, 300), draws.binomial(256, q, 300), strict=True)
    ]
    for held in (
        [d.interval.low <= p - q <= d.interval.high for d in found],
        [d.ratio_interval.low <= p / q <= d.ratio_interval.high for d in found],
    ):
        assert 0.91 <= np.mean(held) <= 1.0


@pytest.mark.parametrize(("p", "se", "sp"), [(0.9, 0.95, 0.9), (0.5, 0.8, 0.8), (0.02, 0.95, 0.97)])
def test_a_judges_errors_are_undone_in_about_95_percent(p: float, se: float, sp: float):
    draws = np.random.default_rng(2)
    held, middle = [], []
    for _ in range(300):
        found = corrected(
            Share(int(draws.binomial(100, p * se + (1 - p) * (1 - sp))), 100),
            sensitivity=Share(int(draws.binomial(128, se)), 128),
            specificity=Share(int(draws.binomial(128, sp)), 128),
        )
        assert found is not None and 0 <= found.interval.low <= found.rate <= found.interval.high <= 1
        held.append(found.interval.low <= p <= found.interval.high)
        middle.append(found.rate)
    assert 0.91 <= np.mean(held) <= 1.0
    assert np.mean(middle) == pytest.approx(p, abs=0.02)


def test_a_perfect_judge_is_not_corrected():
    found = corrected(Share(30, 100), sensitivity=Share(200, 200), specificity=Share(200, 200))
    assert found is not None and found.rate == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("seen", "sensitivity", "specificity"),
    [
        (Share(5, 10), Share(50, 100), Share(50, 100)),
        (Share(5, 10), Share(0, 0), Share(50, 50)),
        (Share(0, 0), Share(99, 100), Share(99, 100)),
    ],
)
def test_a_judge_like_a_coin_tells_nothing(seen: Share, sensitivity: Share, specificity: Share):
    assert corrected(seen, sensitivity=sensitivity, specificity=specificity) is None


def test_classes_are_counted_by_cluster_and_what_is_foreign_is_other():
    found = distribution([["red", "red"], ["blue", "pink"]], COLORS)
    assert found.classes == (*COLORS, OTHER)
    assert found.counts.tolist() == [[2, 0, 0, 0], [0, 0, 1, 1]]
    assert found.shares.tolist() == [0.5, 0, 0.25, 0.25]


def test_entropy_and_variation():
    assert entropy_bits(np.array([0.25] * 4)) == pytest.approx(2)
    assert entropy_bits(np.array([1.0, 0.0]), 5) == entropy_bits(np.array([1.0, 0.0])) == 0
    assert entropy_bits(np.array([0.25] * 4), 10) == 2
    draws = np.random.default_rng(5)
    skew, few = np.array([0.5, 0.2, 0.2, 0.1]), 30
    found = [entropy_bits(draws.multinomial(few, skew) / few, few) for _ in range(300)]
    assert np.mean(found) == pytest.approx(entropy_bits(skew), abs=0.02)
    assert total_variation(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == 0.5


def test_like_pictures_of_a_prompt_count_as_fewer():
    alike = distribution([["red"] * 4, ["blue"] * 4] * 20, COLORS)
    mixed = distribution([["red", "blue"] * 2] * 40, COLORS)
    assert alike.effective == pytest.approx(40, rel=0.05)
    assert mixed.effective == mixed.seen == 160


def test_a_model_that_draws_one_color_only_is_far_and_has_no_entropy():
    data = distribution([[COLORS[i % 3]] for i in range(120)], COLORS)
    found = distance(distribution([["red"]] * 60, COLORS), data, seed=0)
    assert found is not None and found.clear
    assert found.variation == pytest.approx(2 / 3, abs=1e-6)
    assert found.interval.low <= found.variation <= found.interval.high
    assert found.entropy == 0


def test_samples_of_one_distribution_are_seldom_told_apart():
    draws = np.random.default_rng(3)

    def sample(count: int):
        return distribution([[str(c)] for c in draws.choice(COLORS, size=count, p=(0.6, 0.3, 0.1))], COLORS)

    clear = [found.clear for i in range(40) if (found := distance(sample(40), sample(160), seed=i))]
    assert np.mean(clear) <= 0.13


def test_a_distance_is_a_function_of_counts_and_seed():
    draws = np.random.default_rng(4)
    one, two = (
        distribution([list(row) for row in draws.choice(COLORS, size=(61, n))], COLORS) for n in (2, 3)
    )
    assert distance(one, two, seed=1) == distance(one, two, seed=1) != distance(one, two, seed=2)
    assert distance(one, distribution([], COLORS), seed=1) is None
