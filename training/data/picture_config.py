"""Which pictures a run is trained on and how they are seen: the settings, checked.

Knows nothing of files; `survey.py` looks at the sources.
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import ImageColor

from training.data.buckets import bucket_sizes
from training.data.captions import template_fields, where_words

LARGEST_TRIM = 0.1
"""Share of a picture that may be cropped off at its edges to meet its bucket's aspect ratio, unasked."""
LARGEST_CROP = 0.5
"""The same where crops are allowed."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One folder, metadata file, saved data set, shard, or folder of WebDataset shards."""

    path: Path
    repeats: int = 1
    """How often an epoch shows each of its samples."""
    template: str | None = None
    """Caption made of a sample's fields, e.g. "{style} emoji of {name}"; {text} is its own caption."""
    where: tuple[str, ...] = ()
    """Only samples with these values of their fields, e.g. "style=flat"; of one field any of several."""

    def __post_init__(self) -> None:
        for condition in self.where:
            where_words(condition)
        if self.repeats < 1:
            raise ValueError(f"repeats={self.repeats}: must be at least 1; leave the source out instead.")
        if self.template is not None:
            template_fields(self.template)


@dataclass(frozen=True, kw_only=True)
class PictureSetConfig:
    """Which pictures, and how they are seen."""

    sources: tuple[SourceConfig, ...]
    resolution: int
    """Pixels of the square bucket's side; every bucket has about resolution^2 pixels, never more."""
    factor: int = 8
    """Sides of buckets are multiples of it: 8 is the VAE's; 64 gives few buckets and crops more."""
    largest_aspect: float = 2.0
    background: str = "white"
    """What shows through transparent pictures: a color's name, #rrggbb, or "random", a new one each time."""
    crop: bool = False
    """Allow crops of up to `LARGEST_CROP`; else a picture that loses more than `LARGEST_TRIM` is left out."""
    largest_enlargement: float = 2.0
    """Pictures that would have to be enlarged by more are left out as tiny."""
    caption_shuffle: bool = False
    """Comma-separated tags in a new order each time."""
    keep_first: int = 0
    """Tags at the start that the shuffle leaves in place."""
    held_out: float = 0.0
    """Share of the pictures kept for validation, chosen by the hash of their pixels."""
    strict: bool = False
    """Stop where a picture cannot be used, instead of going on without it."""

    def __post_init__(self) -> None:
        bucket_sizes(self.resolution, factor=self.factor, largest_aspect=self.largest_aspect)
        if not self.sources:
            raise ValueError("sources=(): is empty; give at least one source of pictures.")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out={self.held_out}: is a share; choose from 0 to below 1.")
        if self.keep_first < 0:
            raise ValueError(f"keep_first={self.keep_first}: must be at least 0.")
        if self.largest_enlargement < 1:
            raise ValueError(f"largest_enlargement={self.largest_enlargement}: must be at least 1.")
        if self.background != "random":
            color_of(self.background)


def color_of(name: str) -> tuple[int, int, int]:
    """Red, green, blue in 0..255 of a color such as "white" or "#ff8000"; ValueError for others."""
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise ValueError(
            f"background={name!r}: is no color; write a name such as white, or #rrggbb, or random."
        ) from None
    return red, green, blue
