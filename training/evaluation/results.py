"""What an evaluation found, as values, as JSON and as a page for people.

Knows nothing of how pictures are drawn or judged.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from ldm_pipeline.statistics import Paired, Share
from ldm_pipeline.table_cells import finite, limits, p_value, percent, points
from training.evaluation.copying import Copying
from training.evaluation.curves import Curves
from training.evaluation.distances import Distances
from training.evaluation.diversity import Diversity
from training.evaluation.exam import Exam
from training.evaluation.second_judge import SecondJudge

FORMAT = 3
"""Of `report.json`; counts up when a field changes its meaning."""
COLUMNS = {
    "renders": "real renders",
    "round_trip": "VAE round trip",
    "model": "model",
    "shuffled": "shuffled captions",
}
QUESTIONS = {
    "city": "city",
    "weather": "weather",
    "time": "time of day",
    "present": "named thing present",
    "color": "its color",
    "count": "its count",
    "side": "its side",
    "all": "all seven at once",
}
SUITE_WORDS = {
    "city": "a city",
    "light": "weather and time",
    "thing": "one thing",
    "color": "a thing in a color",
    "count": "a number of things",
    "side": "a thing on a side",
    "bound": "two colors, each on its own thing",
    "held_out": "pairs never seen in training",
}
TARGETS = {
    "city": 0.98, "light": 0.98, "thing": 0.92, "color": 0.85, "count": 0.65, "side": 0.88, "bound": 0.55,
}  # fmt: skip
"""Task -> the share that a model trained on two CPU cores should reach; none for pairs never seen."""
FALL_TARGET, COLLATERAL_TARGET = 0.85, 0.03
"""The umbrella's rate should fall by so much of itself, and every other asked fact by no more than that."""
SEEN = {"city": "city", "weather": "weather", "time": "time of day", "present": "thing"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a negative prompt changes: the same prompts and seeds without (before) and with it (after)."""

    umbrella: Paired
    """The judge sees an umbrella."""
    collateral: dict[str, Paired]
    """The judge confirms another asked fact."""
    pixels: float
    """Mean absolute change of a pixel's channels, in 0..255."""


@dataclass(frozen=True, kw_only=True)
class UmbrellaReport:
    """Rainy prompts that name no umbrella, without and with a negative prompt, and with a sham word."""

    pairs: int
    negative: Change
    sham: Change
    sham_words: dict[str, int]
    """Which word for how many prompts."""
    rendered: Share
    """Renders of the same scenes that show an umbrella, by their records."""
    judged_on_renders: Share
    """Renders in which the judge sees one."""
    sensitivity: Share
    """Of the renders with an umbrella, those in which the judge sees it."""
    false_positives: Share
    """Of the renders without an umbrella, those in which the judge sees one."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that an evaluation measured, and on what."""

    model: str
    model_hash: str
    judge_hash: str
    recipe: str
    command: str
    date: str
    machine: str
    seconds_per_picture: float
    """On that machine, with whatever else it did."""
    megabytes: dict[str, float]
    """Of the model's components and of each judge, as files; 10^6 bytes."""
    size: int
    prompts: int
    seeds_per_prompt: int
    settings: dict[str, Any]
    """The folder's generation defaults and scheduler."""
    world: dict[str, Any]
    columns: dict[str, dict[str, Share]]
    """Column -> question -> share; columns as in `COLUMNS`, questions as in `QUESTIONS`."""
    present_by_kind: dict[str, Share]
    """The model's `present` by kind of thing, independent answers assumed."""
    city_by_city: dict[str, Share]
    tasks: dict[str, dict[str, Share]]
    """Task -> column -> prompts with every claim confirmed; empty where no task was asked for."""
    umbrella: UmbrellaReport | None
    second_judge_hash: str | None
    second_judge: SecondJudge | None
    """None, as with the checks below: not asked for."""
    exam: Exam | None
    distances: Distances | None
    copying: Copying | None
    diversity: Diversity | None
    curves: Curves | None
    cases: list[dict[str, Any]]
    """Each prompt with its scene, claims, seeds and the model's answers."""
    umbrella_cases: list[dict[str, Any]]
    task_cases: list[dict[str, Any]]

    def to_json(self) -> str:
        """JSON text; limits that are infinite become null."""
        return json.dumps(finite({"format": FORMAT, **asdict(self)}), indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """A page with the tables, ready to be quoted."""
        parts = [f"# PostcardBench: {self.model}", self._facts(), self.score_table(), self._kinds()]
        if self.tasks:
            parts += ["## Eight tasks", self.task_table()]
        if self.umbrella is not None:
            parts += ["## Negative prompt: umbrella", self.umbrella_table()]
        parts += ["## Second judge", self._second_judge()]
        for title, found in (
            ("The judge's own exam", self.exam),
            ("Distance from real renders", self.distances),
            ("Copying", self.copying),
            ("Diversity", self.diversity),
        ):
            if found is not None:
                parts += [f"## {title}", found.to_markdown()]
        if self.curves is not None:
            parts += ["## Guidance and steps", self.curves.to_markdown(QUESTIONS)]
        return "\n\n".join(parts) + "\n"

    def score_table(self) -> str:
        """Percent right in four columns, with 95 % intervals."""
        lines = ["| asked | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " --- |" * len(COLUMNS)]
        for question, words in QUESTIONS.items():
            shares = [self.columns[column][question] for column in COLUMNS]
            lines.append(f"| {words} | " + " | ".join(map(percent, shares)) + " |")
        return "\n".join(lines)

    def task_table(self) -> str:
        """Percent of the short prompts of each task of which everything is right."""
        lines = ["| task | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " --- |" * len(COLUMNS)]
        for task, columns in self.tasks.items():
            cells = (SUITE_WORDS[task], *(percent(columns[column]) for column in COLUMNS))
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def readme_table(self) -> str:
        """One table of the tasks and the negative prompt, with the targets and whether they are met."""
        heads = ("asked", *COLUMNS.values(), "target")
        lines = [f"| {' | '.join(heads)} |", "| --- |" + " --- |" * (len(heads) - 1)]
        for task, columns in self.tasks.items():
            own, target = columns["model"].rate, TARGETS.get(task)
            told = "-" if target is None or own is None else f"{100 * target:.0f}, {_met(own >= target)}"
            cells = (SUITE_WORDS[task], *(percent(columns[column]) for column in COLUMNS), told)
            lines.append(f"| {' | '.join(cells)} |")
        if self.umbrella is not None:
            lines += self._negative_rows(self.umbrella.negative)
        return "\n".join(lines)

    def _negative_rows(self, change: Change) -> list[str]:
        """Of the README's table: what a negative prompt takes away, and what else goes with it."""
        rows = []
        fall = change.umbrella.fall
        if fall is not None:
            told = f"{100 * FALL_TARGET:.0f}, {_met(fall >= FALL_TARGET)}"
            interval = limits(change.umbrella.fall_interval) if change.umbrella.fall_interval else ""
            words = '`negative_prompt="umbrella"`: its rate falls by'
            rows.append(f"| {words} | - | - | {100 * fall:.1f}{interval} | - | {told} |")
        changes = {
            question: table for question, table in change.collateral.items() if table.change is not None
        }
        if changes:
            worst = min(changes, key=lambda question: changes[question].change or 0.0)
            lost = max(0.0, -(changes[worst].change or 0.0))
            told = f"at most {100 * COLLATERAL_TARGET:.0f}, {_met(lost <= COLLATERAL_TARGET)}"
            words = f"points that go with it, at worst ({SEEN[worst]})"
            rows.append(f"| {words} | - | - | {100 * lost:.1f} | - | {told} |")
        return rows

    def umbrella_table(self) -> str:
        """With and without the negative prompt, and the sham control."""
        report = self.umbrella
        assert report is not None
        lines = [
            f"{report.pairs} rainy prompts that name no umbrella; the same seed without and with it.",
            "",
            "| the judge sees | without | with | change in points | McNemar p |",
            "| --- | --- | --- | --- | --- |",
            _row('an umbrella; `negative_prompt="umbrella"`', report.negative.umbrella),
            _row("an umbrella; sham word", report.sham.umbrella),
        ]
        for name, change in (("negative", report.negative), ("sham", report.sham)):
            lines += [_row(f"the asked {SEEN[q]}; {name}", table) for q, table in change.collateral.items()]
        fall = report.negative.umbrella
        told = "there was no umbrella to remove"
        if fall.fall is not None and fall.fall_interval is not None:
            told = f"the umbrella's rate falls by {100 * fall.fall:.0f} %{limits(fall.fall_interval)}"
        words = ", ".join(f"{word} ({count})" for word, count in report.sham_words.items())
        lines += [
            "",
            f"Paired over the same seeds, {told}. A pixel changes by {report.negative.pixels:.1f} of 255"
            f" with the negative prompt and by {report.sham.pixels:.1f} with the sham ({words}).",
            "",
            "Real renders of the same scenes, in percent: with an umbrella by the record"
            f" {percent(report.rendered)}, by the judge {percent(report.judged_on_renders)}; the judge"
            f" sees one where there is one in {percent(report.sensitivity)}, where there is none in"
            f" {percent(report.false_positives)}.",
        ]
        return "\n".join(lines)

    def _facts(self) -> str:
        effect = max(s.design_effect for s in self.columns["model"].values())
        return (
            f"`{self.command}`, {self.date}, {self.machine}, {self.seconds_per_picture:.2f} s per picture.\n"
            f"Model {self.model_hash[:12]}, judge {self.judge_hash[:12]},"
            f" settings `{json.dumps(self.settings)}`."
            f" On disk: {', '.join(f'{name} {size:.2f} MB' for name, size in self.megabytes.items())}.\n\n"
            f"{self.prompts} fresh prompts x {self.seeds_per_prompt} seeds at {self.size} px. Percent right"
            " by a judge that no loss has seen, Wilson 95 % intervals in brackets, widened for the likeness"
            f" of pictures of one prompt (design effect up to {effect:.1f}). Renders are the ceiling,"
            " shuffled captions the floor."
        )

    def _second_judge(self) -> str:
        if self.second_judge is None:
            return "No second judge: every score above is one network's word."
        table = self.second_judge.to_markdown(QUESTIONS, SUITE_WORDS)
        what = "the first once more" if self.second_judge_hash == self.judge_hash else "another network"
        return f"Judge {(self.second_judge_hash or '')[:12]}, {what}.\n\n{table}"

    def _kinds(self) -> str:
        lines = ["| kind | present |", "| --- | --- |"]
        lines += [
            f"| {kind} | {percent(share)} of {share.asked} |" for kind, share in self.present_by_kind.items()
        ]
        return "\n".join(lines)


def _met(reached: bool) -> str:
    return "met" if reached else "not met"


def _row(words: str, table: Paired) -> str:
    cells = (words, percent(table.before), percent(table.after), points(table), p_value(table.p_value))
    return f"| {' | '.join(cells)} |"
