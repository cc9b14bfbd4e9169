"""Latents and token states on disk, keyed by content, so that a stale cache can never be read.

Knows nothing of losses. A cache is complete under its name or absent; a half-written one is made again.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm


def content_key(*parts: nn.Module | str | int) -> str:
    """Twelve hex digits over modules' weights and plain values."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, nn.Module):
            for name, tensor in sorted(part.state_dict().items()):
                digest.update(name.encode())
                digest.update(
                    tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
                )
        else:
            digest.update(f"{part}/".encode())
    return digest.hexdigest()[:12]


def reserve(path: Path) -> None:
    """Take the whole file's disk space now: a full disk is then an error here, and no fatal signal later."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def cached(
    path: Path,
    make: Callable[[int, int], Tensor],
    *,
    count: int,
    batch_size: int = 64,
    title: str,
    dtype: torch.dtype = torch.float16,
) -> NDArray[Any]:
    """Array [count, ...] at `path` (.npy, memory-mapped); where absent, built from `make(first, last)`.

    Raises:
        ValueError: `count` is below 1.
        OSError: the disk is full; nothing is left under the final name.
    """
    if count < 1:
        raise ValueError(f"count={count}: the data set is empty; render or add pictures first.")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        array: np.memmap | None = None
        for first in tqdm(range(0, count, batch_size), unit="batch", desc=title):
            values = make(first, min(count, first + batch_size)).to(dtype).cpu().numpy()
            if array is None:
                shape = (count, *values.shape[1:])
                array = np.lib.format.open_memmap(partial, mode="w+", dtype=values.dtype, shape=shape)
                reserve(partial)
            array[first : first + len(values)] = values
        assert array is not None
        array.flush()
        os.replace(partial, path)
    return np.load(path, mmap_mode="r")
