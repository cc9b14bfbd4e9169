"""A model's scores at other guidance scales and other numbers of steps, on prompts that no score is taken on.

Knows nothing of which setting is best: a choice made here is measured elsewhere, on other prompts.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ldm_pipeline.judge import Recogniser
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from ldm_pipeline.statistics import Share, clustered_share
from ldm_pipeline.table_cells import percent
from training.evaluation import answers
from training.evaluation.prompts import TUNING_SEED, fresh_prompts
from training.scenes.world import World

GUIDANCES = (1.0, 2.0, 4.0, 6.0, 8.0, 10.0)
STEPS = (4, 6, 8, 10, 14, 20, 30)
PROMPTS, SEEDS = 24, 2
FIRST_SEED, PROMPT_SEEDS = 40_000_000, 1_000
"""Picture k of prompt i has the seed 40,000,000 + 1000 i + k, at every setting."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One setting."""

    guidance: float
    steps: int
    shares: dict[str, Share]
    """Question -> confirmed by the judge; "all" is every one at once."""
    seconds_per_picture: float


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The same prompts and seeds at every setting; all else is the folder's own."""

    prompts: int
    seeds: int
    stream: int
    """Of the prompts' scenes."""
    guidance: tuple[Point, ...]
    """At the folder's own number of steps."""
    steps: tuple[Point, ...]
    """At the folder's own guidance scale."""

    def to_markdown(self, questions: dict[str, str]) -> str:
        """Two tables with the words for questions that are given."""
        first = (
            f"{self.prompts} prompts x {self.seeds} seeds of stream {self.stream}, which no score above is"
            " taken on, the same at every setting; percent right by the judge."
        )
        return "\n\n".join([
            first,
            _table(f"guidance ({self.guidance[0].steps} steps)", self.guidance, "guidance", questions),
            _table(f"steps (guidance {self.steps[0].guidance:g})", self.steps, "steps", questions),
        ])  # fmt: skip


def draw_curves(
    pipe: LatentDiffusionPipeline,
    judge: Recogniser,
    world: World,
    *,
    size: int,
    guidances: Sequence[float] = GUIDANCES,
    steps: Sequence[int] = STEPS,
    prompts: int = PROMPTS,
    seeds: int = SEEDS,
) -> Curves:
    """Draw and judge every guidance scale and every number of steps, each setting once."""
    bench = fresh_prompts(world, size=size, count=prompts, stream=TUNING_SEED)
    texts = [prompt.text for prompt in bench for _ in range(seeds)]
    numbers = [FIRST_SEED + PROMPT_SEEDS * i + k for i in range(prompts) for k in range(seeds)]
    claims = [prompt.claims for prompt in bench for _ in range(seeds)]
    own = pipe.generation_defaults
    done: dict[tuple[float, int], Point] = {}

    def point(guidance: float, number: int) -> Point:
        if (guidance, number) not in done:
            title = f"guidance {guidance:g}, {number} steps"
            started = time.perf_counter()
            drawn = answers.draw(
                pipe, texts, numbers, guidance=guidance, steps=number, size=size, title=title
            )
            seconds = (time.perf_counter() - started) / len(texts)
            right = answers.confirmed(answers.read(judge, drawn), claims)
            of_prompts = [right[i : i + seeds] for i in range(0, len(right), seeds)]
            shares = {
                task: clustered_share([[row[task] for row in rows] for rows in of_prompts])
                for task in answers.TASKS
            }
            done[guidance, number] = Point(
                guidance=guidance, steps=number, shares=shares, seconds_per_picture=round(seconds, 3)
            )
        return done[guidance, number]

    # The first call of a process pays for what later ones find ready.
    answers.draw(pipe, texts[:1], numbers[:1], size=size, title="warm-up")
    return Curves(
        prompts=prompts,
        seeds=seeds,
        stream=TUNING_SEED,
        guidance=tuple(point(one, own.num_inference_steps) for one in guidances),
        steps=tuple(point(own.guidance_scale, one) for one in steps),
    )


def _table(words: str, points: Sequence[Point], setting: str, questions: dict[str, str]) -> str:
    heads = (words, *questions.values(), "s per picture")
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for one in points:
        shares = " | ".join(percent(one.shares[name]) for name in questions)
        lines.append(f"| {getattr(one, setting):g} | {shares} | {one.seconds_per_picture:.2f} |")
    return "\n".join(lines)
