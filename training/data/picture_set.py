"""Sources of captioned pictures -> a training set and a held-out set, read at random by (seed, step, index).

Knows nothing of latents, tokens or losses. Nothing of the user's is changed.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from training.data.buckets import Size, seen_part
from training.data.captions import drawn_caption
from training.data.decoding import bombs_refused, decoded, on_background
from training.data.found import digest_of
from training.data.index import Sample
from training.data.order import batch_at, batches_before
from training.data.picture_config import PictureSetConfig, SourceConfig, color_of
from training.data.picture_report import PictureReport, report_of, shown
from training.data.sources import picture_bytes
from training.data.survey import Use, sizes_of, survey_of
from training.pictures import picture_tensor

__all__ = ["OpenedPictures", "PictureSet", "PictureSetConfig", "SourceConfig", "open_picture_set"]

TRANSFORM = "lanczos 1"
"""What was done to the pixels, in words that change when it does: caches are keyed by it."""


@dataclass(frozen=True)
class OpenedPictures:
    """What a config's sources hold."""

    training: "PictureSet"
    held_out: "PictureSet"
    """Empty where `held_out` is 0, or so small that it meets no picture."""
    report: PictureReport


class PictureSet:
    """Captioned pictures in buckets; every answer is a pure function of its arguments."""

    def __init__(self, uses: Sequence[Use], config: PictureSetConfig):
        self.config = config
        self.sizes: tuple[Size, ...] = sizes_of(config)
        """Of all buckets, (height, width) in pixels; some may be empty."""
        self._uses = tuple(uses)
        self._streams: list[list[int]] = [[] for _ in self.sizes]
        for index, use in enumerate(self._uses):
            self._streams[use.fit.bucket] += [index] * use.repeats
        self.key = digest_of(
            [(self.pixels_key(i), use.captions, use.repeats) for i, use in enumerate(self._uses)],
            [config.caption_shuffle, config.keep_first, config.crop],
        )
        """Content key of everything that decides the samples: pixels, captions, settings; no path enters."""

    def __len__(self) -> int:
        """Distinct samples; `repeats` do not count."""
        return len(self._uses)

    def bucket_of(self, index: int) -> int:
        """Position in `sizes` of the bucket of a sample."""
        return self._use(index).fit.bucket

    def members(self, bucket: int) -> list[int]:
        """The samples of a bucket, each once, ascending."""
        return list(dict.fromkeys(self._streams[bucket]))

    def tensor(self, index: int, *, draws: torch.Generator | None = None) -> Float[Tensor, "3 height width"]:
        """The picture in [-1, 1] at its bucket's size, resized without squashing.

        Args:
            draws: decides a random background, and, where crops are allowed, where a crop lies. Without it
                crops are in the middle, and a random background is a color of the picture's own.
        Raises:
            ValueError: the file changed since the set was opened.
            OSError: it cannot be read any more.
        """
        use = self._use(index)
        with bombs_refused():
            pixels = decoded(picture_bytes(use.place)).pixels
        across = 0.5
        color = self._background(use.sample, draws)
        if self.config.crop and draws is not None:
            across = float(torch.rand((), generator=draws, dtype=torch.float64))
        seen = _resized(on_background(pixels, color), self.sizes[use.fit.bucket], across)
        return picture_tensor(np.array(seen))  # a copy, because Pillow's arrays are read-only

    def caption(self, index: int, *, draws: random.Random) -> str:
        """One of the sample's captions; "" where it has none."""
        return drawn_caption(
            self._use(index).captions,
            draws=draws,
            shuffle=self.config.caption_shuffle,
            keep_first=self.config.keep_first,
        )

    def captions(self, index: int) -> tuple[str, ...]:
        """All captions that a sample may have, before tags are shuffled; one at least."""
        return self._use(index).captions

    def name(self, index: int) -> str:
        """Where a sample comes from, for people."""
        return self._use(index).sample.name

    def pixels_key(self, index: int) -> str:
        """Content key of `tensor(index)`: of its pixels, and of all that is done to them."""
        use = self._use(index)
        background = self.config.background if use.sample.transparent else ""
        return digest_of(use.sample.pixels, self.sizes[use.fit.bucket], background, TRANSFORM)

    def batch_at(self, *, seed: int, step: int, batch_size: int) -> list[int]:
        """The samples of the global batch of a step, all of one bucket; see `order.py`. O(1) in the step.

        Every sample comes once an epoch, `repeats` times where that is above 1. What a bucket's last batch
        lacks is filled from the start of the bucket's next random order.

        Raises:
            ValueError: the set is empty, or a value is out of its range.
        """
        names = [f"{height}x{width}" for height, width in self.sizes]
        return batch_at(self._streams, names, seed=seed, step=step, batch_size=batch_size)

    def steps_before(self, epoch: int, *, batch_size: int) -> int:
        """The first step of an epoch, counted from 0."""
        return batches_before([len(s) for s in self._streams], epoch=epoch, batch_size=batch_size)

    def _use(self, index: int) -> Use:
        if not 0 <= index < len(self._uses):
            raise ValueError(f"index={index}: this set holds {len(self._uses)} pictures, counted from 0.")
        return self._uses[index]

    def _background(self, sample: Sample, draws: torch.Generator | None) -> tuple[int, int, int]:
        if not sample.transparent or self.config.background != "random":
            return color_of("white" if self.config.background == "random" else self.config.background)
        if draws is None:
            red, green, blue = bytes.fromhex(sample.pixels[:6])
        else:
            red, green, blue = torch.randint(0, 256, (3,), generator=draws).tolist()
        return red, green, blue


def open_picture_set(config: PictureSetConfig, *, cache: Path | None) -> OpenedPictures:
    """Look at all sources, leave out what cannot be used, and split the rest.

    Args:
        cache: folder for the index of what was found, made where it is missing; None keeps nothing. Open it
            in one process first, then in the others.
    Raises:
        ValueError: a source that cannot be read, an unknown field in a template, no usable picture; with
            `strict` any picture that cannot be used.
        OSError: the index cannot be written.
    """
    survey = survey_of(config, cache=cache)
    report = report_of(survey)
    if config.strict and survey.left_out:
        one = survey.left_out[0]
        raise ValueError(
            f"strict: {len(survey.left_out)} of {report.found} samples cannot be used, the first is "
            f"{shown(one.name)} ({shown(one.reason)}); mend or remove them, or go on without strict."
        )
    training = [use for use in survey.uses if not use.held_out]
    if not training:
        kinds = ", ".join(f"{kind} {count}" for kind, count in report.reasons.items())
        paths = ", ".join(str(source.path) for source in config.sources)
        raise ValueError(
            f"sources={paths}: no picture is left to train on; "
            f"{len(survey.left_out)} were left out ({kinds or 'none'}), {report.held_out} held out."
        )
    return OpenedPictures(
        training=PictureSet(training, config),
        held_out=PictureSet([use for use in survey.uses if use.held_out], config),
        report=report,
    )


def _resized(pixels: NDArray[np.uint8], bucket: Size, across: float) -> NDArray[np.uint8]:
    """The part of [height, width, 3] that the bucket shows, at its size."""
    size = (pixels.shape[0], pixels.shape[1])
    if size == bucket:
        return pixels
    return np.asarray(
        Image.fromarray(pixels).resize(
            (bucket[1], bucket[0]),
            Image.Resampling.LANCZOS,
            box=seen_part(size, bucket, across=across),
            reducing_gap=3.0,
        )
    )
