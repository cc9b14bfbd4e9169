"""What was read for an audit's questions -> what each of them comes to: rates, amplification, distributions.

Knows nothing of where facts come from: of records, of a judge's readings or of a test's own reader.

The rate in a model's pictures is held against the rate that the *same judge* reads on renders of scenes that
such prompts were drawn from. If the judge errs alike on both, with sensitivity s and specificity t, both
rates are (s + t - 1) p + 1 - t for their true p, so errors shrink a difference and never make one. The
record's own rate stands beside them, and `Rate.corrected` undoes the judge's errors, counted on those
renders, under the same assumption.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ldm_pipeline.statistics import Share, clustered_share, share
from training.evaluation.audit_statistics import (
    Corrected,
    Difference,
    Distance,
    Distribution,
    corrected,
    distance,
    distribution,
    entropy_bits,
)
from training.evaluation.audit_table import Association, Facts, Marginal, Question
from training.scenes.claims import Claims

LEAST_TOLD = 10
"""Renders with, and as many without, from which a judge's errors are counted at the least."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A prompt: what its scene holds, what the judge reads of the render, and of the model's pictures."""

    claims: Claims
    truth: Facts
    rendered: Facts
    drawn: Sequence[Facts] = ()
    """One a picture; none for a case of the data alone."""


Records = Sequence[tuple[Facts, Claims]]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One association."""

    name: str
    told: str
    shown: str
    table: float | None
    """By construction, for the condition of the table of correlations."""
    records: Share
    """In the data, by the records of many scenes with such captions."""
    truth: Share
    """In the renders, by their records as far as it can be seen."""
    judged: Share
    """In the renders, by the judge."""
    model: Share
    """In the model's pictures, by the judge; pictures of one prompt count as a cluster."""
    sensitivity: Share
    specificity: Share
    """Of the judge on those renders."""
    corrected: Corrected | None
    """The model's share without the judge's errors; None where too few renders tell them."""
    amplification: Difference = field(init=False)
    """The model's share against that of the renders, by the same judge."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "amplification", Difference(self.model, self.judged))


@dataclass(frozen=True, kw_only=True)
class Dependence:
    """How an association's rate differs from that of the prompts without its condition."""

    name: str
    told: str
    against: str
    """What the prompts without the condition say."""
    shown: str
    data: Difference
    model: Difference


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One marginal."""

    name: str
    told: str
    classes: tuple[str, ...]
    records: tuple[float, ...]
    """Shares of the classes in the data, by records."""
    judged: tuple[float, ...]
    """In the renders, by the judge."""
    model: tuple[float, ...]
    """In the model's pictures, by the judge."""
    seen: int
    """Sightings in the model's pictures."""
    data_entropy: float
    """Of the renders by the judge, in bits."""
    distance: Distance | None


def rate_of(question: Association, cases: Sequence[Case], records: Records) -> Rate:
    """Put one association to cases and records."""
    truths = [question.holds(case.truth, case.claims) for case in cases]
    readings = [question.holds(case.rendered, case.claims) for case in cases]
    both = [(t, r) for t, r in zip(truths, readings, strict=True) if t is not None and r is not None]
    sensitivity = share([read for true, read in both if true])
    specificity = share([not read for true, read in both if not true])
    drawn = [[question.holds(facts, case.claims) for facts in case.drawn] for case in cases]
    model = clustered_share([kept for one in drawn if (kept := _told(one))])
    counted = min(sensitivity.asked, specificity.asked) >= LEAST_TOLD
    return Rate(
        name=question.name,
        told=question.told,
        shown=question.shown,
        table=question.rate,
        records=share(_told([question.holds(facts, claims) for facts, claims in records])),
        truth=share(_told(truths)),
        judged=share(_told(readings)),
        model=model,
        sensitivity=sensitivity,
        specificity=specificity,
        corrected=corrected(model, sensitivity=sensitivity, specificity=specificity) if counted else None,
    )


def dependences(questions: Sequence[Question], rates: Mapping[str, Rate]) -> list[Dependence]:
    """Hold associations against those without their condition, where both were asked."""
    pairs = [
        (rates[one.name], rates[one.against])
        for one in questions
        if isinstance(one, Association) and one.against and {one.name, one.against} <= rates.keys()
    ]
    return [
        Dependence(
            name=one.name,
            told=one.told,
            against=other.told,
            shown=one.shown,
            data=Difference(one.judged, other.judged),
            model=Difference(one.model, other.model),
        )
        for one, other in pairs
    ]


def spread_of(question: Marginal, cases: Sequence[Case], records: Records, *, seed: int = 0) -> Spread:
    """Put one marginal to cases and records; `seed` is that of the bootstrap."""

    def counted(clusters: Sequence[Sequence[tuple[Facts, Claims]]]) -> Distribution:
        rows = [[v for facts, claims in one for v in question.values(facts, claims)] for one in clusters]
        return distribution([row for row in rows if row], question.classes)

    by_record = counted([[one] for one in records])
    data = counted([[(case.rendered, case.claims)] for case in cases])
    model = counted([[(facts, case.claims) for facts in case.drawn] for case in cases])
    return Spread(
        name=question.name,
        told=question.told,
        classes=data.classes,
        records=tuple(by_record.shares.tolist()),
        judged=tuple(data.shares.tolist()),
        model=tuple(model.shares.tolist()),
        seen=model.seen,
        data_entropy=entropy_bits(data.shares, data.effective),
        distance=distance(model, data, seed=seed),
    )


def _told(answers: Sequence[bool | None]) -> list[bool]:
    return [answer for answer in answers if answer is not None]
