"""A folder of pictures -> its samples: sub-folders too, with `.txt` files beside the pictures or tables.

Knows nothing of pixels; it opens texts only, and writes nothing.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from training.data.found import (
    LARGEST_TEXT_BYTES,
    OTHER_PICTURE_ENDINGS,
    PICTURE_ENDINGS,
    TEXT_ENDINGS,
    Found,
    Unit,
    UnusableText,
    digest_of,
    stamp_of,
    texts_beside,
    whole_file,
)
from training.data.metadata_tables import TABLE_NAMES, Row, Table, read_table


@dataclass(frozen=True)
class _Folder:
    path: Path
    files: frozenset[str]


def table_units(path: Path) -> Iterator[Unit]:
    """The pictures that one table names; their texts are the table's alone. For errors see `read_table`."""
    table = read_table(path)
    yield from _unusable_rows(table, path.name)
    for name, row in sorted(table.rows.items()):
        yield _picture(path.parent / name, name, row, (), f"{path.name} line {row.number}")


def folder_units(root: Path) -> Iterator[Unit]:
    """All pictures below a folder, sorted by path; names that begin with a dot are passed over.

    A table holds for the pictures below its folder. A `.txt` file beside a picture goes before the table's
    caption. Pictures below a table that neither names them nor has a text beside them are left out.

    Raises:
        ValueError: a folder with two tables, or a table that cannot be read.
    """
    folders = list(_folders(root))
    tables = {folder.path: read_table(path) for folder in folders if (path := _table_in(folder))}
    rows = {
        table.path.parent / name: (table, row)
        for table in tables.values()
        for name, row in table.rows.items()
    }
    for table in tables.values():
        yield from _unusable_rows(table, table.path.relative_to(root).as_posix())
    pictures: dict[str, Unit] = {}
    for folder in folders:
        governed = any(parent in tables for parent in (folder.path, *folder.path.parents))
        for file in folder.files:
            path, stem, ending = folder.path / file, *os.path.splitext(file)
            if ending.lower() not in PICTURE_ENDINGS + OTHER_PICTURE_ENDINGS and path not in rows:
                continue
            name = path.relative_to(root).as_posix()
            beside = tuple(stem + one for one in TEXT_ENDINGS if stem + one in folder.files)
            table, row = rows.get(path, (None, None))
            if governed and row is None and not beside:
                pictures[name] = _left_out(
                    name, "caption: the table of its folder does not name it, and no text lies beside it"
                )
            else:
                line = f"{table.path.name} line {row.number}" if table and row else ""
                pictures[name] = _picture(path, name, row, beside, line)
    for path, (table, row) in rows.items():
        name = path.relative_to(root).as_posix()
        if name not in pictures:
            pictures[name] = _left_out(name, _missing(f"{table.path.name} line {row.number}"))
    yield from (pictures[name] for name in sorted(pictures))


def _folders(root: Path) -> Iterator[_Folder]:
    """Every folder below the root; a link that leads back to one that was seen is not followed."""
    seen: set[str] = set()
    for place, names, files in os.walk(root, followlinks=True, onerror=_cannot_list):
        real = os.path.realpath(place)
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not name.startswith(".") and name != "__MACOSX")
        yield _Folder(Path(place), frozenset(name for name in files if not name.startswith(".")))


def _cannot_list(error: OSError) -> None:
    raise error


def _table_in(folder: _Folder) -> Path | None:
    names = [name for name in TABLE_NAMES if name in folder.files]
    if len(names) > 1:
        raise ValueError(f"{folder.path}: holds {' and '.join(names)}; keep one of them.")
    return folder.path / names[0] if names else None


def _unusable_rows(table: Table, name: str) -> Iterator[Unit]:
    for number, reason in table.unusable:
        yield _left_out(f"{name} line {number}", reason)


def _left_out(name: str, reason: str) -> Unit:
    return Unit(name=name, stamp=digest_of(reason), find=lambda: [Found(name=name, reason=reason)])


def _missing(line: str) -> str:
    return f"missing: named in {line}, but not there"


def _picture(path: Path, name: str, row: Row | None, beside: tuple[str, ...], line: str) -> Unit:
    sidecars = tuple(path.parent / one for one in beside)
    try:
        stamps = [(str(one), *stamp_of(one)) for one in (path, *sidecars)]
    except OSError as error:
        return _left_out(name, _missing(line) if line else f"unreadable: {error.strerror}")
    stamp = digest_of(stamps, asdict(row) if row else None)
    return Unit(name=name, stamp=stamp, find=partial(_find, path, name, row, sidecars))


def _find(path: Path, name: str, row: Row | None, sidecars: tuple[Path, ...]) -> list[Found]:
    try:
        place = whole_file(path)
        texts, fields = texts_beside({one.suffix: _start(one) for one in sidecars})
    except UnusableText as reason:
        return [Found(name=name, reason=str(reason))]
    except OSError as error:
        return [Found(name=name, reason=f"unreadable: {error.strerror}")]
    except ValueError as reason:
        return [Found(name=name, reason=str(reason))]
    if row is not None:
        texts, fields = texts or row.texts, {**row.fields, **fields}
    return [Found(name=name, place=place, texts=texts, fields=fields)]


def _start(path: Path) -> bytes:
    """A text file's bytes, or one more than is allowed; ValueError, a reason, for what is no file."""
    if not path.is_file():
        raise UnusableText(f"text: {path.name} is not a regular file")
    with path.open("rb") as file:
        return file.read(LARGEST_TEXT_BYTES + 1)
