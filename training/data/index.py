"""The units of a source -> its samples, each picture decoded once; what was found is kept on disk.

Knows nothing of buckets or captions' templates. The index is a file of JSON lines, one a unit; a unit whose
files' paths, sizes and times of change are the same is not looked at again, so that an interrupted or
outdated index is completed, not made anew.
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from training.data.decoding import UnreadablePicture, bombs_refused, decoded
from training.data.found import Found, Place, Unit
from training.data.likeness import look, pixel_hash

VERSION = 1
"""Of the lines' layout and of what decoding and hashes mean; another one is another file."""
AT_ONCE = 64
"""Pictures that are decoded before what was found is written."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is known about one sample of a source."""

    name: str
    reason: str = ""
    """Why it cannot be used; the fields below are then empty."""
    place: Place | None = None
    texts: tuple[str, ...] = ()
    fields: dict[str, str]
    size: tuple[int, int] = (0, 0)
    """Height, width in pixels, upright."""
    transparent: bool = False
    pixels: str = ""
    """Hash of the decoded pixels."""
    look: bytes = b""
    """The print by which near duplicates are found."""
    notes: tuple[str, ...] = ()
    """What was special about the file."""


def index_path(cache: Path, source: Path) -> Path:
    """The file that holds a source's index."""
    key = hashlib.sha256(str(source.resolve()).encode(errors="surrogateescape")).hexdigest()[:12]
    return cache / f"index-{VERSION}-{key}.jsonl"


def indexed(
    units: Iterable[Unit],
    *,
    path: Path | None,
    read: Callable[[Place], bytes],
    title: str,
    threads: int | None = None,
) -> list[Sample]:
    """All samples of the units, in their order; pictures are decoded where the index does not know them.

    Args:
        path: the index file, made where there is none; None keeps nothing.
        read: gives the bytes of a picture.
    Raises:
        OSError: the index cannot be written.
    """
    units = list(units)
    known = _lines(path)
    stale = [unit for unit in units if known.get(unit.name, ("", []))[0] != unit.stamp]
    if stale:
        with bombs_refused(), ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            for some in _looked_at(stale, read, pool, title):
                _append(path, some)
                known.update({unit.name: (unit.stamp, samples) for unit, samples in some})
    if len(known) > len(units):  # files that are gone
        known = {unit.name: known[unit.name] for unit in units}
        _rewrite(path, known)
    return [sample for unit in units for sample in known[unit.name][1]]


def _looked_at(
    units: list[Unit], read: Callable[[Place], bytes], pool: ThreadPoolExecutor, title: str
) -> Iterator[list[tuple[Unit, list[Sample]]]]:
    """Whole units with their samples, a few at a time; a unit may be one picture, or a shard of thousands."""
    everything = ((number, found) for number, unit in enumerate(units) for found in unit.find())
    collected: list[Sample] = []
    current = 0
    with tqdm(unit="picture", desc=title, mininterval=1) as bar:
        while some := list(islice(everything, AT_ONCE)):
            done = []
            samples = pool.map(lambda one: _sample(one[1], read), some)
            for (number, _), sample in zip(some, samples, strict=True):
                while current < number:
                    done.append((units[current], collected))
                    collected, current = [], current + 1
                collected.append(sample)
            yield done
            bar.update(len(some))
    yield [(units[current], collected), *((unit, []) for unit in units[current + 1 :])]


def _sample(found: Found, read: Callable[[Place], bytes]) -> Sample:
    if found.reason or found.place is None:
        return Sample(name=found.name, reason=found.reason, fields={})
    try:
        picture = decoded(read(found.place))
    except UnreadablePicture as reason:
        return Sample(name=found.name, reason=str(reason), fields={})
    except OSError as error:
        return Sample(name=found.name, reason=f"unreadable: {error.strerror or error}", fields={})
    height, width, channels = picture.pixels.shape
    return Sample(
        name=found.name,
        place=found.place,
        texts=found.texts,
        fields=dict(found.fields),
        size=(height, width),
        transparent=channels == 4,
        pixels=pixel_hash(picture.pixels),
        look=look(picture.pixels),
        notes=picture.notes,
    )


def _lines(path: Path | None) -> dict[str, tuple[str, list[Sample]]]:
    """What the index knows: unit -> (stamp, samples). A torn line counts as none."""
    known: dict[str, tuple[str, list[Sample]]] = {}
    if path is None or not path.is_file():
        return known
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line)
                known[record["unit"]] = (record["stamp"], [_sample_from(one) for one in record["samples"]])
            except (ValueError, KeyError, TypeError):
                continue
    return known


def _append(path: Path | None, units: list[tuple[Unit, list[Sample]]]) -> None:
    if path is None or not units:
        return
    # The line break in front ends a line that an interrupted run left torn.
    text = "".join("\n" + _line(unit.name, unit.stamp, samples) for unit, samples in units) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(text.encode())
    except OSError as error:
        raise _full(path, error) from None


def _rewrite(path: Path | None, known: dict[str, tuple[str, list[Sample]]]) -> None:
    if path is None:
        return
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            for unit, (stamp, samples) in known.items():
                file.write((_line(unit, stamp, samples) + "\n").encode())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _full(path, error) from None


def _full(path: Path, error: OSError) -> OSError:
    return OSError(f"{path}: the index could not be written ({error.strerror}); make room and start again.")


def _line(unit: str, stamp: str, samples: list[Sample]) -> str:
    return json.dumps({"unit": unit, "stamp": stamp, "samples": [_plain(sample) for sample in samples]})


def _plain(sample: Sample) -> dict[str, Any]:
    if sample.reason:
        return {"name": sample.name, "reason": sample.reason}
    return asdict(sample) | {"look": base64.b64encode(sample.look).decode()}


def _sample_from(record: dict[str, Any]) -> Sample:
    if record["reason"]:
        return Sample(name=record["name"], reason=record["reason"], fields={})
    place = record["place"]
    return Sample(
        **record
        | {
            "place": Place(**place | {"stamp": tuple(place["stamp"])}),
            "texts": tuple(record["texts"]),
            "size": tuple(record["size"]),
            "notes": tuple(record["notes"]),
            "look": base64.b64decode(record["look"]),
        }
    )
