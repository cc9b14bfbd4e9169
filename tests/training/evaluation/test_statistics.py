"""Intervals and tests against values from the papers and computed by hand; it knows no pictures."""

import math

import pytest

from training.evaluation.statistics import (
    Interval,
    Share,
    clustered_share,
    difference_interval,
    mcnemar,
    paired,
    ratio_interval,
    share,
    wilson,
)


def limits(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def test_wilson_gives_the_published_interval():
    # Newcombe 1998 (Statistics in Medicine 17:857), 81 of 263 and 15 of 148, method 3
    assert limits(wilson(81, 263)) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert limits(wilson(15, 148)) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_wilson_at_the_ends_is_one_sided():
    # by hand: z^2 / (n + z^2) for none of n
    z2 = 1.959964**2
    assert limits(wilson(0, 20)) == pytest.approx((0.0, z2 / (20 + z2)), abs=1e-6)
    assert limits(wilson(20, 20)) == pytest.approx((20 / (20 + z2), 1.0), abs=1e-6)
    assert limits(wilson(0, 0)) == (0.0, 1.0)


def test_a_share_of_nothing_has_no_rate_and_the_widest_interval():
    nothing = share([])
    assert nothing.rate is None
    assert limits(nothing.interval) == (0.0, 1.0)


def test_a_share_refuses_more_right_than_asked():
    with pytest.raises(ValueError, match="right=3: must be between 0 and asked=2"):
        Share(3, 2)


def test_clusters_that_agree_within_count_as_one_answer_each():
    alike = clustered_share([[True] * 4, [False] * 4] * 20)
    assert alike.design_effect == 4.0  # 160 pictures, 40 answers
    assert limits(alike.interval) == pytest.approx(limits(wilson(20, 40)))


def test_clusters_without_likeness_count_every_answer():
    balanced = clustered_share([[True, False]] * 30)
    assert balanced.design_effect == 1.0
    assert limits(balanced.interval) == pytest.approx(limits(wilson(30, 60)))


def test_the_design_effect_follows_its_formula():
    # rights 2, 1, 0 of 2 each: p = 1/2, between = 3/2 * (1 + 0 + 1) / 36 = 1/12, over 1/4 / 6 = 1/24
    assert clustered_share([[True, True], [True, False], [False, False]]).design_effect == pytest.approx(2.0)


def test_mcnemar_is_the_exact_binomial():
    assert mcnemar(1, 7) == pytest.approx(2 * (1 + 8) / 256)
    assert mcnemar(0, 10) == pytest.approx(2 / 1024)
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(0, 0) == 1.0


@pytest.mark.parametrize(
    ("table", "expected"), [((1, 1, 7, 12), (-0.5069, -0.0256)), ((59, 6, 16, 80), (-0.1186, -0.0046))]
)
def test_the_paired_difference_has_the_published_interval(table, expected):
    # Fagerland, Lydersen & Laake 2014, Statistics in Medicine 33:2850
    assert limits(difference_interval(*table)) == pytest.approx(expected, abs=5e-5)


def test_the_paired_ratio_has_the_published_interval():
    # Fagerland, Lydersen & Laake 2017, Statistical Analysis of Contingency Tables, chapter 8
    assert limits(ratio_interval(59, 6, 16)) == pytest.approx((0.7579, 0.9910), abs=5e-5)


def test_pairs_are_counted_into_the_right_cells_and_a_fall_is_a_negative_change():
    before = [True] * 60 + [False] * 40
    after = [True] * 10 + [False] * 50 + [True] * 2 + [False] * 38
    table = paired(before, after)
    assert (table.both, table.only_before, table.only_after, table.neither) == (10, 50, 2, 38)
    assert (table.before.rate, table.after.rate) == (0.6, 0.12)
    assert table.change == pytest.approx(-0.48)
    assert table.change_interval.low < -0.48 < table.change_interval.high < 0
    assert table.fall == pytest.approx(0.8)
    assert table.fall_interval is not None
    assert 0.6 < table.fall_interval.low < 0.8 < table.fall_interval.high < 0.95
    assert table.p_value < 1e-9


def test_no_change_has_an_interval_around_zero_and_nothing_before_has_no_fall():
    same = paired([True, False] * 50, [True, False] * 50)
    assert same.change == 0.0
    assert same.change_interval.low == pytest.approx(-same.change_interval.high)
    never = paired([False] * 5, [True] * 5)
    assert never.fall is None
    assert never.fall_interval is None
    assert ratio_interval(0, 3, 0).high == math.inf


def test_answers_that_are_no_pairs_are_refused():
    with pytest.raises(ValueError, match="after has 1 answers for 2 before"):
        paired([True, False], [True])
