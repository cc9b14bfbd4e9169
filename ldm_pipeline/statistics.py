"""Counts -> shares with 95 % intervals, single and paired, in clusters or not, and how many one would need.

Knows nothing of pictures, prompts or judges. What scipy and statsmodels lack is from the papers' formulas.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import binom, norm, t
from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

ALPHA = 0.05
POWER = 0.8
LARGEST_EXACT_PAIRS = 5_000
"""Above so many pairs the formula and the exact test agree to a few percent."""
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
    limits: Any = proportion_confint(right, asked, alpha=2 * float(norm.sf(z)), method="wilson")
    low, high = limits
    return Interval(
        max(0.0, float(low)) if right > 0 else 0.0, min(1.0, float(high)) if right < asked else 1.0
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
    effect = design_effect(rights, sizes, independent=p * (1 - p) / n)
    return Share(sum(rights), n, design_effect=effect)


def design_effect(sums: Sequence[float], sizes: Sequence[int], *, independent: float) -> float:
    """Variance of a mean over clusters, from their sums, over its variance for independent answers.

    In [1, largest cluster] (Kish 1965, Survey Sampling); 1 where there is nothing to compare.
    """
    n, k = sum(sizes), len(sizes)
    if k < 2 or independent <= 0:
        return 1.0
    mean = sum(sums) / n
    between = k / (k - 1) * sum((x - mean * m) ** 2 for x, m in zip(sums, sizes, strict=True)) / n**2
    return min(max(between / independent, 1.0), float(max(sizes)))


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


@dataclass(frozen=True)
class ClusteredPaired(Paired):
    """Pairs in clusters (the seeds of one prompt), whose likeness widens the intervals."""

    clusters: int
    change_effect: float
    """Design effect of the change, by which the table's counts are divided for its interval."""
    before_effect: float
    after_effect: float
    exact_p: float
    """Of the sign-flip test over clusters, which takes McNemar's place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = (self.both, self.only_after, self.only_before, self.neither)
        a, c, b, d = (count / self.change_effect for count in counts)
        ratio = ratio_interval(a, c, b) if a + b else None
        values = {
            "before": Share(self.before.right, self.cases, self.before_effect),
            "after": Share(self.after.right, self.cases, self.after_effect),
            "change_interval": difference_interval(a, c, b, d),
            "fall_interval": Interval(1 - ratio.high, 1 - ratio.low) if ratio else None,
            "p_value": self.exact_p,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)


def paired_in_clusters(before: Sequence[Sequence[bool]], after: Sequence[Sequence[bool]]) -> Paired:
    """Count pairs that come in clusters; clusters of one pair each are plain pairs.

    Intervals are those of n / effect pairs, the effect being the design effect (see `clustered_share`) times
    (t_{k-1} / t_{n-1})^2 for k clusters and n pairs (Korn & Graubard 1998), so that few clusters count as
    few. The p-value is exact under "in each cluster the arms could be swapped" (`sign_flip`).

    Raises:
        ValueError: the answers are not pairs.
    """
    flat = paired([x for one in before for x in one], [x for one in after for x in one])
    sizes = [len(one) for one in before]
    if sizes != [len(one) for one in after]:
        raise ValueError(f"after has clusters of another size than before, {sizes}: give pairs.")
    if len(sizes) < 2 or max(sizes) == 1:
        return flat
    n, k = flat.cases, len(sizes)
    few = float((t.isf(ALPHA / 2, k - 1) / t.isf(ALPHA / 2, n - 1)) ** 2)
    ups, downs = ([sum(map(bool, one)) for one in arm] for arm in (after, before))
    sums = [up - down for up, down in zip(ups, downs, strict=True)]
    change, discordant = sum(sums) / n, (flat.only_before + flat.only_after) / n

    def share_effect(rights: Sequence[int]) -> float:
        p = sum(rights) / n
        return few * design_effect(rights, sizes, independent=p * (1 - p) / n)

    return ClusteredPaired(
        flat.both, flat.only_before, flat.only_after, flat.neither,
        clusters=k,
        change_effect=few * design_effect(sums, sizes, independent=(discordant - change**2) / n),
        before_effect=share_effect(downs),
        after_effect=share_effect(ups),
        exact_p=sign_flip(sums),
    )  # fmt: skip


def sign_flip(sums: Sequence[int]) -> float:
    """Two-sided exact p of no change: how often random signs would move the total of `sums` as far.

    A permutation test over clusters (Fisher 1935, The Design of Experiments, section 21), from the whole
    distribution, which scipy's `permutation_test` only samples beyond a few clusters. Sums of -1, 0 and 1
    give McNemar's exact p. k clusters cannot give less than 2 / 2^k.
    """
    chances = np.ones(1)
    for size in (abs(one) for one in sums if one):
        wider = np.zeros(len(chances) + 2 * size)
        wider[: len(chances)] += chances / 2
        wider[2 * size :] += chances / 2
        chances = wider
    totals = np.arange(len(chances)) - len(chances) // 2
    return min(1.0, float(chances[abs(totals) >= abs(sum(sums))].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for asking several questions at once (Holm 1979, Scand. J. Statist. 6:65)."""
    if not p_values:
        return []
    corrected: Any = multipletests(p_values, alpha=ALPHA, method="holm")[1]
    return [float(p) for p in corrected]


@dataclass(frozen=True)
class Mean:
    """A mean and Student's 95 % interval of it; None for what has too few values."""

    mean: float | None
    interval: Interval | None


def mean_of(values: Sequence[float]) -> Mean:
    """Independent values."""
    n = len(values)
    if n < 2:
        return Mean(values[0] if values else None, None)
    middle, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n)
    reach = float(t.isf(ALPHA / 2, n - 1)) * error
    return Mean(middle, Interval(middle - reach, middle + reach))


def mcnemar_power(pairs: int, *, change: float, discordant: float) -> float:
    """Chance that McNemar's exact test at 5 % sees a `change` in that many pairs, summed over all tables.

    `discordant` is the share of pairs that differ, |change| to 1.
    """
    _check_effect(change, discordant)
    counts = np.arange(pairs + 1)
    rejects = binom.ppf(ALPHA / 2, counts, 0.5)  # the largest tail of at most 2.5 %, or one beyond it
    rejects = rejects - (binom.cdf(rejects, counts, 0.5) > ALPHA / 2)
    one_way = (discordant + abs(change)) / (2 * discordant)
    seen = binom.cdf(rejects, counts, one_way) + binom.sf(counts - rejects - 1, counts, one_way)
    return float(np.sum(binom.pmf(counts, pairs, discordant) * np.where(rejects >= 0, seen, 0.0)))


def pairs_by_formula(change: float, *, discordant: float, power: float = POWER) -> int:
    """Pairs for McNemar's test at 5 % to see a `change` with that power, by the normal approximation.

    n = (z_{a/2} sqrt(p_d) + z_b sqrt(p_d - d^2))^2 / d^2 (Connett, Smith & McHugh 1987, Statistics in
    Medicine 6:449), d the change and p_d the share of discordant pairs.
    """
    _check_effect(change, discordant)
    z_a, z_b = norm.isf(ALPHA / 2), norm.isf(1 - power)
    root = z_a * math.sqrt(discordant) + z_b * math.sqrt(max(0.0, discordant - change**2))
    return math.ceil((root / change) ** 2)


def pairs_needed(change: float, *, discordant: float, power: float = POWER) -> int:
    """As `pairs_by_formula`, and further until the exact test has that power; it needs about a tenth more.

    Beyond `LARGEST_EXACT_PAIRS` the formula's number.
    """
    pairs = pairs_by_formula(change, discordant=discordant, power=power)
    while pairs <= LARGEST_EXACT_PAIRS and mcnemar_power(pairs, change=change, discordant=discordant) < power:
        pairs += 1
    return pairs


def _check_effect(change: float, discordant: float) -> None:
    if not 0 < abs(change) <= discordant <= 1:
        raise ValueError(
            f"change={change:g} with discordant={discordant:g}: the change must not be 0, nor larger than the"
            " share of discordant pairs, and that at most 1."
        )


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p of McNemar's test (1947, Psychometrika 12:153): binomial on the discordant pairs."""
    tested: Any = exact_mcnemar([[0, only_first], [only_second, 0]], exact=True)
    return float(tested.pvalue)


def difference_interval(both: float, only_first: float, only_second: float, neither: float) -> Interval:
    """Interval of p_first - p_second for paired proportions: square-and-add of two Wilson intervals.

    Newcombe 1998 (Statistics in Medicine 17:2635), method 10, phi being the correlation of the answers;
    recommended by Fagerland, Lydersen & Laake 2014 (Statistics in Medicine 33:2850). Real numbers are
    accepted: with clustered pairs they are effective counts.
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


def ratio_interval(both: float, only_first: float, only_second: float) -> Interval:
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
