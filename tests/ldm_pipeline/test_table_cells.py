"""Numbers become cells as people read them, and JSON holds no infinity; it knows no pictures."""

import math

from ldm_pipeline.statistics import Interval, Share, paired
from ldm_pipeline.table_cells import finite, limits, p_value, percent, points


def test_shares_and_changes_are_in_percent_with_their_limits():
    assert percent(Share(25, 64)) == "39.1 (28.1-51.3)"
    assert percent(Share(0, 0)) == "-"
    table = paired([True] * 10, [False] * 5 + [True] * 5)
    low, high = 100 * table.change_interval.low, 100 * table.change_interval.high
    assert points(table) == f"-50.0 ({low:+.1f} to {high:+.1f})"
    assert points(paired([], [])) == "-"


def test_small_p_values_keep_a_digit():
    assert [p_value(p) for p in (1.0, 0.0312, 0.001, 0.00049)] == ["1.000", "0.031", "0.001", "5e-04"]


def test_an_infinite_limit_has_no_number():
    assert limits(Interval(-math.inf, 0.5)) == " (none to 50.0)"
    assert finite({"a": [1, (math.inf, 2.5)], "b": math.nan}) == {"a": [1, [None, 2.5]], "b": None}
