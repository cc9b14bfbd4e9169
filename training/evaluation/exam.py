"""The judge's own exam: fresh real renders, whose truth is known -> how often it is right, and its mistakes.

Knows nothing of models: what is examined is the instrument that they are measured with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from tqdm import tqdm

from ldm_pipeline.judge import Reading, Recogniser
from ldm_pipeline.statistics import Share, clustered_share, share
from ldm_pipeline.table_cells import percent
from training.claims import FIELDS, NOT_CLAIMED, question_kind
from training.data.records import record_codes
from training.evaluation import answers
from training.evaluation.prompts import EXAM_SEED, seen
from training.scenes.scene import sample_scene
from training.scenes.world import World

RENDERS_AT_ONCE = 256
PRESENCE = ("present", "garment present")
"""Questions with the answers no and yes, whose mistakes are told for each kind of thing."""
WANTED = 0.99
"""Share of right answers that a judge should reach on renders."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Seeing one kind of thing, or one garment on it."""

    missed: Share
    """Of the renders that show it, those in which the judge does not see it: false negatives."""
    imagined: Share
    """Of the renders without it, those in which the judge sees it: false positives."""


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How often each class was answered for each true one."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """A row for each true class, a column for each answer."""


@dataclass(frozen=True, kw_only=True)
class Exam:
    """What the judge is worth on real renders, all drawing styles and held-out pairs among them."""

    renders: int
    stream: int
    """Of the scenes; no other part of training or evaluation draws from it."""
    questions: dict[str, Share]
    """Kind of question -> right answers."""
    by_style: dict[str, dict[str, Share]]
    """Drawing style -> kind of question -> right answers."""
    detections: dict[str, Detection]
    """"dog", or "dog.beret" for a garment."""
    confusions: dict[str, Confusion]
    """Kind of question -> all of its fields together, so that the colors of dogs and cars are one table."""
    left_out: int
    """True answers for which this judge has no field or no class."""

    def to_markdown(self) -> str:
        styles = list(self.by_style)
        lines = [
            f"{self.renders:,} fresh real renders in all drawing styles (stream {self.stream} of the scenes),"
            " held-out pairs among them; percent of right answers about everything that can be seen."
            + self._left_out(),
            "",
            f"| question | all | {' | '.join(styles)} |",
            "| --- | --- |" + " --- |" * len(styles),
        ]
        for name, right in self.questions.items():
            own = [self.by_style[style].get(name, share([])) for style in styles]
            lines.append(f"| {name} of {right.asked:,} | {' | '.join(map(percent, [right, *own]))} |")
        weak = [
            name for name, right in self.questions.items() if right.rate is not None and right.rate < WANTED
        ]
        told = f"below it: {', '.join(weak)}" if weak else "none is below it"
        lines += [
            "",
            f"A judge should be right in {100 * WANTED:.0f} %; {told}.",
            "",
            "| thing or garment | there and missed | not there and seen |",
            "| --- | --- | --- |",
        ]
        lines += [f"| {name} | {percent(one.missed)} of {one.missed.asked:,} | {percent(one.imagined)} of "
                  f"{one.imagined.asked:,} |" for name, one in self.detections.items()]  # fmt: skip
        for name, table in self.confusions.items():
            lines += ["", *_confusion_lines(name, table)]
        return "\n".join(lines)

    def _left_out(self) -> str:
        if not self.left_out:
            return ""
        return f" Left out, as this judge has no class for them: {self.left_out:,} answers."


def examine(judge: Recogniser, world: World, *, size: int, count: int) -> Exam:
    """Show the judge the first `count` scenes of its own stream, as `world` has them."""
    readings: list[Reading] = []
    codes, styles, images = [], [], []
    for index in tqdm(range(count), unit="render", desc="the judge's exam"):
        scene = sample_scene(EXAM_SEED, index, world)
        sight, image = seen(scene, size)
        codes.append(record_codes(scene, sight))
        styles.append(scene.style)
        images.append(image)
        if len(images) == RENDERS_AT_ONCE or index == count - 1:
            readings.append(answers.read(judge, np.stack(images)))
            images.clear()
    reading = Reading(
        fields=judge.config.fields,
        classes=torch.cat([part.classes for part in readings]),
        confidence=torch.cat([part.confidence for part in readings]),
    )
    return marked(reading, np.stack(codes), styles)


def marked(reading: Reading, truth: Int64[np.ndarray, "pictures fields"], styles: Sequence[str]) -> Exam:
    """The marks for a judge's answers.

    Args:
        truth: class numbers in the order of `claims.FIELDS`, `NOT_CLAIMED` where the picture does not tell.
        styles: drawing style of each picture.
    """
    sheet = _sheet(reading, truth)
    kinds = list(dict.fromkeys(kind for kind, *_ in sheet))
    of_kind = {kind: [row for row in sheet if row[0] == kind] for kind in kinds}
    return Exam(
        renders=len(truth),
        stream=EXAM_SEED,
        questions={kind: _right(rows) for kind, rows in of_kind.items()},
        by_style={
            style: {kind: _right(rows, [own == style for own in styles]) for kind, rows in of_kind.items()}
            for style in dict.fromkeys(sorted(styles))
        },
        detections={
            field.removesuffix(".present"): _detection(said, true)
            for kind in PRESENCE
            for _, field, _, said, true in of_kind.get(kind, [])
        },
        confusions={kind: _confusion(rows) for kind, rows in of_kind.items() if kind not in PRESENCE},
        left_out=int((truth != NOT_CLAIMED).sum()) - sum(int((true >= 0).sum()) for *_, true in sheet),
    )


_Row = tuple[str, str, tuple[str, ...], Any, Any]
"""Kind of question, field, the judge's classes, its answers and the truth [pictures], -1 where untold."""


def _sheet(reading: Reading, truth: np.ndarray) -> list[_Row]:
    """What was asked and answered, field by field, the truth in the judge's own class numbers."""
    own = {name: (index, classes) for index, (name, classes) in enumerate(reading.fields)}
    rows: list[_Row] = []
    for column, (field, classes) in enumerate(FIELDS):
        if field not in own:
            continue
        index, known = own[field]
        number = {code: known.index(name) for code, name in enumerate(classes) if name in known}
        true = np.array([number.get(int(code), -1) for code in truth[:, column]])
        rows.append((question_kind(field), field, known, reading.classes[:, index].numpy(), true))
    return rows


def _right(rows: Sequence[_Row], chosen: Sequence[bool] | None = None) -> Share:
    """Right answers of chosen pictures; those about one picture are a cluster."""
    said, true = (np.stack([row[place] for row in rows], axis=1) for place in (3, 4))
    pictures = np.flatnonzero(np.ones(len(true), bool) if chosen is None else chosen)
    clusters = [(said[i] == true[i])[true[i] >= 0].tolist() for i in pictures]
    return clustered_share([one for one in clusters if one])


def _detection(said: np.ndarray, true: np.ndarray) -> Detection:
    return Detection(
        missed=share((said[true == 1] == 0).tolist()), imagined=share((said[true == 0] == 1).tolist())
    )


def _confusion(rows: Sequence[_Row]) -> Confusion:
    classes = tuple(dict.fromkeys(name for row in rows for name in row[2]))
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for _, _, known, said, true in rows:
        places = np.array([classes.index(name) for name in known])
        np.add.at(counts, (places[true[true >= 0]], places[said[true >= 0]]), 1)
    return Confusion(classes=classes, counts=tuple(tuple(row) for row in counts.tolist()))


def _confusion_lines(name: str, table: Confusion) -> list[str]:
    lines = [
        f"| {name}: true, then answered | {' | '.join(table.classes)} |",
        "| --- |" + " --- |" * len(table.classes),
    ]
    for true, counts in zip(table.classes, table.counts, strict=True):
        lines.append(f"| {true} | {' | '.join(str(count) if count else '' for count in counts)} |")
    return lines
