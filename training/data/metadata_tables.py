"""A `metadata.jsonl` or `metadata.csv` file -> texts and fields of the pictures that its rows name.

Knows nothing of pictures. The convention is that of Hugging Face's image folders: a column `file_name` with
the path from the table's folder, and other columns of any name.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from training.data.found import UnusableText, object_in, texts_in

TABLE_NAMES = ("metadata.jsonl", "metadata.csv")
LARGEST_TABLE_BYTES = 4 * 1024**3


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a table says about one picture."""

    number: int
    """Line in the file, from 1."""
    texts: tuple[str, ...]
    fields: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A whole table."""

    path: Path
    rows: dict[str, Row]
    """By the picture's path from the table's folder, with slashes."""
    unusable: tuple[tuple[int, str], ...]
    """Lines that name no picture, with the reason."""


def read_table(path: Path) -> Table:
    """Read a table; a line that cannot be used is kept aside with its reason.

    Raises:
        ValueError: another kind of file, not UTF-8, or a .csv file without a column `file_name`.
    """
    if path.stat().st_size > LARGEST_TABLE_BYTES:
        raise ValueError(f"{path}: has more than {LARGEST_TABLE_BYTES >> 30} GiB; split it.")
    rows: dict[str, Row] = {}
    unusable: list[tuple[int, str]] = []
    try:
        for number, record in _records(path):
            try:
                if isinstance(record, UnusableText):
                    raise record
                name = _inside(record.pop("file_name", None))
                if name in rows:
                    raise UnusableText(f"row: names {name} again, as line {rows[name].number} did")
                texts, fields = texts_in(record)
                rows[name] = Row(number=number, texts=texts, fields=fields)
            except UnusableText as reason:
                unusable.append((number, str(reason)))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text; save it as UTF-8.") from None
    except csv.Error as error:
        raise ValueError(f"{path}: is no table of comma-separated values ({error}).") from None
    return Table(path=path, rows=rows, unusable=tuple(unusable))


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any] | UnusableText]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            reader = csv.DictReader(file)
            if "file_name" not in (reader.fieldnames or ()):
                there = ", ".join(reader.fieldnames or ()) or "none"
                raise ValueError(f"{path}: has no column file_name; there are: {there}.")
            for record in reader:
                # The key None holds what stands beyond the last column.
                yield reader.line_num, {key: value for key, value in record.items() if key and value}
            return
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield number, object_in(line)
                except UnusableText as reason:
                    yield number, reason


def _inside(name: Any) -> str:
    """A path from the table's folder that does not lead out of it, in its plainest form."""
    if not isinstance(name, str) or not name:
        raise UnusableText("row: has no file_name")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or PureWindowsPath(name).drive or "\0" in name:
        raise UnusableText(f"row: file_name {name!r} leads out of the table's folder")
    return "/".join(parts)
