"""Answers about the pictures of a study -> what changed between its arms, as values and as JSON.

Knows nothing of pictures, judges or files; `study_page.py` tells it to people.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ldm_pipeline.statistics import (
    POWER,
    ClusteredPaired,
    Mean,
    Paired,
    Share,
    clustered_share,
    holm,
    mean_of,
    paired_in_clusters,
    pairs_needed,
)
from ldm_pipeline.study import SHAM, Study
from ldm_pipeline.table_cells import finite

SCHEMA = "ldm_study_report/1"
THINGS = {"present": "named things", "color": "their colors"}
"""Rows that hold the fields of all the things that a prompt names."""


@dataclass(frozen=True, kw_only=True)
class ArmAnswers:
    """What a judge said of one arm's pictures, in the order of the study's cases."""

    asked: Sequence[bool]
    also: Mapping[str, Sequence[bool]]
    """Further question -> answers."""
    read: Sequence[Mapping[str, str]] = ()
    """Field -> class, of the fields that the question is not about; empty for a judge that reads none."""
    pixels: Sequence[float] = ()
    """Mean absolute difference from the first arm's picture, 0 to 255."""


@dataclass(frozen=True, kw_only=True)
class Needed:
    """How many pairs would show a change."""

    change: float
    """The change to be seen, in [-1, 1]."""
    observed: bool
    """Whether it is this study's own change; then it flatters, as a study that saw much sees too much."""
    discordant: float
    """Share of pairs that differ: as observed, but at least |change|."""
    power: float
    pairs: int
    design_effect: float
    """Of clusters, by which `pairs` was multiplied."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm (after) against another (before), over the same cases."""

    arm: str
    against: str
    asked: Paired
    p_holm: float | None
    """The asked question's p-value corrected for the number of values in a sweep; None for a pair."""
    also: dict[str, Paired]
    confirmed: dict[str, Paired]
    """What the prompt's words name, where the judge confirms it: city, weather, "named things" ..."""
    kept: dict[str, Share]
    """What the prompt leaves open: pictures that have the same answer in both arms."""
    unnamed: Paired | None
    """Whether the judge sees any thing that neither prompt nor question names; None if it reads no things."""
    pixels: Mean | None
    """Mean absolute difference of a picture from the first arm's, 0 to 255; None against another arm."""
    needed: Needed | None
    """None where there is no change to be seen."""


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """Everything that a study found, and on what."""

    study: Study
    shares: dict[str, Share]
    """Arm -> P(asked)."""
    comparisons: tuple[Comparison, ...]
    """Every arm against the first; in a pair with a sham arm also B against the sham."""
    answers: dict[str, ArmAnswers]
    facts: dict[str, Any]
    """Date, judge, device, versions, models, requests ...: whatever else there is to record."""

    def comparison(self, arm: str, against: str | None = None) -> Comparison:
        """Give the comparison of that arm, with the first if not told otherwise."""
        other = against or self.study.arms[0].key
        return next(one for one in self.comparisons if (one.arm, one.against) == (arm, other))

    def to_json(self) -> str:
        """JSON text with every number, `schema` first; limits that are infinite become null."""
        study = self.study
        keys = [arm.key for arm in study.arms]
        cases = [
            {
                "prompt": case.prompt,
                "seed": case.seed,
                "asked": {key: self.answers[key].asked[i] for key in keys},
                "also": {key: {q: a[i] for q, a in self.answers[key].also.items()} for key in keys},
                "read": {key: self.answers[key].read[i] for key in keys if self.answers[key].read},
            }
            for i, case in enumerate(study.cases)
        ]
        plain = {
            "schema": SCHEMA,
            **self.facts,
            "ask": study.ask,
            "also": study.also,
            "prompts": study.prompts,
            "seeds": study.seeds,
            "axes": study.axes,
            "shares": {key: asdict(share) for key, share in self.shares.items()},
            "comparisons": [asdict(one) for one in self.comparisons],
            "cases": cases,
        }
        return json.dumps(finite(plain), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def make_report(
    study: Study,
    answers: Mapping[str, ArmAnswers],
    *,
    named: Sequence[Mapping[str, str]] = (),
    effect: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> StudyReport:
    """Compare every arm with the first, by cases, or by prompts as clusters where there are several.

    `named` holds, per prompt, field -> class as its words have it; a field that they leave open is compared
    with the first arm's answers. `effect`, in (0, 1], is the change that one would like to see; None: the
    observed one. ValueError for another `effect`, and for answers that are not one per case.
    """
    if effect is not None and not 0 < effect <= 1:
        raise ValueError(f"effect={effect:g} is not allowed: use a share in (0, 1], 0.2 for 20 points")
    for arm in study.arms:
        if len(answers[arm.key].asked) != len(study.cases):
            raise ValueError(
                f"arm {arm.key} has {len(answers[arm.key].asked)} answers for {len(study.cases)} cases"
            )
    first, *others = (arm.key for arm in study.arms)
    pairs = [(key, first) for key in others] + ([("B", SHAM)] if SHAM in others else [])
    comparisons = [_compared(study, answers, named, arm=a, against=b, effect=effect) for a, b in pairs]
    if study.axes:
        corrected = holm([one.asked.p_value for one in comparisons])
        comparisons = [replace(one, p_holm=p) for one, p in zip(comparisons, corrected, strict=True)]
    shares = {first: comparisons[0].asked.before} | {
        one.arm: one.asked.after for one in comparisons[: len(others)]
    }
    return StudyReport(
        study=study,
        shares=shares,
        comparisons=tuple(comparisons),
        answers=dict(answers),
        facts=dict(facts or {}),
    )


def _compared(
    study: Study,
    answers: Mapping[str, ArmAnswers],
    named: Sequence[Mapping[str, str]],
    *,
    arm: str,
    against: str,
    effect: float | None,
) -> Comparison:
    before, after = answers[against], answers[arm]
    asked = _paired(study, before.asked, after.asked)
    pixels = None
    if after.pixels and against == study.arms[0].key:
        per_prompt = _by_prompt(study, after.pixels)
        several = len(per_prompt) > 1
        pixels = mean_of([math.fsum(one) / len(one) for one in per_prompt] if several else after.pixels)
    return Comparison(
        arm=arm,
        against=against,
        asked=asked,
        p_holm=None,
        also={q: _paired(study, before.also[q], after.also[q]) for q in study.also},
        confirmed=_confirmed(study, before, after, named),
        kept=_kept(study, before, after, named),
        unnamed=_unnamed(study, before, after, named),
        pixels=pixels,
        needed=_needed(asked, effect),
    )


def _confirmed(
    study: Study, before: ArmAnswers, after: ArmAnswers, named: Sequence[Mapping[str, str]]
) -> dict[str, Paired]:
    """Pair, in the prompts that name a row's fields, whether all of them are as named."""
    tables: dict[str, Paired] = {}
    for row, fields in _rows(before).items():
        asked = [{f: n[f] for f in fields if f in n} for n in named]  # per prompt

        def right(read: Mapping[str, str], case_prompt: int, asked=asked) -> bool:
            return all(read[field] == value for field, value in asked[case_prompt].items())

        cases = [(i, case.prompt) for i, case in enumerate(study.cases) if asked[case.prompt]]
        if cases:
            told = [[right(one.read[i], p) for i, p in cases] for one in (before, after)]
            tables[row] = _paired(study, *told, prompts=[p for _, p in cases])
    return tables


def _kept(
    study: Study, before: ArmAnswers, after: ArmAnswers, named: Sequence[Mapping[str, str]]
) -> dict[str, Share]:
    """Count, in the prompts that leave a scene's field open, the pictures that both arms answer alike."""
    shares: dict[str, Share] = {}
    for field in (field for fields in _rows(before).values() for field in fields if "." not in field):
        cases = [(i, case.prompt) for i, case in enumerate(study.cases) if field not in named[case.prompt]]
        if cases:
            same = [before.read[i][field] == after.read[i][field] for i, _ in cases]
            shares[field] = clustered_share(_grouped(same, [p for _, p in cases]))
    return shares


def _unnamed(
    study: Study, before: ArmAnswers, after: ArmAnswers, named: Sequence[Mapping[str, str]]
) -> Paired | None:
    """Pair whether there is a thing that the prompt does not name: what a change puts into pictures."""
    fields = [field for field in (before.read[0] if before.read else ()) if field.endswith(".present")]
    if not fields:
        return None

    def seen(answers: ArmAnswers) -> list[bool]:
        return [
            any(answers.read[i][field] == "yes" and field not in named[case.prompt] for field in fields)
            for i, case in enumerate(study.cases)
        ]

    return _paired(study, seen(before), seen(after))


def _rows(answers: ArmAnswers) -> dict[str, list[str]]:
    """Row of the report -> fields: the scene's own ones, then those of all things together."""
    rows: dict[str, list[str]] = {}
    for field in answers.read[0] if answers.read else ():
        rows.setdefault(THINGS.get(field.rpartition(".")[2], field), []).append(field)
    return rows


def _needed(asked: Paired, effect: float | None) -> Needed | None:
    change = effect if effect is not None else asked.change
    if not change:
        return None
    differ = (asked.only_before + asked.only_after) / asked.cases
    discordant = max(differ, abs(change))
    inflation = asked.change_effect if isinstance(asked, ClusteredPaired) else 1.0
    return Needed(
        change=change,
        observed=effect is None,
        discordant=discordant,
        power=POWER,
        pairs=math.ceil(inflation * pairs_needed(change, discordant=discordant)),
        design_effect=inflation,
    )


def _paired(
    study: Study, before: Sequence[bool], after: Sequence[bool], prompts: Sequence[int] | None = None
) -> Paired:
    of = [case.prompt for case in study.cases] if prompts is None else prompts
    return paired_in_clusters(_grouped(before, of), _grouped(after, of))


def _by_prompt(study: Study, values: Sequence[Any]) -> list[list[Any]]:
    return _grouped(values, [case.prompt for case in study.cases])


def _grouped(values: Sequence[Any], prompts: Sequence[int]) -> list[list[Any]]:
    """Put the values of each prompt together."""
    groups: dict[int, list[Any]] = {}
    for value, prompt in zip(values, prompts, strict=True):
        groups.setdefault(prompt, []).append(value)
    return list(groups.values())
