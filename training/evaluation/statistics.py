"""Counts -> shares with 95 % intervals, single and paired, from the papers' formulas.

Knows nothing of pictures, prompts or judges.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Z_95 = 1.959963984540054
"""Two-sided 95 % point of the standard normal distribution."""


@dataclass(frozen=True)
class Interval:
    """Lower and upper 95 % limit."""

    low: float
    high: float


@dataclass(frozen=True)
class Share:
    """`right` of `asked`, with a Wilson interval; shares in [0, 1]."""

    right: int
    asked: int
    design_effect: float = 1.0
    """Variance of the share over that of as many independent answers; above 1 for clustered answers."""
    rate: float | None = field(init=False)
    """None if nothing was asked."""
    interval: Interval = field(init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.asked:
            raise ValueError(f"right={self.right}: must be between 0 and asked={self.asked}.")
        object.__setattr__(self, "rate", self.right / self.asked if self.asked else None)
        effect = self.design_effect
        object.__setattr__(self, "interval", wilson(self.right / effect, self.asked / effect))


def wilson(right: float, asked: float, *, z: float = Z_95) -> Interval:
    """Score interval of a proportion (Wilson 1927, JASA 22:209); [0, 1] if nothing was asked.

    Real numbers are accepted: with clustered answers both are effective sample sizes.
    """
    if asked <= 0:
        return Interval(0.0, 1.0)
    p, z2 = right / asked, z * z
    middle = (p + z2 / (2 * asked)) / (1 + z2 / asked)
    half = z / (1 + z2 / asked) * math.sqrt(p * (1 - p) / asked + z2 / (4 * asked * asked))
    return Interval(
        max(0.0, middle - half) if right > 0 else 0.0, min(1.0, middle + half) if right < asked else 1.0
    )


def share(answers: Sequence[bool]) -> Share:
    """Independent answers."""
    return Share(sum(map(bool, answers)), len(answers))


def clustered_share(clusters: Sequence[Sequence[bool]]) -> Share:
    """Answers in clusters (the pictures of one prompt), whose likeness widens the interval.

    Wilson's interval of n / deff answers (Korn & Graubard 1998, Survey Methodology 24:193), where deff is the
    ratio of the between-cluster variance of the share to p (1 - p) / n (Kish 1965), in [1, largest cluster].
    """
    rights, sizes = [sum(map(bool, c)) for c in clusters], [len(c) for c in clusters]
    n, k = sum(sizes), len(clusters)
    if k < 2 or not 0 < sum(rights) < n:
        return Share(sum(rights), n)
    p = sum(rights) / n
    between = k / (k - 1) * sum((x - p * m) ** 2 for x, m in zip(rights, sizes, strict=True)) / n**2
    effect = between / (p * (1 - p) / n)
    return Share(sum(rights), n, design_effect=min(max(effect, 1.0), float(max(sizes))))


@dataclass(frozen=True)
class Paired:
    """One question about the same cases before and after a change: the 2 x 2 table and what follows."""

    both: int
    only_before: int
    only_after: int
    neither: int
    before: Share = field(init=False)
    after: Share = field(init=False)
    change: float | None = field(init=False)
    """Share after minus share before, in [-1, 1]; None without cases."""
    change_interval: Interval = field(init=False)
    fall: float | None = field(init=False)
    """1 - after / before: 1 if all went, negative if there is more; None if there was nothing before."""
    fall_interval: Interval | None = field(init=False)
    p_value: float = field(init=False)
    """Exact two-sided McNemar test of no change."""

    def __post_init__(self) -> None:
        a, b, c, n = self.both, self.only_before, self.only_after, self.cases
        ratio = ratio_interval(a, c, b) if a + b else None
        values = {
            "before": Share(a + b, n),
            "after": Share(a + c, n),
            "change": (c - b) / n if n else None,
            "change_interval": difference_interval(a, c, b, self.neither),
            "fall": 1 - (a + c) / (a + b) if a + b else None,
            "fall_interval": Interval(1 - ratio.high, 1 - ratio.low) if ratio else None,
            "p_value": mcnemar(b, c),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def cases(self) -> int:
        return self.both + self.only_before + self.only_after + self.neither


def paired(before: Sequence[bool], after: Sequence[bool]) -> Paired:
    """Count the table; raises ValueError if the answers are not pairs."""
    if len(before) != len(after):
        raise ValueError(f"after has {len(after)} answers for {len(before)} before: give one for each case.")
    pairs = [(bool(x), bool(y)) for x, y in zip(before, after, strict=True)]
    counts = {key: pairs.count(key) for key in ((True, True), (True, False), (False, True), (False, False))}
    return Paired(*counts.values())


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p of McNemar's test (1947, Psychometrika 12:153): binomial on the discordant pairs."""
    n = only_first + only_second
    tail = sum(math.comb(n, i) for i in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**n)


def difference_interval(both: int, only_first: int, only_second: int, neither: int) -> Interval:
    """Interval of p_first - p_second for paired proportions: square-and-add of two Wilson intervals.

    Newcombe 1998 (Statistics in Medicine 17:2635), method 10, phi being the correlation of the answers;
    recommended by Fagerland, Lydersen & Laake 2014 (Statistics in Medicine 33:2850).
    """
    a, b, c, d = both, only_first, only_second, neither
    n = a + b + c + d
    if n == 0:
        return Interval(-1.0, 1.0)
    p_1, p_2 = (a + b) / n, (a + c) / n
    w_1, w_2 = wilson(a + b, n), wilson(a + c, n)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    product = a * d - b * c
    corrected = product if product < 0 else max(product - n / 2, 0.0)
    phi = corrected / math.sqrt(margins) if margins else 0.0

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))

    below, above = reach(p_1 - w_1.low, w_2.high - p_2), reach(w_1.high - p_1, p_2 - w_2.low)
    return Interval(max(-1.0, p_1 - p_2 - below), min(1.0, p_1 - p_2 + above))


def ratio_interval(both: int, only_first: int, only_second: int) -> Interval:
    """Interval of p_first / p_second for paired proportions (Bonett & Price 2006).

    Statistics in Medicine 25:3039. Quotients of the limits of two Wilson intervals over the
    n* = `both` + `only_first` + `only_second` cases, with z shrunk so that together
    they hold 95 %. The upper limit is infinite if the second never happens.
    """
    n_star, first, second = both + only_first + only_second, both + only_first, both + only_second
    if n_star == 0:
        return Interval(0.0, math.inf)
    a = math.sqrt((only_first + only_second + 2) / ((first + 1) * (second + 1)))
    b = math.sqrt((1 - (first + 1) / (n_star + 2)) / (first + 1))
    c = math.sqrt((1 - (second + 1) / (n_star + 2)) / (second + 1))
    z = Z_95 * a / (b + c)
    w_1, w_2 = wilson(first, n_star, z=z), wilson(second, n_star, z=z)
    return Interval(w_1.low / w_2.high, w_1.high / w_2.low if w_2.low > 0 else math.inf)
