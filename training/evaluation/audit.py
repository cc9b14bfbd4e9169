"""A bias audit from end to end: a pipeline folder and a judge -> rates in the data and in the model.

Knows nothing of how the model was trained. Findings are a function of the model, the judge and the arguments.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ldm_pipeline.folder import model_hash
from ldm_pipeline.judge import Recogniser
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from training.evaluation import answers, audit_cards, sheets
from training.evaluation.answers import Pictures
from training.evaluation.audit_cards import Card
from training.evaluation.audit_findings import Case, Rate, Records, Spread, dependences, rate_of, spread_of
from training.evaluation.audit_questions import questions
from training.evaluation.audit_report import AuditReport
from training.evaluation.audit_table import NOT_READABLE, YES, Association, Facts, Question
from training.evaluation.report import judge_hash, machine
from training.scenes.claims import Claims
from training.scenes.world import World

FIRST_SEED, SEED_STEP = 40_000_000, 100
"""Picture k of the prompt of scene i has the seed 40,000,000 + 100 i + k."""
RENDERS_PER_PROMPT = 4
"""Renders that the judge reads for each prompt that the model draws: renders are cheaper."""
CARDS_AT_ONCE = 64
SHOWN = 6
"""Pictures of each question on the contact sheet: the first seed of its first prompts."""


@dataclass(kw_only=True)
class _Read:
    """A card without its render, with what the judge reads of that, and of the model's pictures."""

    text: str
    claims: Claims
    scene: tuple[int, int]
    truth: Facts
    asked: dict[str, int]
    rendered: Facts
    drawn: list[Facts] = field(default_factory=list)
    first: int = -1
    """Place of its first picture among all that are drawn; -1: none is."""

    def case(self, name: str, prompts: int) -> Case:
        """Pictures count for a question only if the prompt was drawn for it: others are no fair sample."""
        drawn = self.drawn if self.asked[name] < prompts else ()
        return Case(claims=self.claims, truth=self.truth, rendered=self.rendered, drawn=drawn)


def audit_folder(
    model: Path,
    *,
    world: World,
    size: int,
    judge_folder: Path,
    out: Path,
    recipe: str = "",
    prompts: int = 32,
    seeds_per_prompt: int = 2,
    cells: tuple[str, ...] = (),
    records: int = audit_cards.RECORDS,
) -> AuditReport:
    """Audit a pipeline folder; write `audit.json`, `audit.md` and a contact sheet (PNG and WebP) to `out`.

    Args:
        model: Pipeline folder; drawn with its own defaults, at `size` pixels.
        world: What the model was trained on, or is said to have been.
        judge_folder: A saved `Recogniser` that no loss has seen.
        recipe: Its name, for the record.
        prompts: For each question, at least 2.
        seeds_per_prompt: 1 to 100.
        cells: "CITY/KIND/COLOR": colors to ask for in a city, besides those of the world's skews.
        records: Scenes whose records are read, at least 1.

    Raises:
        ValueError: an argument out of range, or a cell that is not of the world.
        FileNotFoundError: no pipeline or no judge there.
    """
    for name, value, least, most in (
        ("prompts", prompts, 2, 10_000),
        ("seeds_per_prompt", seeds_per_prompt, 1, SEED_STEP),
        ("records", records, 1, 10_000_000),
    ):
        if not least <= value <= most:
            raise ValueError(f"{name}={value}: must be between {least} and {most}.")
    if not (model / "model_index.json").is_file():
        raise FileNotFoundError(f"{model}: no model_index.json there; name the folder of a pipeline.")
    asked = questions(world, cells)
    judge, pipe = Recogniser.load(judge_folder), LatentDiffusionPipeline.from_pretrained(model)
    if torch.cuda.is_available():
        pipe.to("cuda")
        judge.to("cuda")
    out.mkdir(parents=True, exist_ok=True)

    by_record = audit_cards.records(world, asked, scenes=records)
    asked, not_asked = _that_occur(asked, by_record)
    dealt = audit_cards.cards(world, asked, size=size, count=RENDERS_PER_PROMPT * prompts)
    cards = list(_read_renders(judge, dealt))
    chosen = [card for card in cards if min(card.asked.values()) < prompts]
    pictures = _draw(pipe, judge, chosen, size=size, seeds_per_prompt=seeds_per_prompt)
    rates, spreads = _findings(asked, cards, by_record, prompts=prompts)
    command = (
        f"python -m training audit {model.resolve().name} --recipe {recipe or 'NAME'} --prompts {prompts}"
    )
    report = AuditReport(
        model=model.resolve().name,
        model_hash=model_hash(model),
        judge_hash=judge_hash(judge_folder),
        recipe=recipe,
        command=" ".join([command, f"--seeds {seeds_per_prompt}", *(f'--cell "{cell}"' for cell in cells)]),
        date=date.today().isoformat(),
        machine=machine(),
        size=size,
        prompts=prompts,
        seeds_per_prompt=seeds_per_prompt,
        pictures=len(pictures),
        renders=len(cards),
        records=records,
        settings={
            **json.loads(pipe.generation_defaults.to_json()),
            "scheduler": type(pipe.scheduler).__name__,
        },
        world=asdict(world),
        rates=list(rates.values()),
        dependences=dependences(asked, rates),
        spreads=spreads,
        not_asked=not_asked,
        not_readable=NOT_READABLE,
        cases=[_told_case(card, asked, prompts, seeds_per_prompt) for card in chosen],
    )
    (out / "audit.json").write_text(report.to_json(), encoding="utf-8")
    (out / "audit.md").write_text(report.to_markdown(), encoding="utf-8")
    _save_sheet(out / "audit.png", asked, chosen, pictures, prompts=prompts)
    return report


def _that_occur(
    asked: Sequence[Question], by_record: Mapping[str, Records]
) -> tuple[list[Question], dict[str, str]]:
    """The questions that a caption puts and a record answers, and the others with the reason."""
    kept: list[Question] = []
    left: dict[str, str] = {}
    for one in asked:
        if not by_record[one.name]:
            left[one.name] = "no caption of this world tells the condition and leaves the consequence open"
        elif all(answer_of(one, facts, claims) in (None, ()) for facts, claims in by_record[one.name]):
            left[one.name] = "no scene of this world shows what it asks about"
        else:
            kept.append(one)
    return kept, left


def _read_renders(judge: Recogniser, cards: Iterator[Card]) -> Iterator[_Read]:
    while batch := list(islice(cards, CARDS_AT_ONCE)):
        read = read_facts(judge, np.stack([card.image for card in batch]))
        for card, facts in zip(batch, read, strict=True):
            yield _Read(
                text=card.caption.text,
                claims=card.claims,
                scene=(card.scene.seed, card.scene.index),
                truth=card.facts,
                asked=card.asked,
                rendered=facts,
            )


def read_facts(judge: Recogniser, pictures: Pictures) -> list[Facts]:
    """The judge's answers about each picture, but for those about things that it does not see."""
    read = answers.read(judge, pictures)
    columns = {name: read.of(name) for name, _ in read.fields}

    def there(name: str, place: int) -> bool:
        parts = name.split(".")[:-1]
        holders = (".".join([*parts[: i + 1], "present"]) for i in range(len(parts)))
        return all(columns[holder][place] == YES for holder in holders if holder != name)

    return [
        {name: column[place] for name, column in columns.items() if there(name, place)}
        for place in range(len(pictures))
    ]


def _draw(
    pipe: LatentDiffusionPipeline,
    judge: Recogniser,
    chosen: Sequence[_Read],
    *,
    size: int,
    seeds_per_prompt: int,
) -> Pictures:
    """Draw and read the model's pictures; each card is told its own."""
    texts = [card.text for card in chosen for _ in range(seeds_per_prompt)]
    seeds = [seed for card in chosen for seed in _seeds(card, seeds_per_prompt)]
    pictures = answers.draw(pipe, texts, seeds, size=size, title="samples")
    facts = read_facts(judge, pictures)
    for place, card in enumerate(chosen):
        card.first = place * seeds_per_prompt
        card.drawn = facts[card.first : card.first + seeds_per_prompt]
    return pictures


def _seeds(card: _Read, count: int) -> list[int]:
    first = FIRST_SEED + SEED_STEP * card.scene[1]
    return list(range(first, first + count))


def _findings(
    asked: Sequence[Question], cards: Sequence[_Read], by_record: Mapping[str, Records], *, prompts: int
) -> tuple[dict[str, Rate], list[Spread]]:
    rates: dict[str, Rate] = {}
    spreads: list[Spread] = []
    for one in asked:
        cases = [card.case(one.name, prompts) for card in cards if one.name in card.asked]
        if isinstance(one, Association):
            rates[one.name] = rate_of(one, cases, by_record[one.name])
        else:
            spreads.append(spread_of(one, cases, by_record[one.name]))
    return rates, spreads


def answer_of(question: Question, facts: Facts, claims: Claims) -> bool | tuple[str, ...] | None:
    """Yes, no or classes; None or () where it cannot be told."""
    if isinstance(question, Association):
        return question.holds(facts, claims)
    return question.values(facts, claims)


def _told_case(card: _Read, asked: Sequence[Question], prompts: int, seeds_per_prompt: int) -> dict[str, Any]:
    return {
        "prompt": card.text,
        "scene": card.scene,
        "seeds": _seeds(card, seeds_per_prompt),
        "answers": {
            one.name: [answer_of(one, facts, card.claims) for facts in card.drawn]
            for one in asked
            if card.asked.get(one.name, prompts) < prompts
        },
    }


def _save_sheet(
    path: Path, asked: Sequence[Question], chosen: Sequence[_Read], pictures: Pictures, *, prompts: int
) -> None:
    """A row for each question, or for several of the same prompts, with answers and prompt beneath."""
    rows: dict[tuple[int, ...], list[Question]] = {}
    for one in asked:
        mine = [n for n, card in enumerate(chosen) if card.asked.get(one.name, prompts) < prompts][:SHOWN]
        rows.setdefault(tuple(mine), []).append(one)
    shown: list[Pictures] = []
    texts: list[str] = []
    for places, some in rows.items():
        for card in (chosen[n] for n in places):
            told = [f"{one.name}: {_words(answer_of(one, card.drawn[0], card.claims))}" for one in some]
            shown.append(pictures[card.first])
            texts.append(f"{', '.join(told)} | {card.text}")
        blanks = SHOWN - len(places)
        shown += [np.full_like(pictures[0], 255)] * blanks
        texts += [""] * blanks
    sheets.save_sheet(sheets.captioned_sheet(np.stack(shown), texts, columns=SHOWN), path)


def _words(answer: bool | tuple[str, ...] | None) -> str:
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return ", ".join(answer) if answer else "cannot be told"
