"""Intervals and tests against values from the papers and computed by hand; it knows no pictures."""

import math
import random
from itertools import product

import pytest

from ldm_pipeline.statistics import (
    ClusteredPaired,
    Interval,
    Share,
    clustered_share,
    difference_interval,
    holm,
    mcnemar,
    mcnemar_power,
    mean_of,
    paired,
    paired_in_clusters,
    pairs_by_formula,
    pairs_needed,
    ratio_interval,
    share,
    sign_flip,
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


def test_the_formula_gives_the_published_numbers_of_pairs():
    # 30 points with half of the pairs discordant, 20 with 40 %, 50 with 60 %
    wanted = ((0.3, 0.5, 42), (0.2, 0.4, 77), (-0.5, 0.6, 17))
    for change, discordant, pairs in wanted:
        assert pairs_by_formula(change, discordant=discordant) == pairs


def test_the_exact_power_is_that_of_all_tables_counted_one_by_one():
    # by hand for 6 pairs: McNemar rejects only 6:0 and 0:6, so that all six must differ and agree
    up, down = 0.6, 0.2
    assert mcnemar_power(6, change=0.4, discordant=0.8) == pytest.approx(up**6 + down**6, rel=1e-12)
    assert mcnemar_power(5, change=0.4, discordant=0.8) == 0.0
    draws = random.Random(7)
    seen = 0
    for _ in range(4000):
        outcomes = draws.choices((1, -1, 0), (0.4, 0.1, 0.5), k=46)
        seen += mcnemar(outcomes.count(1), outcomes.count(-1)) <= 0.05
    assert mcnemar_power(46, change=0.3, discordant=0.5) == pytest.approx(seen / 4000, abs=0.03)


def test_the_exact_test_needs_a_few_pairs_more_than_the_formula_says():
    needed = pairs_needed(0.3, discordant=0.5)
    assert needed == 46
    assert mcnemar_power(needed, change=0.3, discordant=0.5) >= 0.8
    assert mcnemar_power(needed - 1, change=0.3, discordant=0.5) < 0.8
    assert pairs_needed(0.5, discordant=0.5, power=0.9) > pairs_needed(0.5, discordant=0.5)


@pytest.mark.parametrize(("change", "discordant"), [(0.0, 0.5), (0.6, 0.5), (0.2, 1.2)])
def test_an_impossible_effect_is_refused(change, discordant):
    with pytest.raises(ValueError, match="the change must not be 0"):
        pairs_needed(change, discordant=discordant)


def test_flipping_the_signs_of_single_pairs_is_mcnemars_test():
    for up, down in ((7, 1), (10, 0), (3, 3), (0, 0), (12, 5)):
        assert sign_flip([1] * up + [-1] * down + [0] * 4) == pytest.approx(mcnemar(up, down), abs=1e-12)


def test_flipping_the_signs_of_clusters_counts_every_assignment():
    sums = [4, 3, -1, 2]
    totals = [sum(s * x for s, x in zip(signs, sums, strict=True)) for signs in product((1, -1), repeat=4)]
    assert sign_flip(sums) == sum(abs(total) >= abs(sum(sums)) for total in totals) / 16


def test_one_cluster_or_clusters_of_one_are_plain_pairs():
    before, after = [True, True, False, True], [False, True, False, False]
    plain = paired(before, after)
    assert paired_in_clusters([before], [after]) == plain
    assert paired_in_clusters([[x] for x in before], [[x] for x in after]) == plain


def test_clusters_that_change_together_widen_the_interval_and_raise_p():
    before = [[True] * 8] * 6
    after = [[False] * 8] * 3 + [[True] * 8] * 3
    table = paired_in_clusters(before, after)
    plain = paired(sum(before, []), sum(after, []))
    assert isinstance(table, ClusteredPaired)
    assert (table.clusters, table.change, table.before.rate) == (6, -0.5, 1.0)
    # 48 pictures say as much as six, and six as few: deff 8 times (t_5 / t_47)^2
    assert table.change_effect == pytest.approx(8 * (2.570582 / 2.011741) ** 2, rel=1e-5)
    assert table.change_interval.low < plain.change_interval.low
    assert table.change_interval.high > plain.change_interval.high
    assert table.p_value == 2 / 2**3 > plain.p_value


def test_clusters_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="clusters of another size"):
        paired_in_clusters([[True, True], [True]], [[True], [True, True]])


def test_p_values_of_several_questions_are_corrected():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_a_mean_has_students_interval_and_one_value_has_none():
    three = mean_of([1.0, 2.0, 3.0])
    reach = 4.302653 / math.sqrt(3)
    assert three.interval is not None
    assert (three.mean, *limits(three.interval)) == pytest.approx((2.0, 2 - reach, 2 + reach), rel=1e-6)
    assert mean_of([5.0]).interval is None and mean_of([]).mean is None
