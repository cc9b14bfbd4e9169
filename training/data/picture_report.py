"""A survey of pictures -> its report: what was found, what is left out and why; as text and as plain values.

Knows nothing of files. Names and reasons come from strangers: what cannot be printed is shown as an escape.
"""

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from training.data.survey import LeftOut, Survey, Use

LICENSE_FIELDS = ("license", "licence", "licenses", "rights")
SHOWN_OF_A_KIND = 10
"""Lines of the text for each kind of reason; the plain values hold them all."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The pictures that are trained at one size."""

    height: int
    width: int
    training: int
    held_out: int
    mean_lost: float
    """Mean share of a picture that is cropped off."""
    most_lost: float
    enlarged: int
    """Pictures smaller than the bucket."""


@dataclass(frozen=True, kw_only=True)
class PictureReport:
    """What a picture set is made of."""

    found: int
    training: int
    """Distinct pictures; `repeats` do not count."""
    held_out: int
    sides: dict[str, tuple[int, int]]
    """(height, width): the smallest, the median and the largest of each side by itself."""
    buckets: tuple[Bucket, ...]
    """Those with pictures in them."""
    without_caption: int
    several_captions: int
    caption_examples: tuple[str, ...]
    fields: dict[str, int]
    """How many samples have each field."""
    licenses: dict[str, int]
    notes: dict[str, int]
    """How many pictures were special in a way that is dealt with, e.g. "CMYK"."""
    transparent: int
    left_out: tuple[LeftOut, ...]
    near_duplicates: tuple[tuple[str, str], ...]
    """Pairs of used pictures that look nearly equal; both are used."""
    near_across: int
    """How many of them lie one in the training set and one in the held-out set."""

    @property
    def reasons(self) -> dict[str, int]:
        """How many samples were left out for each kind of reason, the commonest first."""
        return dict(Counter(one.reason.partition(":")[0] for one in self.left_out).most_common())

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return asdict(self) | {"reasons": self.reasons}

    def text(self) -> str:
        """The report for people, several lines."""
        return "\n".join(_text_of(self))


def shown(text: str) -> str:
    """A text from a stranger on one line, without characters that steer a terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def report_of(survey: Survey) -> PictureReport:
    """Count what a survey found."""
    uses = survey.uses
    licenses = Counter(
        next((use.sample.fields[name] for name in LICENSE_FIELDS if name in use.sample.fields), "")
        for use in uses
    )
    captions = [use.captions for use in uses]
    near = [(uses[one], uses[other]) for one, other in survey.near]
    return PictureReport(
        found=len(uses) + len(survey.left_out),
        training=sum(not use.held_out for use in uses),
        held_out=sum(use.held_out for use in uses),
        sides=_sides([use.sample.size for use in uses]),
        buckets=tuple(_buckets(survey)),
        without_caption=sum(texts == ("",) for texts in captions),
        several_captions=sum(len(texts) > 1 for texts in captions),
        caption_examples=tuple(texts[0] for texts in _spread(captions, 3)),
        fields=dict(Counter(name for use in uses for name in use.sample.fields).most_common()),
        licenses=dict(licenses.most_common()) if set(licenses) - {""} else {},
        notes=dict(Counter(note for use in uses for note in use.sample.notes).most_common()),
        transparent=sum(use.sample.transparent for use in uses),
        left_out=survey.left_out,
        near_duplicates=tuple((one.sample.name, other.sample.name) for one, other in near),
        near_across=sum(one.held_out != other.held_out for one, other in near),
    )


def _sides(sizes: list[tuple[int, int]]) -> dict[str, tuple[int, int]]:
    if not sizes:
        return {}
    heights, widths = zip(*sizes, strict=True)
    ways = {"smallest": min, "median": statistics.median_low, "largest": max}
    return {name: (way(heights), way(widths)) for name, way in ways.items()}


def _buckets(survey: Survey) -> Iterable[Bucket]:
    inside: dict[int, list[Use]] = {}
    for use in survey.uses:
        inside.setdefault(use.fit.bucket, []).append(use)
    for number, uses in sorted(inside.items(), key=lambda item: (-len(item[1]), item[0])):
        lost = [use.fit.lost for use in uses]
        yield Bucket(
            height=survey.sizes[number][0],
            width=survey.sizes[number][1],
            training=sum(not use.held_out for use in uses),
            held_out=sum(use.held_out for use in uses),
            mean_lost=round(statistics.fmean(lost), 4),
            most_lost=round(max(lost), 4),
            enlarged=sum(use.fit.enlargement > 1 for use in uses),
        )


def _spread(values: list[Any], count: int) -> list[Any]:
    """A few of the values, from all over the list."""
    return [values[i * len(values) // count] for i in range(min(count, len(values)))]


def _text_of(report: PictureReport) -> Iterable[str]:
    yield (
        f"{report.found} found: {report.training} for training, {report.held_out} held out, "
        f"{len(report.left_out)} left out"
    )
    for name, (height, width) in report.sides.items():
        yield f"  {name} width {width}, {name} height {height} pixels"
    if report.buckets:
        yield ""
        yield f"{'bucket':>12} {'training':>9} {'held out':>9} {'cropped':>8} {'at most':>8} {'enlarged':>9}"
    for bucket in report.buckets:
        size = f"{bucket.width} x {bucket.height}"
        yield (
            f"{size:>12} {bucket.training:>9} {bucket.held_out:>9} {bucket.mean_lost:>8.1%} "
            f"{bucket.most_lost:>8.1%} {bucket.enlarged:>9}"
        )
    yield ""
    yield f"captions: {report.without_caption} missing, {report.several_captions} with several to draw from"
    yield from (f"  e.g. {shown(text)[:100]}" for text in report.caption_examples if text)
    if report.fields:
        yield "fields for a template: " + ", ".join(f"{shown(k)} ({v})" for k, v in report.fields.items())
    if report.licenses:
        yield "licenses: " + ", ".join(f"{shown(k) or 'none given'} {v}" for k, v in report.licenses.items())
    special = ({"with transparent parts": report.transparent} if report.transparent else {}) | report.notes
    if special:
        yield "dealt with: " + ", ".join(f"{name} {count}" for name, count in special.items())
    if report.near_duplicates:
        yield ""
        yield (
            f"{len(report.near_duplicates)} pairs look nearly equal; both of each are used, "
            f"{report.near_across} pairs lie in the training set and in the held-out set"
        )
        yield from _some([f"{shown(one)} | {shown(other)}" for one, other in report.near_duplicates])
    for kind, count in report.reasons.items():
        yield ""
        yield f"left out, {kind}: {count}"
        yield from _some(
            [
                f"{shown(one.name)}: {shown(one.reason.partition(':')[2].strip())}"
                for one in report.left_out
                if one.reason.partition(":")[0] == kind
            ]
        )


def _some(lines: list[str]) -> Iterable[str]:
    yield from (f"  {line}" for line in lines[:SHOWN_OF_A_KIND])
    if len(lines) > SHOWN_OF_A_KIND:
        yield f"  ... and {len(lines) - SHOWN_OF_A_KIND} more (--json lists them)"
