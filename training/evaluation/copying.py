"""Latents of drawn, real and training pictures -> whether a model draws its training pictures again.

Knows nothing of prompts or judges. Nearness is measured in the VAE's latents, as the mean squared difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap
from torch import Tensor
from tqdm import tqdm

from ldm_pipeline.pipeline import LatentDiffusionPipeline
from ldm_pipeline.statistics import Interval, Share, share
from ldm_pipeline.table_cells import percent
from training.data.postcards import PostcardConfig
from training.evaluation.answers import Pictures, encoded
from training.finetune_scores import nearest
from training.scenes.render import render
from training.scenes.scene import sample_scene

NEAR_PERCENTILE = 1
"""Of the held-out renders' distances: so many of a hundred are nearer by chance."""
RESAMPLES = 2_000
SEARCHED_AT_ONCE = 1_024


@dataclass(frozen=True, kw_only=True)
class Copying:
    """Distances to the nearest of the training pictures that were searched."""

    pictures: int
    """Of the model; as many held-out renders, and the renders of the model's own prompts, are compared."""
    searched: int
    training: int
    """Training pictures that there are."""
    streams: tuple[int, ...]
    """Of their scenes."""
    model: float
    """Median distance, as `held_out` and `renders`."""
    held_out: float
    renders: float
    ratio: float
    """Model over held-out; 0 for copies, about 1 without copying."""
    ratio_interval: Interval
    """By the bootstrap over pictures."""
    threshold: float
    """The first percentile of the held-out renders' distances."""
    nearer: Share
    """Model pictures below it."""

    def to_markdown(self) -> str:
        low, high = self.ratio_interval.low, self.ratio_interval.high
        return "\n".join([
            f"Mean squared latent difference to the nearest of {self.searched:,} of the {self.training:,}"
            f" training pictures (streams of scenes: {', '.join(map(str, self.streams))}); a copy of one that"
            " was not searched is not seen.",
            "",
            "| pictures | median distance |",
            "| --- | --- |",
            f"| {self.pictures} of the model | {self.model:.3f} |",
            f"| {self.pictures} held-out renders | {self.held_out:.3f} |",
            f"| renders of the model's own prompts | {self.renders:.3f} |",
            "",
            f"The model's pictures are {self.ratio:.2f} ({low:.2f}-{high:.2f}) times as far as held-out ones."
            f" Nearer than {100 - NEAR_PERCENTILE} % of the held-out ones: {percent(self.nearer)} % of them,"
            f" by chance {NEAR_PERCENTILE} %. Smooth pictures are near to everything, so a ratio somewhat"
            " below 1 is no copying yet.",
        ])  # fmt: skip


def search_copies(
    pipe: LatentDiffusionPipeline,
    pictures: Pictures,
    renders: Pictures,
    *,
    training: Sequence[PostcardConfig],
    held_out: PostcardConfig,
    most: int,
) -> Copying:
    """Compare `pictures` of the model with training pictures, which are rendered again.

    Args:
        renders: of the same prompts.
        training: every set that the model was trained on.
        held_out: the set whose first scenes stand for pictures that it was not trained on.
        most: training pictures to search, evenly spaced over every set.
    """
    sets = {
        "model": encoded(pipe, pictures),
        "held_out": encoded(pipe, rendered(held_out, range(len(pictures)), title="held-out renders")),
        "renders": encoded(pipe, renders),
    }
    found: dict[str, list[Tensor]] = {name: [] for name in sets}
    searched = 0
    for config in training:
        indices = spaced(config.count, -(-most // len(training)))
        for first in range(0, len(indices), SEARCHED_AT_ONCE):
            part = indices[first : first + SEARCHED_AT_ONCE]
            bank = encoded(pipe, rendered(config, part, title="training pictures"))
            for name, latents in sets.items():
                found[name].append(nearest(latents, bank))
        searched += len(indices)
    distances = {name: np.min([part.numpy() for part in parts], axis=0) for name, parts in found.items()}
    return copying_from(
        **distances,
        searched=searched,
        training=sum(config.count for config in training),
        streams=tuple(dict.fromkeys(config.seed for config in training)),
    )


def copying_from(
    *,
    model: np.ndarray,
    held_out: np.ndarray,
    renders: np.ndarray,
    searched: int,
    training: int,
    streams: tuple[int, ...],
) -> Copying:
    """The report of three lists of distances."""
    threshold = float(np.percentile(held_out, NEAR_PERCENTILE))
    return Copying(
        pictures=len(model),
        searched=searched,
        training=training,
        streams=streams,
        model=float(np.median(model)),
        held_out=float(np.median(held_out)),
        renders=float(np.median(renders)),
        ratio=float(_ratio(model, held_out)),
        ratio_interval=_ratio_interval(model, held_out),
        threshold=threshold,
        nearer=share((model < threshold).tolist()),
    )


def rendered(config: PostcardConfig, indices: Sequence[int], *, title: str) -> Pictures:
    """Scenes of a set, drawn anew."""
    bar = tqdm(indices, unit="scene", desc=title, leave=False)
    return np.stack([render(sample_scene(config.seed, i, config.world), config.size).image for i in bar])


def spaced(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, evenly spaced."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))]


def _ratio(model: np.ndarray, held_out: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.median(model, axis=axis) / np.median(held_out, axis=axis)


def _ratio_interval(model: np.ndarray, held_out: np.ndarray) -> Interval:
    drawn = bootstrap(
        (model, held_out), _ratio, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    )
    return Interval(float(drawn.confidence_interval.low), float(drawn.confidence_interval.high))
