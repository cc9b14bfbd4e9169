"""A data set saved on disk by Hugging Face's `datasets` library -> its samples, and the bytes of one picture.

Knows nothing of pixels. The library is imported only where such a folder is opened.
"""

# pyright: reportMissingImports=false

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from training.data.found import (
    Found,
    Place,
    Unit,
    UnusableText,
    check_length,
    digest_of,
    stamp_of,
    texts_in,
)

ROWS = 512
"""Rows of a unit."""


def is_saved_dataset(folder: Path) -> bool:
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def splits_of(folder: Path) -> list[str]:
    """The data sets inside a folder that holds several of them, such as train and test."""
    if not (folder / "dataset_dict.json").is_file():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and is_saved_dataset(path))


def dataset_units(folder: Path) -> Iterator[Unit]:
    """Units of `ROWS` rows each, in the order of the rows.

    Raises:
        ValueError: no column of pictures, a folder that the library cannot open, or no library.
    """
    files = [(path.name, *stamp_of(path)) for path in sorted(folder.iterdir()) if path.is_file()]
    stamp = (sum(size for _, size, _ in files), max(time for _, _, time in files))
    dataset, column = _opened(str(folder), stamp)
    for first in range(0, len(dataset), ROWS):
        last = min(first + ROWS, len(dataset))
        yield Unit(
            name=f"rows {first}-{last - 1}",
            stamp=digest_of(files, first, last),
            find=partial(_samples, folder, stamp, first, last),
        )


def row_bytes(place: Place) -> bytes:
    """The bytes of the picture in a row."""
    dataset, column = _opened(place.file, place.stamp)
    return dataset[place.row][column]["bytes"]


def _samples(folder: Path, stamp: tuple[int, int], first: int, last: int) -> Iterator[Found]:
    dataset, column = _opened(str(folder), stamp)
    for row in range(first, last):
        record: dict[str, Any] = dict(dataset[row])
        picture, name = record.pop(column), f"row {row}"
        data = picture and picture.get("bytes")
        try:
            if not data:
                raise UnusableText("missing: the data set does not hold its bytes; save it with them")
            check_length(len(data))
            texts, fields = texts_in(record)
        except ValueError as reason:
            yield Found(name=name, reason=str(reason))
            continue
        place = Place(file=str(folder), stamp=stamp, row=row)
        yield Found(name=name, place=place, texts=texts, fields=fields)


@lru_cache(maxsize=8)
def _opened(folder: str, stamp: tuple[int, int]) -> tuple[Any, str]:
    """The data set, with pictures as bytes that nobody has decoded, and the column they are in.

    Opened once for each stamp, so that a set that was saved anew is opened anew.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ValueError(
            f"path={folder}: was saved by the datasets library, and {error.name} is not installed; "
            "`pip install '.[datasets]'` in a checkout brings it."
        ) from None
    try:
        dataset: Any = datasets.load_from_disk(folder)
    # Whatever pyarrow and datasets raise for damaged folders.
    except Exception as error:
        detail = " ".join(str(error).split())
        raise ValueError(f"{folder}: datasets.load_from_disk cannot open it ({detail}).") from None
    columns = [name for name, kind in dataset.features.items() if isinstance(kind, datasets.Image)]
    if not columns:
        raise ValueError(f"{folder}: no column of it is an Image; there are: {', '.join(dataset.features)}.")
    for name in columns:
        dataset = dataset.cast_column(name, datasets.Image(decode=False))
    others = [
        name
        for name, kind in dataset.features.items()
        if name != columns[0] and isinstance(kind, datasets.Image | datasets.Audio | datasets.Video)
    ]
    return dataset.remove_columns(others), columns[0]
