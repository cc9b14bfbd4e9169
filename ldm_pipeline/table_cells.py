"""Shares, changes and p-values -> the text of a table's cells, and numbers that JSON can hold.

Knows nothing of how they were found.
"""

import math
from typing import Any

from ldm_pipeline.statistics import Interval, Paired, Share


def percent(share: Share) -> str:
    """E.g. "97.3 (94.5-98.7)"; a dash if nothing was asked."""
    if share.rate is None:
        return "-"
    return f"{100 * share.rate:.1f} ({100 * share.interval.low:.1f}-{100 * share.interval.high:.1f})"


def points(table: Paired) -> str:
    """The change in percentage points, e.g. "-13.7 (-18.8 to -8.7)"; a dash without cases."""
    if table.change is None:
        return "-"
    return f"{100 * table.change:+.1f}{limits(table.change_interval, sign='+')}"


def p_value(p: float) -> str:
    """Three decimals, or one digit and the power of ten below 0.001."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def limits(interval: Interval, *, sign: str = "") -> str:
    """Both limits in percent, in brackets after a space; "none" for infinite ones."""
    low, high = (
        f"{100 * limit:{sign}.1f}" if math.isfinite(limit) else "none"
        for limit in (interval.low, interval.high)
    )
    return f" ({low} to {high})"


def finite(value: Any) -> Any:
    """The same nest of plain values, with None for infinities."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
