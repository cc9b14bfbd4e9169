"""The settings' sources -> which samples are used and how, and which are left out with what reason.

Knows nothing of tensors. One sample's answer depends on it and the settings, but for equal pictures: of those
the first with a caption is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.data.buckets import Fit, Size, best_fit, bucket_sizes
from training.data.captions import all_captions, check_template, template_fields, wanted, where_words
from training.data.found import Place
from training.data.index import Sample, index_path, indexed
from training.data.likeness import near_pairs
from training.data.picture_config import LARGEST_CROP, LARGEST_TRIM, PictureSetConfig, SourceConfig
from training.data.sources import picture_bytes, units_of


@dataclass(frozen=True, kw_only=True)
class Use:
    """A sample that is used, and how."""

    sample: Sample
    place: Place
    fit: Fit
    captions: tuple[str, ...]
    """All it may have, before tags are shuffled; one at least, "" where it has none."""
    repeats: int
    held_out: bool


@dataclass(frozen=True)
class LeftOut:
    """A sample, or a part of a source, that is not used."""

    name: str
    reason: str
    """Of the form "kind: detail"."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Everything that was found."""

    uses: tuple[Use, ...]
    left_out: tuple[LeftOut, ...]
    near: tuple[tuple[int, int], ...]
    """Pairs of `uses` that look nearly equal."""
    sizes: tuple[Size, ...]
    """Of all buckets."""


def sizes_of(config: PictureSetConfig) -> tuple[Size, ...]:
    """The buckets of the settings, (height, width)."""
    return bucket_sizes(config.resolution, factor=config.factor, largest_aspect=config.largest_aspect)


def survey_of(config: PictureSetConfig, *, cache: Path | None) -> Survey:
    """Look at every sample of every source; for errors see `open_picture_set`."""
    sizes = sizes_of(config)
    uses: list[Use] = []
    left_out: list[LeftOut] = []
    for source in config.sources:
        samples = indexed(
            units_of(source.path),
            path=index_path(cache, source.path) if cache else None,
            read=picture_bytes,
            title=source.path.name,
        )
        if len(config.sources) > 1:
            samples = [replace(sample, name=f"{source.path.name}/{sample.name}") for sample in samples]
        usable = [sample for sample in samples if not sample.reason]
        if source.where:
            samples = _chosen(samples, source)
            usable = [sample for sample in samples if not sample.reason]
        if source.template is not None and usable:
            check_template(source.template, {name for sample in usable for name in sample.fields})
        for sample in samples:
            fit = None if sample.reason else best_fit(sample.size, sizes)
            if fit is None or sample.place is None:
                left_out.append(LeftOut(sample.name, sample.reason))
                continue
            if reason := _objection(sample, fit, source, config, sizes):
                left_out.append(LeftOut(sample.name, reason))
                continue
            uses.append(
                Use(
                    sample=sample,
                    place=sample.place,
                    fit=fit,
                    captions=all_captions(sample.texts, sample.fields, template=source.template),
                    repeats=source.repeats,
                    held_out=_share(sample.pixels) < config.held_out,
                )
            )
    uses = _without_duplicates(uses, left_out)
    return Survey(
        uses=tuple(uses),
        left_out=tuple(left_out),
        near=tuple(near_pairs([use.sample.look for use in uses])),
        sizes=sizes,
    )


def _chosen(samples: Sequence[Sample], source: SourceConfig) -> list[Sample]:
    """The samples that the source's conditions ask for, and those whose fields nobody could read.

    Raises:
        ValueError: no sample has a field that is asked for, or none has its value.
    """
    for name, value in map(where_words, source.where):
        values = {sample.fields[name] for sample in samples if name in sample.fields}
        if not values:
            known = ", ".join(sorted({field for sample in samples for field in sample.fields})) or "none"
            raise ValueError(f"where={name}={value}: no sample has the field {name!r}; there are: {known}.")
        if not any(wanted(sample.fields, [f"{name}={value}"]) for sample in samples):
            some = ", ".join(repr(one[:40]) for one in sorted(values)[:12])
            raise ValueError(f"where={name}={value}: no sample has this value; there are {some}.")
    unread = [bool(sample.reason) and not sample.fields for sample in samples]
    return [
        one for one, keep in zip(samples, unread, strict=True) if keep or wanted(one.fields, source.where)
    ]


def _without_duplicates(uses: list[Use], left_out: list[LeftOut]) -> list[Use]:
    """Of equal pictures the first that has a caption, else the first; the others go to `left_out`."""
    kept: dict[str, Use] = {}
    for use in uses:
        other = kept.setdefault(use.sample.pixels, use)
        if other.captions == ("",) != use.captions:
            kept[use.sample.pixels] = use
    for use in uses:
        if kept[use.sample.pixels] is not use:
            name = kept[use.sample.pixels].sample.name
            left_out.append(LeftOut(use.sample.name, f"duplicate: the same pixels as {name}"))
    return [use for use in uses if kept[use.sample.pixels] is use]


def _objection(
    sample: Sample, fit: Fit, source: SourceConfig, config: PictureSetConfig, sizes: Sequence[Size]
) -> str:
    """Why a whole picture cannot be used under these settings; "" if it can."""
    height, width = sample.size
    wanted = " x ".join(str(side) for side in reversed(sizes[fit.bucket]))
    if fit.enlargement > config.largest_enlargement * (1 + 1e-9):
        return (
            f"tiny: {width} x {height} pixels would be enlarged {fit.enlargement:.3g} times to {wanted}, "
            f"at most {config.largest_enlargement:g} is allowed"
        )
    if fit.lost > (LARGEST_CROP if config.crop else LARGEST_TRIM):
        remedy = "cut it yourself" if config.crop else "allow crops, or a larger aspect"
        lost = f"{width} x {height} pixels would lose {fit.lost:.0%}"
        return f"aspect: {lost} in the nearest bucket, {wanted}; {remedy}"
    if source.template is not None:
        for name in template_fields(source.template):
            if name not in sample.fields:
                return f"caption: it has no field {name!r}, which the template asks for"
    return ""


def _share(pixels: str) -> float:
    """A number in [0, 1) that the pixels alone decide."""
    return int(pixels[:12], 16) / 16**12
