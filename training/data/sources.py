"""A path that a user gives -> its units: what kind of source it is, and which module reads that kind.

Knows nothing of pixels.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

from training.data.found import PICTURE_ENDINGS, Place, Unit, bytes_of
from training.data.metadata_tables import TABLE_NAMES
from training.data.picture_folders import folder_units, table_units
from training.data.saved_datasets import dataset_units, is_saved_dataset, row_bytes, splits_of
from training.data.shards import shard_units

KINDS = "a folder of pictures, a metadata.jsonl or .csv, a saved data set, or WebDataset .tar shards"


def units_of(path: Path) -> Iterator[Unit]:
    """The units of a source, always in the same order.

    `path` is a folder of pictures, one table, a data set's folder, one shard, or a folder of shards.

    Raises:
        ValueError: the path does not exist, or is none of these.
    """
    if not path.exists():
        raise ValueError(f"path={path}: is not there; give {KINDS}.")
    # However it is spelled, and wherever a later process runs, the index names the same files.
    path = path.resolve()
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() == ".tar":
        return shard_units([path])
    if path.suffix.lower() in (".jsonl", ".csv"):
        return table_units(path)
    raise ValueError(f"path={path}: is no source of pictures; give {KINDS}.")


def picture_bytes(place: Place) -> bytes:
    """The bytes of one picture; for errors see `bytes_of`."""
    return bytes_of(place) if place.row < 0 else row_bytes(place)


def _in_folder(path: Path) -> Iterator[Unit]:
    if is_saved_dataset(path):
        return dataset_units(path)
    if splits := splits_of(path):
        raise ValueError(f"path={path}: holds several data sets; give one of {', '.join(splits)} in it.")
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    shards = [path / name for name in names if name.lower().endswith(".tar")]
    pictures = [name for name in names if name.lower().endswith(PICTURE_ENDINGS) or name in TABLE_NAMES]
    if shards and pictures:
        raise ValueError(
            f"path={path}: holds shards ({shards[0].name}) and pictures ({pictures[0]}); give each a folder."
        )
    if not shards and not pictures and any(name.endswith((".parquet", ".arrow")) for name in names):
        raise ValueError(
            f"path={path}: holds .parquet or .arrow files; open them with the datasets library and save the "
            "result with save_to_disk."
        )
    units = shard_units(shards) if shards else folder_units(path)
    first = next(units, None)
    if first is None:
        raise ValueError(f"path={path}: there is no picture in it; give {KINDS}.")
    return itertools.chain([first], units)
