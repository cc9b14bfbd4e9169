"""Pictures of one prompt from several seeds -> how different they are, beside renders of the same claims.

Knows nothing of whether they show what the prompt asks for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import pdist
from tqdm import tqdm

from ldm_pipeline.judge import Recogniser
from ldm_pipeline.statistics import Mean, mean_of
from training.evaluation.answers import Pictures, features
from training.evaluation.prompts import LIKE_SEED, BenchPrompt, seen, wholly_seen
from training.scenes.claims import Claims, is_true
from training.scenes.scene import sample_scene
from training.scenes.world import World

RENDERS_PER_PROMPT = 2
SCENES_PER_PROMPT = 10_000
"""Records to look through for scenes that hold a prompt's claims; one takes 50 microseconds."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean distance of two pictures."""

    features: Mean
    """Of the judge, the mean over all that it looks for; Euclidean."""
    pixels: Mean
    """Root mean square, 0 to 255."""


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """Pairs of pictures; 0 for a model that draws one picture for a prompt whatever the seed."""

    prompts: int
    """For which renders with the same claims were found, too; the others are left out of all rows."""
    seeds: int
    model: Spread
    """Two seeds of one prompt."""
    renders: Spread
    """Renders of two scenes that both hold everything that the prompt claims: what real variety is."""
    others: Spread
    """Renders of two different prompts, for the scale."""

    ratios: dict[str, float | None]
    """"features" and "pixels": model over renders of the same claims; None where those do not differ."""

    def to_markdown(self) -> str:
        rows = {
            f"the model's, one prompt, {self.seeds} seeds": self.model,
            "real renders of other scenes with the same claims": self.renders,
            "real renders of different prompts": self.others,
        }
        lines = [
            f"How far two pictures are apart, {self.prompts} prompts. The reference is the second row: scenes"
            " that hold the same city, weather and time and the same thing with color, number and side, all"
            " else afresh.",
            "",
            "| pictures | judge's features | pixels, of 255 |",
            "| --- | --- | --- |",
        ]
        lines += [f"| {words} | {_cell(s.features, 3)} | {_cell(s.pixels, 1)} |" for words, s in rows.items()]
        told = [f"{100 * ratio:.0f} % in {name}" for name, ratio in self.ratios.items() if ratio is not None]
        lines += ["", f"The model's pictures of one prompt vary {' and '.join(told)} as much as renders do."]
        return "\n".join(lines)


def measure_diversity(
    judge: Recogniser, bench: Sequence[BenchPrompt], drawn: Pictures, *, world: World, size: int
) -> Diversity | None:
    """Compare the seeds of each prompt; None where there is nothing to compare.

    Args:
        drawn: pictures of the prompts, as many for each, those of one following each other.
    """
    seeds = len(drawn) // len(bench)
    if seeds < 2:
        return None
    own = [drawn[i * seeds : (i + 1) * seeds] for i in range(len(bench))]
    bar = tqdm(bench, unit="prompt", desc="scenes alike", leave=False)
    alike = [renders_with(prompt.claims, world, number=i, size=size) for i, prompt in enumerate(bar)]
    found = [i for i, renders in enumerate(alike) if renders is not None]
    if len(found) < 2:
        return None
    model = spread(judge, [own[i] for i in found])
    renders = spread(judge, [one for one in alike if one is not None])
    return Diversity(
        prompts=len(found),
        seeds=seeds,
        model=model,
        renders=renders,
        others=spread(judge, [np.stack([bench[i].image for i in found])]),
        ratios={
            "features": _ratio(model.features, renders.features),
            "pixels": _ratio(model.pixels, renders.pixels),
        },
    )


def spread(judge: Recogniser, groups: Sequence[Pictures]) -> Spread:
    """Mean distance of two pictures of a group; the interval is over groups."""
    return Spread(
        features=mean_of([_mean_distance(features(judge, group)) for group in groups]),
        pixels=mean_of(
            [_mean_distance(group.reshape(len(group), -1)) / group[0].size ** 0.5 for group in groups]
        ),
    )


def renders_with(claims: Claims, world: World, *, number: int, size: int) -> Pictures | None:
    """Renders of two scenes of `LIKE_SEED` that hold and show `claims`; None if they are too rare.

    Args:
        number: of the prompt, which gets scenes of its own.
    """
    narrow = replace(world, cities=(claims.city,), weathers=(claims.weather,), times=(claims.time,))
    kinds = {thing.kind for thing in claims.things}
    drawn: list[np.ndarray] = []
    for index in range(number * SCENES_PER_PROMPT, (number + 1) * SCENES_PER_PROMPT):
        scene = sample_scene(LIKE_SEED, index, narrow)
        if not is_true(claims, scene):
            continue
        sight, image = seen(scene, size)
        if all(wholly_seen(group, sight) for group in scene.groups if group.kind in kinds):
            drawn.append(image)
        if len(drawn) == RENDERS_PER_PROMPT:
            return np.stack(drawn)
    return None


def _ratio(one: Mean, other: Mean) -> float | None:
    return one.mean / other.mean if one.mean is not None and other.mean else None


def _mean_distance(rows: np.ndarray) -> float:
    return float(pdist(rows.astype(np.float64)).mean())


def _cell(one: Mean, digits: int) -> str:
    if one.mean is None:
        return "-"
    if one.interval is None:
        return f"{one.mean:.{digits}f}"
    return f"{one.mean:.{digits}f} ({one.interval.low:.{digits}f}-{one.interval.high:.{digits}f})"
