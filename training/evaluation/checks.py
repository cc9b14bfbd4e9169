"""What is measured beside the scores, and on how much: exam, distances, copying, diversity, curves.

Knows nothing of how each is measured, which its own file does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ldm_pipeline.judge import Recogniser
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from training.data.postcards import PostcardConfig
from training.evaluation.answers import Pictures, round_trip
from training.evaluation.copying import Copying, search_copies, spaced
from training.evaluation.curves import Curves, draw_curves
from training.evaluation.distances import FEWEST, Distances, compare_sets
from training.evaluation.diversity import Diversity, measure_diversity
from training.evaluation.exam import Exam, examine
from training.evaluation.prompts import OTHER_SCENES, PROMPT_SEED, BenchPrompt, fresh_prompts
from training.evaluation.suites import suite_prompts
from training.evaluation.task_scores import TaskScores
from training.scenes.world import World


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Numbers of 0 leave a measure out."""

    second_judge: Path | None = None
    """Folder of another judge."""
    exam: int = 0
    """Fresh renders of `judged_world` that the judge is examined on."""
    judged_world: World
    distances: int = 0
    """Pictures of each set that are compared, at most: there is one for every prompt."""
    copying: int = 0
    """Training pictures that are searched, at most; the model's are one for every prompt."""
    training: tuple[PostcardConfig, ...] = ()
    """Every set that the model was trained on."""
    held_out: PostcardConfig | None = None
    """The set of validation."""
    diversity: int = 0
    """Prompts whose seeds are compared, at most."""
    curves: bool = False
    """Draw at other guidance scales and numbers of steps."""

    def __post_init__(self) -> None:
        for name, least in (("exam", 1), ("distances", FEWEST), ("copying", 1), ("diversity", 2)):
            value = getattr(self, name)
            if value and value < least:
                raise ValueError(f"{name}={value}: must be 0, which leaves it out, or at least {least}.")
        if self.copying and (not self.training or self.held_out is None):
            raise ValueError(
                f"copying={self.copying}: needs training and held_out; give both, or set it to 0."
            )


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the checks found; None for what was left out."""

    exam: Exam | None
    distances: Distances | None
    copying: Copying | None
    diversity: Diversity | None
    curves: Curves | None


def check(
    checks: Checks,
    pipe: LatentDiffusionPipeline,
    judge: Recogniser,
    world: World,
    *,
    size: int,
    bench: Sequence[BenchPrompt],
    drawn: Pictures,
    tasks: Sequence[TaskScores],
) -> Checked:
    """Measure what `checks` asks for.

    Args:
        drawn: the model's pictures of the fresh prompts `bench`, as many for each, one prompt's together.
        tasks: the tasks, with one picture for each prompt.
    """
    seeds = len(drawn) // len(bench)
    model = np.concatenate([drawn[::seeds], *(task.first_seeds for task in tasks)])
    renders = np.concatenate([[prompt.image for prompt in bench], *(task.renders for task in tasks)])
    distances = copying = diversity = None
    if checks.distances and len(renders) < FEWEST:
        tqdm.write(f"distances are left out: {len(renders)} prompts are fewer than {FEWEST}.")
    elif checks.distances:
        others, paired = _other_renders(world, size=size, count=len(bench), tasks=tasks)
        chosen = spaced(len(others), checks.distances)
        real = renders[paired][chosen]
        distances = compare_sets(
            judge,
            real,
            model=model[paired][chosen],
            round_trip=round_trip(pipe, real),
            others=others[chosen],
        )
    if checks.copying:
        assert checks.held_out is not None
        copying = search_copies(
            pipe, model, renders, training=checks.training, held_out=checks.held_out, most=checks.copying
        )
    if checks.diversity:
        some = bench[: checks.diversity]
        diversity = measure_diversity(judge, some, drawn[: len(some) * seeds], world=world, size=size)
    return Checked(
        exam=examine(judge, checks.judged_world, size=size, count=checks.exam) if checks.exam else None,
        distances=distances,
        copying=copying,
        diversity=diversity,
        curves=draw_curves(pipe, judge, world, size=size) if checks.curves else None,
    )


def _other_renders(
    world: World, *, size: int, count: int, tasks: Sequence[TaskScores]
) -> tuple[Pictures, list[int]]:
    """Renders of other scenes for prompts of the same kinds, and those prompts' places in the whole list.

    A task that other scenes of a small world hardly ever show is left out, with a line that says so.
    """
    prompts = fresh_prompts(world, size=size, count=count, stream=PROMPT_SEED + OTHER_SCENES)
    places, first = list(range(count)), count
    for task in tasks:
        own = range(first, first + len(task.renders))
        first = own.stop
        try:
            prompts += suite_prompts(task.name, world, size=size, count=len(own), others=True)
        except ValueError as error:
            tqdm.write(f"task {task.name!r} is left out of the distances: {error}")
            continue
        places += own
    return np.stack([prompt.image for prompt in prompts]), places
