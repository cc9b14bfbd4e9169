"""Answers to an audit's questions -> rates, amplification, the correction for a judge's errors, distances.

Knows nothing of prompts or pictures. Intervals hold 95 %; what statistics.py has already is taken from there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldm_pipeline.statistics import Z_95, Interval, Share, design_effect

RESAMPLES = 1_000
OTHER = "other"


@dataclass(frozen=True)
class Difference:
    """`first` minus `second`, two shares of independent answers."""

    first: Share
    second: Share
    points: float | None = field(init=False)
    """In [-1, 1]; None if one of them was never asked."""
    interval: Interval = field(init=False)
    """Square-and-add of the Wilson intervals (Newcombe 1998, Statistics in Medicine 17:873, method 10), which
    carry their design effects with them."""
    ratio: float | None = field(init=False)
    """`first` / `second`; None where the second never happened."""
    ratio_interval: Interval = field(init=False)
    """From the same Wilson intervals, without logarithms (Donner & Zou 2012, Statistical Methods in Medical
    Research 21:347, equation 9)."""

    def __post_init__(self) -> None:
        one, two = self.first, self.second
        asked = one.rate is not None and two.rate is not None
        values: dict[str, Any] = {
            "points": None,
            "interval": Interval(-1.0, 1.0),
            "ratio": None,
            "ratio_interval": Interval(0.0, math.inf),
        }
        if asked:
            p, q = one.rate or 0.0, two.rate or 0.0
            below = math.hypot(p - one.interval.low, two.interval.high - q)
            above = math.hypot(one.interval.high - p, q - two.interval.low)
            values["points"] = p - q
            values["interval"] = Interval(max(-1.0, p - q - below), min(1.0, p - q + above))
            if two.right:
                values["ratio"] = p / q
                values["ratio_interval"] = _ratio_limits(p, one.interval, q, two.interval)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval.low > 0 or self.interval.high < 0


def _ratio_limits(p: float, of_p: Interval, q: float, of_q: Interval) -> Interval:
    """Limits of p / q for q > 0; the lower one in a form that does not divide by 2 q - its upper limit."""
    low, high = of_p.low * (2 * p - of_p.low), of_p.high * (2 * p - of_p.high)
    low_q, high_q = of_q.low * (2 * q - of_q.low), of_q.high * (2 * q - of_q.high)
    root = math.sqrt(max((p * q) ** 2 - low * high_q, 0.0))
    upper = (p * q + math.sqrt(max((p * q) ** 2 - high * low_q, 0.0))) / low_q
    return Interval(low / (p * q + root) if p else 0.0, upper)


@dataclass(frozen=True)
class Corrected:
    """What a judge's share would be without its errors."""

    rate: float
    """In [0, 1]."""
    interval: Interval


def corrected(seen: Share, *, sensitivity: Share, specificity: Share) -> Corrected | None:
    """The share of pictures that show something, from those in which a judge with known errors sees it.

    rate = (seen + specificity - 1) / (sensitivity + specificity - 1)
    (Rogan & Gladen 1978, American Journal of Epidemiology 107:71), with the interval of Lang & Reiczigel 2014
    (Preventive Veterinary Medicine 113:13), who add z^2 / 2 and one to the counts. It holds if the judge errs
    on these pictures as often as on those that its errors were counted on.

    Returns:
        None if nothing was asked, or if the judge may be no better than chance: then nothing can be told.
    """
    told = sensitivity.interval.low + specificity.interval.low - 1
    if seen.rate is None or sensitivity.rate is None or specificity.rate is None or told <= 0:
        return None
    youden = sensitivity.rate + specificity.rate - 1
    rate = (seen.rate + specificity.rate - 1) / youden

    n = seen.asked / seen.design_effect + Z_95**2
    p = (seen.right / seen.design_effect + Z_95**2 / 2) / n
    n_se, n_sp = sensitivity.asked + 2, specificity.asked + 2
    se, sp = (sensitivity.right + 1) / n_se, (specificity.right + 1) / n_sp
    middle = (p + sp - 1) / (se + sp - 1)
    of_se, of_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    shift = 2 * Z_95**2 * (middle * of_se - (1 - middle) * of_sp)
    spread = math.sqrt(p * (1 - p) / n + middle**2 * of_se + (1 - middle) ** 2 * of_sp) / (se + sp - 1)
    low, high = middle + shift - Z_95 * spread, middle + shift + Z_95 * spread
    rate = min(max(rate, 0.0), 1.0)
    return Corrected(rate, Interval(min(max(low, 0.0), rate), max(min(high, 1.0), rate)))


@dataclass(frozen=True)
class Distribution:
    """How often each class was seen, in clusters (the pictures of one prompt)."""

    classes: tuple[str, ...]
    """The last of them is `OTHER`, for what a judge sees outside the world."""
    counts: NDArray[np.int64]
    """[clusters, classes]."""

    @property
    def shares(self) -> NDArray[np.float64]:
        """[classes], 0 everywhere if nothing was seen."""
        return self.counts.sum(axis=0) / max(self.seen, 1)

    @property
    def seen(self) -> int:
        """Sightings in all."""
        return int(self.counts.sum())

    @property
    def effective(self) -> float:
        """Sightings over the mean design effect of the classes, weighted by p (1 - p).

        A first-order correction for clusters (Rao & Scott 1981, JASA 76:221).
        """
        sizes = self.counts.sum(axis=1)
        kept = sizes > 0
        shares, n = self.shares, self.seen
        weights = shares * (1 - shares)
        if not weights.sum():
            return float(n)
        effects = [
            design_effect(self.counts[kept, i].tolist(), sizes[kept].tolist(), independent=w / n)
            if w
            else 1.0
            for i, w in enumerate(weights)
        ]
        return n / float(np.average(effects, weights=weights))


def distribution(clusters: Sequence[Sequence[str]], classes: Sequence[str]) -> Distribution:
    """Count classes by cluster; what is none of `classes` counts as `OTHER`."""
    names = (*classes, OTHER)
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(clusters), len(names)), dtype=np.int64)
    for row, seen in zip(counts, clusters, strict=True):
        for name in seen:
            row[place.get(name, len(classes))] += 1
    return Distribution(names, counts)


def entropy_bits(shares: NDArray[np.float64], sightings: float = math.inf) -> float:
    """Shannon entropy of shares of that many independent sightings: 0 for one class alone.

    Few sightings miss some entropy, by about (classes seen - 1) / (2 sightings) nats, which are added (Miller
    1955, in Information Theory in Psychology, page 95), up to that of equal shares.
    """
    present = shares[shares > 0]
    missed = (len(present) - 1) / (2 * max(sightings, 1.0) * math.log(2))
    return min(float(-(present * np.log2(present)).sum()) + missed, math.log2(max(len(shares), 1)))


def total_variation(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Half the sum of absolute differences, in [0, 1]: the share that would have to be redistributed."""
    return float(abs(one - two).sum() / 2)


@dataclass(frozen=True)
class Distance:
    """A model's distribution against that of the data."""

    variation: float
    """Total variation distance."""
    interval: Interval
    """Percentiles of a bootstrap over clusters of both; chance alone lifts a small distance above zero."""
    by_chance: float
    """95 % of distances between samples of these sizes from one distribution, the pooled one, are below."""
    entropy: float
    """Of the model, in bits."""
    entropy_interval: Interval
    """Percentiles of the same bootstrap, moved by as much as its mean falls short of the entropy."""

    @property
    def clear(self) -> bool:
        """Whether chance hardly explains it."""
        return self.variation > self.by_chance


def distance(model: Distribution, data: Distribution, *, seed: int) -> Distance | None:
    """Compare them with draws of `numpy.random.default_rng(seed)`; None if one of them has seen nothing."""
    if not model.seen or not data.seen:
        return None
    draws = np.random.default_rng(seed)

    def resampled(of: Distribution) -> NDArray[np.float64]:
        clusters = len(of.counts)
        times = draws.multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES)
        counts = times @ of.counts
        return counts / counts.sum(axis=1, keepdims=True).clip(min=1)

    models, datas = resampled(model), resampled(data)
    sizes = [max(1, round(of.effective)) for of in (model, data)]
    pooled = model.shares * sizes[0] + data.shares * sizes[1]
    ones, twos = (draws.multinomial(n, pooled / pooled.sum(), size=RESAMPLES) / n for n in sizes)
    entropy = entropy_bits(model.shares, model.effective)
    entropies = np.array([entropy_bits(x) for x in models])
    moved = np.clip(entropies + entropy - entropies.mean(), 0.0, math.log2(len(model.classes)))
    return Distance(
        variation=total_variation(model.shares, data.shares),
        interval=_percentiles([total_variation(x, y) for x, y in zip(models, datas, strict=True)]),
        by_chance=float(np.quantile([total_variation(x, y) for x, y in zip(ones, twos, strict=True)], 0.95)),
        entropy=entropy,
        entropy_interval=_percentiles(moved.tolist()),
    )


def _percentiles(values: Sequence[float]) -> Interval:
    low, high = np.quantile(values, (0.025, 0.975))
    return Interval(float(low), float(high))
