"""What two judges say of the same pictures -> what the second confirms, and how often the two differ.

Knows nothing of how the pictures were made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ldm_pipeline.judge import Reading
from ldm_pipeline.statistics import Share, clustered_share
from ldm_pipeline.table_cells import percent
from training.evaluation.answers import Answered, confirmed, facts
from training.scenes.claims import Claims


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two judges on one question."""

    first: Share
    """Pictures of which the first judge confirms what is asked, and `second` the second."""
    second: Share
    verdicts: Share
    """Pictures of which one judge confirms it and the other does not."""
    answers: Share
    """Pictures of which they name different classes for something asked, though both may deny the claim."""


@dataclass(frozen=True, kw_only=True)
class SecondJudge:
    """The second judge beside the first, on the model's pictures and on the real renders."""

    questions: dict[str, Agreement]
    """Of the fresh prompts' pictures; "all" is everything at once."""
    questions_on_renders: dict[str, Agreement]
    tasks: dict[str, Agreement]
    """Task -> everything that it asks for, on the model's pictures."""

    def to_markdown(self, questions: dict[str, str], tasks: dict[str, str]) -> str:
        """Tables with the words for questions and tasks that are given."""
        lines = [
            "Percent of the pictures: what each confirms; one confirms it and the other does not; they name"
            " different classes (which may be two wrong ones).",
            "",
            "| asked | first judge | second judge | verdicts differ | answers differ |",
            "| --- | --- | --- | --- | --- |",
        ]
        rows = [(words, self.questions[name]) for name, words in questions.items()]
        rows += [(f"task: {tasks[name]}", agreement) for name, agreement in self.tasks.items()]
        rows += [(f"renders: {words}", self.questions_on_renders[name]) for name, words in questions.items()]
        lines += [_row(words, agreement) for words, agreement in rows]
        return "\n".join(lines)


def compare_judges(
    first: Reading, second: Reading, claims: Sequence[Claims], *, seeds_per_prompt: int = 1
) -> dict[str, Agreement]:
    """Question -> agreement; only what is claimed is asked, and pictures of one prompt are one cluster.

    Args:
        claims: one for each prompt, whose `seeds_per_prompt` pictures follow each other in the readings.
    Raises:
        ValueError: a judge has no field for something that is claimed.
    """
    of_pictures = [claim for claim in claims for _ in range(seeds_per_prompt)]
    verdicts = [confirmed(reading, of_pictures) for reading in (first, second)]
    answers = [Answered(reading) for reading in (first, second)]
    rows: list[dict[str, tuple[bool, bool, bool]]] = []
    for i, claim in enumerate(of_pictures):
        differ: dict[str, bool] = {}
        for question, field, _ in facts(claim):
            other = answers[0](field, i) != answers[1](field, i)
            differ[question] = differ.get(question, False) or other
        differ["all"] = any(differ.values())
        rows.append({name: (verdicts[0][i][name], verdicts[1][i][name], differ[name]) for name in differ})
    prompts = [rows[i : i + seeds_per_prompt] for i in range(0, len(rows), seeds_per_prompt)]
    return {name: _agreement([[row[name] for row in own if name in row] for own in prompts])
            for name in dict.fromkeys(name for row in rows for name in row)}  # fmt: skip


def _agreement(prompts: Sequence[Sequence[tuple[bool, bool, bool]]]) -> Agreement:
    asked = [own for own in prompts if own]
    return Agreement(
        first=clustered_share([[one for one, _, _ in own] for own in asked]),
        second=clustered_share([[other for _, other, _ in own] for own in asked]),
        verdicts=clustered_share([[one != other for one, other, _ in own] for own in asked]),
        answers=clustered_share([[differ for _, _, differ in own] for own in asked]),
    )


def _row(words: str, one: Agreement) -> str:
    cells = (words, *map(percent, (one.first, one.second, one.verdicts, one.answers)))
    return f"| {' | '.join(cells)} |"
