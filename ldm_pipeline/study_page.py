"""A study's report as a page for people: one table of what was asked, one of what else changed.

Knows nothing of how the numbers were found.
"""

from collections.abc import Sequence

from ldm_pipeline.statistics import Mean, Paired
from ldm_pipeline.study import SHAM, described
from ldm_pipeline.study_report import Comparison, Needed, StudyReport
from ldm_pipeline.table_cells import p_value, percent, points


def to_markdown(report: StudyReport) -> str:
    """Write the report in Markdown; percent and percentage points, 95 % intervals in brackets."""
    study, several = report.study, len(report.study.prompts) > 1
    title = f"{len(study.prompts)} prompts" if several else f'"{study.prompts[0]}"'
    parts = [f"# Paired study: {title}", _facts(report), asked_table(report)]
    if study.axes:
        parts += [_grid(report)] if len(study.axes) == 2 else []
    elif SHAM in report.shares:
        parts.append(_beyond_sham(report.comparison("B", SHAM)))
    other = collateral_table(report)
    if other:
        parts += ["## What else changed", other]
    parts += ["## How many pairs one would need", _needs(report)]
    parts += ["## Read with care", _cautions(report)]
    return "\n\n".join(parts) + "\n"


def asked_table(report: StudyReport) -> str:
    """P(asked) in each arm, and the change against the first."""
    clustered = len(report.study.prompts) > 1
    test = "sign-flip p" if clustered else "McNemar p"
    holm = " | p (Holm)" if report.study.axes else ""
    lines = [
        f"| arm | settings | {report.study.ask}: yes, % | change, points | {test}{holm}"
        " | yes only before / only after |",
        "| --- |" + " --- |" * (5 + bool(holm)),
    ]
    for arm in report.study.arms:
        cells = [arm.key, f"`{arm.label}`", percent(report.shares[arm.key])]
        if arm is report.study.arms[0]:
            cells += [""] * (3 + bool(holm))
        else:
            one = report.comparison(arm.key)
            cells += [points(one.asked), p_value(one.asked.p_value)]
            cells += [p_value(one.p_holm)] if one.p_holm is not None else []
            cells.append(f"{one.asked.only_before} / {one.asked.only_after}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def collateral_table(report: StudyReport) -> str:
    """Everything else that the judge answered, and how far pictures moved; "" where there is nothing."""
    first, *others = report.study.arms
    against = [report.comparison(arm.key) for arm in others]
    rows: list[list[str]] = []
    for name in against[0].also:
        rows.append(_row(f"{name}: yes", [one.also[name] for one in against]))
    for name in against[0].confirmed:
        rows.append(_row(f"{name} as the prompt says", [one.confirmed[name] for one in against]))
    for name in against[0].kept:
        cells = [f"{percent(one.kept[name])} same" for one in against]
        rows.append([f"{name}, which the prompt leaves open: same as in {first.key}", "", *cells])
    others_seen = [one.unnamed for one in against if one.unnamed is not None]
    if others_seen:
        rows.append(_row("a thing that nobody named: seen", others_seen))
    if all(one.pixels is not None for one in against):
        rows.append(
            ["mean change of a pixel, of 255", "", *(_mean(one.pixels) for one in against if one.pixels)]
        )
    if not rows:
        return ""
    head = ["", f"{first.key}, %", *(f"{arm.key}: change, points" for arm in others)]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " --- |" * (len(head) - 1)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _facts(report: StudyReport) -> str:
    study, facts = report.study, report.facts
    judge = facts.get("judge", {})
    weights = f" {judge['weights'][:12]}" if judge.get("weights") else ""
    told = [
        f"Asked about every picture: **{study.ask}**. Judge: {judge.get('judge', 'unknown')}{weights}.",
        f"{_cases(report)}, each drawn in every arm with the same noise: {len(study.cases) * len(study.arms)}"
        " pictures.",
        f"{facts.get('date', '')}, {facts.get('machine', '')}".strip(", ") + ".",
    ]
    return "\n".join(line for line in told if line != ".")


def _cases(report: StudyReport) -> str:
    study = report.study
    seeds = study.seeds
    run = seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))
    span = f" ({seeds[0]} to {seeds[-1]})" if run and len(seeds) > 1 else ""
    prompts = f"{len(study.prompts)} prompts x " if len(study.prompts) > 1 else ""
    return f"{prompts}{len(seeds)} seed{'s' if len(seeds) > 1 else ''}{span}"


def _beyond_sham(one: Comparison) -> str:
    return (
        f"B against the sham arm, the effect beyond that of any word: {points(one.asked)} points,"
        f" p {p_value(one.asked.p_value)}."
    )


def _grid(report: StudyReport) -> str:
    """P(asked) with x across and y down."""
    (x, columns), (y, _) = report.study.axes
    arms = report.study.arms
    across = [described(arm.settings.get(x)) for arm in arms[:columns]]
    lines = [f"| {y} \\ {x} | {' | '.join(across)} |", "| --- |" + " --- |" * columns]
    for first in range(0, len(arms), columns):
        row = arms[first : first + columns]
        cells = [described(row[0].settings.get(y)), *(percent(report.shares[arm.key]) for arm in row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _row(words: str, tables: Sequence[Paired]) -> list[str]:
    return [words, percent(tables[0].before), *(f"{points(t)}, p {p_value(t.p_value)}" for t in tables)]


def _mean(mean: Mean) -> str:
    if mean.mean is None or mean.interval is None:
        return "-"
    return f"{mean.mean:.1f} ({mean.interval.low:.1f} to {mean.interval.high:.1f})"


def _needs(report: StudyReport) -> str:
    lines = []
    for arm in report.study.arms[1:]:
        needed = report.comparison(arm.key).needed
        lines.append(f"- {arm.key}: {_need(needed, report)}")
    return "\n".join(lines)


def _need(needed: Needed | None, report: StudyReport) -> str:
    if needed is None:
        return "no change was seen, so no number follows; name one, e.g. `--effect 20` for 20 points."
    which = "the change seen here" if needed.observed else "a change"
    unit = "seeds"
    if len(report.study.prompts) > 1:
        each = len(report.study.seeds)
        unit = f"pairs, {-(-needed.pairs // each)} prompts of {each} seeds"
    return (
        f"{which}, {100 * abs(needed.change):.1f} points with {100 * needed.discordant:.0f} % of the pairs"
        f" differing, would be seen by McNemar's exact test at 5 % with {100 * needed.power:.0f} % power in"
        f" {needed.pairs} {unit}."
    )


def _cautions(report: StudyReport) -> str:
    told = []
    if len(report.study.prompts) > 1:
        told.append(
            "Intervals are widened for the likeness of the pictures of one prompt, and the p-value swaps arms"
            " prompt by prompt: prompts are the cases that count."
        )
    told.append("Only the asked question was asked in advance; p-values of other rows are not corrected.")
    if report.study.axes:
        told.append("Each value is compared with the first; Holm's p-values are corrected for their number.")
    looks = report.facts.get("looks", ())
    if len(looks) > 1:
        told.append(
            f"This is look {len(looks)} at these pictures (others had fewer seeds, or asked otherwise);"
            " p-values are not corrected for looking again."
        )
    told.append("A judge that errs alike in both arms makes a true change look smaller.")
    if SHAM not in report.shares and not report.study.axes:
        told.append("There is no sham arm: part of the change may be what any change of the settings does.")
    return "\n".join(f"- {line}" for line in told)
