"""Rows of numbers on disk, made once, in the order of their numbers, with a checksum for each.

Knows nothing of what the rows mean. A store that was interrupted goes on where it stopped; a row that the
disk has damaged is found when it is read.
"""

import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from training.data.cache import reserve

MADE = 1 << 32
"""Added to a row's CRC-32: a checksum of 0 means that the row was not made yet."""
DTYPES = {torch.float16: np.dtype(np.float16), torch.float32: np.dtype(np.float32)}


class RowStore:
    """Random access to the rows of a complete store."""

    def __init__(self, path: Path, rows: NDArray[Any], sums: NDArray[np.uint64]):
        self.path, self._rows, self._sums = path, rows, sums

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, numbers: Sequence[int]) -> Tensor:
        """float32 [numbers, ...].

        Raises:
            ValueError: a row is not what was written.
        """
        chosen = np.stack([self._rows[number] for number in numbers])
        for number, row in zip(numbers, chosen, strict=True):
            if _sum(row) != self._sums[number]:
                raise ValueError(f"{self.path}: row {number} is damaged; delete the file, it is made again.")
        return torch.from_numpy(chosen).float()


def stored_rows(
    path: Path,
    make: Callable[[int, int], Tensor],
    *,
    count: int,
    batch_size: int,
    facts: Mapping[str, object],
    title: str,
    dtype: torch.dtype = torch.float16,
) -> RowStore:
    """Open the store at `path` (.npy), after making the rows that are missing with `make(first, last)`.

    Rows are made in the same batches if the work was interrupted, so that their bits are the same.

    Args:
        facts: everything that decides the rows, as plain values; they are kept beside the rows, and a
            store that was made from others is refused.
    Raises:
        ValueError: the store at `path` was made from other facts, or is damaged.
        OSError: the disk is full; what is made so far stays.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype}: choose torch.float16 or torch.float32.")
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = {"facts": _plain(facts), "count": count, "dtype": str(dtype)}
    label, sums_path, partial = (path.with_suffix(one) for one in (".json", ".sums", ".partial"))
    _check_label(label, wanted, path)
    try:
        if not path.exists():
            label.write_text(json.dumps(wanted, indent=1))
            _make(partial, sums_path, make, count=count, batch_size=batch_size, title=title, dtype=dtype)
            os.replace(partial, path)
    except OSError as error:
        raise OSError(
            f"{path}: could not be written ({error.strerror or error}); make room there and start again, "
            "what is made stays."
        ) from None
    rows, sums = _mapped(path, sums_path, count, DTYPES[dtype], mode="r")
    if rows is None or sums is None:
        raise ValueError(f"{path}: is damaged; delete it and {sums_path.name}, they are made again.")
    return RowStore(path, rows, sums)


def _check_label(label: Path, wanted: dict[str, Any], path: Path) -> None:
    """ValueError if the store was made from something else; a torn label is made anew."""
    try:
        there = json.loads(label.read_text())
    except (FileNotFoundError, ValueError):
        return
    if isinstance(there, dict) and there != wanted:
        names = {*there.get("facts", {}), *wanted["facts"]}
        changed = [n for n in sorted(names) if there.get("facts", {}).get(n) != wanted["facts"].get(n)]
        raise ValueError(
            f"{path}: is stale, made from other {', '.join(changed) or 'rows'}; delete it, it is made again."
        )


def _make(
    partial: Path,
    sums_path: Path,
    make: Callable[[int, int], Tensor],
    *,
    count: int,
    batch_size: int,
    title: str,
    dtype: torch.dtype,
) -> None:
    rows, sums = _mapped(partial, sums_path, count, DTYPES[dtype], mode="r+")
    for first in tqdm(range(0, count, batch_size), unit="batch", desc=title):
        last = min(count, first + batch_size)
        if rows is not None and sums is not None and _whole(rows, sums, first, last):
            continue
        values = make(first, last).to(dtype).cpu().numpy()
        if rows is None or sums is None:
            rows, sums = _created(partial, sums_path, (count, *values.shape[1:]), values.dtype)
        rows[first:last] = values
        sums[first:last] = [_sum(row) for row in values]
    assert isinstance(rows, np.memmap) and isinstance(sums, np.memmap)
    rows.flush()
    sums.flush()


def _created(
    partial: Path, sums_path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.uint64]]:
    """Empty files of the whole size; where there is no room for them, none."""
    try:
        sums = np.lib.format.open_memmap(sums_path, mode="w+", dtype=np.uint64, shape=shape[:1])
        reserve(sums_path)
        rows = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
        reserve(partial)
    except OSError:
        partial.unlink(missing_ok=True)
        sums_path.unlink(missing_ok=True)
        raise
    return rows, sums


def _mapped(
    path: Path, sums_path: Path, count: int, dtype: np.dtype[Any], *, mode: Any
) -> tuple[NDArray[Any] | None, NDArray[np.uint64] | None]:
    """The two files, or None twice where they are not there, or not whole."""
    try:
        rows, sums = np.load(path, mmap_mode=mode), np.load(sums_path, mmap_mode=mode)
    except (FileNotFoundError, ValueError, EOFError):
        return None, None
    fits = rows.shape[:1] == sums.shape == (count,) and rows.dtype == dtype and sums.dtype == np.uint64
    return (rows, sums) if fits else (None, None)


def _whole(rows: NDArray[Any], sums: NDArray[np.uint64], first: int, last: int) -> bool:
    return all(_sum(rows[number]) == sums[number] for number in range(first, last))


def _sum(row: NDArray[Any]) -> int:
    return MADE + zlib.crc32(row.tobytes())


def _plain(facts: Mapping[str, object]) -> dict[str, Any]:
    """As they come back from JSON."""
    return json.loads(json.dumps(dict(facts)))
