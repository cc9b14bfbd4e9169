"""What every kind of source gives: samples that were found, and where the bytes of their pictures lie.

Knows nothing of pixels, and nothing of the layout of any source.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.data.captions import CAPTION_FIELDS
from training.data.decoding import LARGEST_FILE_BYTES

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".webp")
OTHER_PICTURE_ENDINGS = (
    ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl", ".apng", ".psd", ".svg", ".jp2",
)  # fmt: skip
"""Pictures that are not opened: they are listed, so that nobody wonders where they are."""
TEXT_ENDINGS = (".txt", ".caption", ".json")
"""Of the files beside a picture that hold its texts and fields."""
LARGEST_TEXT_BYTES = 1024 * 1024


class UnusableText(ValueError):
    """A text beside a picture that cannot be read; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a picture's bytes lie: a whole file, a part of one, or a row of a saved data set."""

    file: str
    stamp: tuple[int, int]
    """Size and time of change (ns) of the file when it was found; of all files of a data set."""
    offset: int = 0
    length: int = 0
    row: int = -1
    """Row of the data set in the folder `file`; -1 for a file."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One sample, its picture not looked at yet."""

    name: str
    """How reports call it: its path below the source, or shard and key."""
    place: Place | None = None
    texts: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    """Why it cannot be used, "kind: detail"; empty if nothing speaks against it so far."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A part of a source that is looked at again when one of its files changes."""

    name: str
    stamp: str
    """Digest of paths, sizes and times of change of all files that `find` reads."""
    find: Callable[[], Iterable[Found]]


def stamp_of(path: str | Path) -> tuple[int, int]:
    """(size in bytes, time of change in ns) of a file."""
    facts = os.stat(path)
    return facts.st_size, facts.st_mtime_ns


def digest_of(*facts: object) -> str:
    """Sixteen hex digits over plain values."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def bytes_of(place: Place) -> bytes:
    """The bytes of a picture in a file.

    Raises:
        ValueError: the file changed since it was found.
        OSError: it cannot be read.
    """
    # Not blocking: a named pipe that took the file's place would be waited for.
    descriptor = os.open(place.file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if (facts.st_size, facts.st_mtime_ns) != place.stamp:
            raise ValueError(f"{place.file} changed since its pictures were looked at; start again.")
        file.seek(place.offset)
        return file.read(place.length)


def whole_file(path: Path) -> Place:
    """Where the bytes of a picture file lie.

    Raises:
        ValueError: it is no regular file, or too large; the message is a reason.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("special: not a regular file")
    check_length(facts.st_size)
    return Place(file=str(path), stamp=(facts.st_size, facts.st_mtime_ns), length=facts.st_size)


def check_length(length: int) -> None:
    """ValueError, a reason, for a picture's file that is too large to be read."""
    if length > LARGEST_FILE_BYTES:
        raise ValueError(f"huge: {length >> 20} MiB, at most {LARGEST_FILE_BYTES >> 20} are read")


def texts_beside(sidecars: Mapping[str, bytes]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The texts and fields in the files beside a picture, given by their endings.

    Each line of a `.txt` or `.caption` file that is not empty is one caption, and one of them is drawn at a
    step. A `.json` file holds an object; see `texts_in`.

    Raises:
        UnusableText: not UTF-8, no JSON object, or too long.
    """
    texts: tuple[str, ...] = ()
    fields: dict[str, str] = {}
    if ".json" in sidecars:
        texts, fields = texts_in(object_in(_text(sidecars[".json"], ".json")))
    for ending in (".caption", ".txt"):
        if ending in sidecars:
            lines = (line.strip() for line in _text(sidecars[ending], ending).splitlines())
            texts = tuple(line for line in lines if line) or texts
    if texts:
        fields.setdefault("text", texts[0])
    return texts, fields


def object_in(text: str) -> dict[str, Any]:
    """The JSON object in a text; UnusableText if there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableText(f"text: no JSON object ({error})") from None
    if not isinstance(value, dict):
        raise UnusableText(f"text: no JSON object, but a {type(value).__name__}")
    return value


def texts_in(record: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The captions and fields of a record: words and numbers as text, lists of them joined by commas.

    The captions are those of the first of `CAPTION_FIELDS` that is there; a list holds several. Values that
    are nested deeper are left aside.
    """
    fields = {name: text for name, value in record.items() if (text := _as_text(value)) is not None}
    for name in CAPTION_FIELDS:
        value = record.get(name)
        if value is None or name not in fields:
            continue
        several = [_as_text(entry) for entry in value] if isinstance(value, list) else [fields[name]]
        texts = tuple(text for text in several if text)
        if texts:
            return texts, fields
    return (), fields


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(entry, str | int | float) for entry in value):
        return ", ".join(str(_as_text(entry)) for entry in value)
    return None


def _text(data: bytes, ending: str) -> str:
    if len(data) > LARGEST_TEXT_BYTES:
        raise UnusableText(f"text: its {ending} file has more than {LARGEST_TEXT_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnusableText(f"text: its {ending} file is not UTF-8") from None
