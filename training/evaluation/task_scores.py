"""The eight tasks of PostcardBench, drawn and judged: shares in four columns for each.

Knows nothing of how the model was trained, or of the report.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ldm_pipeline.judge import Recogniser
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from ldm_pipeline.statistics import Share, clustered_share
from training.evaluation import answers
from training.evaluation.answers import Pictures
from training.evaluation.prompts import BenchPrompt
from training.evaluation.second_judge import Agreement, compare_judges
from training.evaluation.suites import SUITES, suite_prompts
from training.scenes.world import World

FIRST_SEED, TASK_SEEDS, PROMPT_SEEDS = 20_000_000, 1_000_000, 1_000
"""Picture k of prompt i of task t has the seed 20,000,000 + 1,000,000 t + 1000 i + k."""


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """One task."""

    name: str
    shares: dict[str, Share]
    """Column -> prompts whose every claim the judge confirms."""
    cases: list[dict[str, Any]]
    """Each prompt with its scene, claims, seeds and the model's answers."""
    texts: list[str]
    """The prompts."""
    first_seeds: Pictures
    """The model's picture of the first seed of each prompt."""
    renders: Pictures
    """The real render of each prompt."""
    second: Agreement | None
    """With the second judge, on everything that the model's pictures were asked for."""


def score_tasks(
    pipe: LatentDiffusionPipeline,
    judge: Recogniser,
    world: World,
    *,
    second_judge: Recogniser | None = None,
    size: int,
    count: int,
    seeds_per_prompt: int,
) -> list[TaskScores]:
    """Draw `count` prompts of every task, `seeds_per_prompt` pictures each; nothing if `count` is 0.

    A task that scenes of a small `world` hardly ever show is left out, with a line that says so.
    """
    scores: list[TaskScores] = []
    for name in SUITES if count else ():
        try:
            prompts = suite_prompts(name, world, size=size, count=count)
        except ValueError as error:
            tqdm.write(f"task {name!r} is left out: {error}")
            continue
        scores.append(_score(pipe, (judge, second_judge), name, prompts, size=size, seeds=seeds_per_prompt))
    return scores


def _score(
    pipe: LatentDiffusionPipeline,
    judges: tuple[Recogniser, Recogniser | None],
    name: str,
    prompts: list[BenchPrompt],
    *,
    size: int,
    seeds: int,
) -> TaskScores:
    judge, second_judge = judges
    count = len(prompts)
    first = FIRST_SEED + TASK_SEEDS * tuple(SUITES).index(name)
    numbers = [[first + PROMPT_SEEDS * i + k for k in range(seeds)] for i in range(count)]
    texts = [prompt.text for prompt in prompts for _ in range(seeds)]
    pictures = answers.draw(pipe, texts, sum(numbers, []), size=size, title=name)
    renders = np.stack([prompt.image for prompt in prompts])
    read = {
        "renders": answers.read(judge, renders),
        "round_trip": answers.read(judge, answers.round_trip(pipe, renders)),
        "model": answers.read(judge, pictures),
    }
    columns = answers.score_columns(prompts, read, seeds_per_prompt=seeds)
    second = None
    if second_judge is not None:
        claims = [prompt.claims for prompt in prompts]
        reading = answers.read(second_judge, pictures)
        second = compare_judges(read["model"], reading, claims, seeds_per_prompt=seeds)["all"]
    return TaskScores(
        name=name,
        shares={
            column: clustered_share([[row["all"] for row in rows] for rows in right])
            for column, right in columns.items()
        },
        cases=[
            {
                "task": name,
                "prompt": prompt.text,
                "scene": [prompt.scene.seed, prompt.scene.index],
                "claims": asdict(prompt.claims),
                "seeds": own,
                "right": [row["all"] for row in rows],
            }
            for prompt, own, rows in zip(prompts, numbers, columns["model"], strict=True)
        ],
        texts=texts[::seeds],
        first_seeds=pictures[::seeds],
        renders=renders,
        second=second,
    )
