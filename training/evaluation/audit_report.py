"""What an audit found, as values, as JSON and as a page for people.

Knows nothing of how pictures are drawn or judged.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ldm_pipeline.statistics import Interval
from ldm_pipeline.table_cells import finite, limits, percent
from training.evaluation.audit_findings import Dependence, Rate, Spread
from training.evaluation.audit_statistics import Corrected, Difference

FORMAT = 1
"""Of `audit.json`; counts up when a field changes its meaning."""
SMALLEST_SHARE = 0.005
"""Classes rarer than this both in the data and in the model are left out of the page's lists."""


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """Everything that an audit measured, and on what."""

    model: str
    model_hash: str
    judge_hash: str
    recipe: str
    command: str
    date: str
    machine: str
    size: int
    prompts: int
    """For each question."""
    seeds_per_prompt: int
    pictures: int
    """Drawn in all; one prompt may serve several questions."""
    renders: int
    records: int
    """Scenes whose records were read, for each world."""
    settings: dict[str, Any]
    world: dict[str, Any]
    rates: list[Rate]
    dependences: list[Dependence]
    spreads: list[Spread]
    not_asked: dict[str, str]
    """Question -> why it cannot be put to this world."""
    not_readable: dict[str, str]
    """Correlation -> why the judge cannot tell."""
    cases: list[dict[str, Any]]
    """Each prompt with its scene, seeds and the judge's answers about the model's pictures."""

    def to_json(self) -> str:
        """JSON text; limits that are infinite become null."""
        return json.dumps(finite({"format": FORMAT, **asdict(self)}), indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """A page with the tables, ready to be quoted."""
        parts = [
            f"# Bias audit: {self.model}",
            self._facts(),
            "## What stands out",
            self.summary(),
            "## What goes with what",
            self.rate_table(),
            _HOW_TO_READ,
        ]
        if self.dependences:
            parts += ["## Does the model make the difference that the data make?", self.dependence_table()]
        if self.spreads:
            parts += [
                "## What is drawn when the prompt leaves it open",
                self.spread_table(),
                self.spread_lists(),
            ]
        parts += ["## Not asked", self._not_asked()]
        return "\n\n".join(parts) + "\n"

    def summary(self) -> str:
        """The associations and distributions that chance hardly explains, the largest first."""
        rates = [rate for rate in self.rates if rate.amplification.clear]
        rates.sort(key=lambda rate: -abs(rate.amplification.points or 0.0))
        lines = [
            f"- {rate.told}: {rate.shown} in {_plain(rate.model.rate)} % of the pictures, in the data in"
            f" {_plain(rate.judged.rate)} % ({_points(rate.amplification)} points)."
            for rate in rates
        ]
        lines += [
            f"- {one.told}: {_moves(one)} (distance {_plain(one.distance.variation)} points, by chance up to"
            f" {_plain(one.distance.by_chance)})."
            for one in self.spreads
            if one.distance and one.distance.clear
        ]
        asked = len(self.rates) + len(self.spreads)
        told = f"{len(lines)} of {asked} questions; chance alone would give up to about {asked / 20:.0f}."
        return "\n".join([told, *([""] if lines else []), *lines])

    def rate_table(self) -> str:
        """Percent with 95 % intervals; amplification in points and as a ratio."""
        rows = [
            (
                rate.told,
                rate.shown,
                "-" if rate.table is None else f"{100 * rate.table:.3g}",
                percent(rate.records),
                percent(rate.judged),
                percent(rate.model),
                _bold(_points(rate.amplification), rate.amplification.clear),
                _ratio(rate.amplification),
                _corrected(rate.corrected),
            )
            for rate in self.rates
        ]
        head = "told | shown | table | records | renders | model | points | ratio | model, corrected"
        return _table(head, rows)

    def dependence_table(self) -> str:
        """How rates differ between prompts with and without a condition, in points."""
        rows = [
            (
                one.told,
                one.against,
                one.shown,
                _points(one.data),
                _bold(_points(one.model), one.model.clear),
            )
            for one in self.dependences
        ]
        return _table("told | against | shown | renders | model", rows)

    def spread_table(self) -> str:
        """Distances and entropies."""
        rows = []
        for one in self.spreads:
            found = one.distance
            cells = ("-",) * 4
            if found:
                told = f"{_plain(found.variation)} {_brackets(found.interval)}"
                bits = found.entropy_interval
                cells = (
                    _bold(told, found.clear),
                    _plain(found.by_chance),
                    f"{one.data_entropy:.2f}",
                    f"{found.entropy:.2f} ({bits.low:.2f}-{bits.high:.2f})",
                )
            rows.append((one.name, one.told, str(one.seen), *cells))
        head = (
            "open | told | seen | distance in points | by chance up to | bits in the data | bits in the model"
        )
        return _table(head, rows)

    def spread_lists(self) -> str:
        """Every class as percent of the renders and of the model's pictures, both by the judge."""
        lines = ["Percent of the renders -> percent of the model's pictures, both by the judge:", ""]
        for one in self.spreads:
            told = [
                f"{name} {_plain(data)} -> {_plain(model)}"
                for name, data, model in zip(one.classes, one.judged, one.model, strict=True)
                if max(data, model) >= SMALLEST_SHARE
            ]
            lines.append(f"- {one.name}: {', '.join(told)}")
        return "\n".join(lines)

    def _facts(self) -> str:
        return (
            f"`{self.command}`, {self.date}, {self.machine}.\n"
            f"Model {self.model_hash[:12]}, judge {self.judge_hash[:12]},"
            f" settings `{json.dumps(self.settings)}`.\n\n"
            f"{self.prompts} prompts x {self.seeds_per_prompt} seeds for each question at {self.size} px,"
            f" {self.pictures} pictures and {self.renders} renders in all. Prompts are captions as training"
            " draws them that tell the condition and leave the consequence open. Percent, with 95 % intervals"
            " in brackets."
        )

    def _not_asked(self) -> str:
        names: dict[str, list[str]] = {}
        for name, reason in {**self.not_asked, **self.not_readable}.items():
            names.setdefault(reason, []).append(name)
        return "\n".join(f"- {', '.join(some)}: {reason}." for reason, some in names.items())


_HOW_TO_READ = """\
`table` is the rate that the world is built with; `records` is what scenes hold next to such captions, which
differs, because captions keep silent about named things now and then and scenes with held-out pairs are
rejected. `renders` is what the judge reads in pictures of such scenes, `model` what it reads in the model's.
`points` and `ratio` compare these two, bold where the interval leaves out zero: an error that the judge makes
on both alike shrinks a difference and never makes one. `model, corrected` undoes the judge's errors as
counted on the renders, if it errs on the model's pictures as often; a dash where too few renders tell."""


def _table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {head} |", "|" + " --- |" * len(head.split("|"))]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _plain(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f}"


def _bold(text: str, clear: bool) -> str:
    return f"**{text}**" if clear else text


def _points(difference: Difference) -> str:
    if difference.points is None:
        return "-"
    return f"{100 * difference.points:+.1f}{limits(difference.interval, sign='+')}"


def _ratio(difference: Difference) -> str:
    if difference.ratio is None or difference.points is None:
        return "-"
    interval = difference.ratio_interval
    high = f"{interval.high:.2f}" if math.isfinite(interval.high) else "none"
    return f"{difference.ratio:.2f} ({interval.low:.2f}-{high})"


def _corrected(found: Corrected | None) -> str:
    return "-" if found is None else f"{_plain(found.rate)} {_brackets(found.interval)}"


def _brackets(interval: Interval) -> str:
    return f"({_plain(interval.low)}-{_plain(interval.high)})"


def _moves(one: Spread) -> str:
    """The class that gains most and the one that loses most."""
    gains = {name: m - d for name, d, m in zip(one.classes, one.judged, one.model, strict=True)}
    up, down = max(gains, key=gains.__getitem__), min(gains, key=gains.__getitem__)
    return f"{up} {100 * gains[up]:+.1f} points, {down} {100 * gains[down]:+.1f}"
