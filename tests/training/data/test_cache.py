"""Caches are complete or absent, and named by what they were made from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.data.cache import cached, content_key


def rows(first: int, last: int) -> Tensor:
    return torch.arange(first, last)[:, None].expand(-1, 3).float()


def refuse(first: int, last: int) -> Tensor:
    raise AssertionError("the cache was made again")


def test_a_cache_is_built_once_in_batches_and_read_back(tmp_path: Path):
    made = cached(tmp_path / "new" / "a.npy", rows, count=7, batch_size=3, title="rows")
    assert made.dtype == np.float16 and made.shape == (7, 3)
    assert made[:, 0].tolist() == list(range(7))
    assert np.array_equal(cached(tmp_path / "new" / "a.npy", refuse, count=7, title="rows"), made)


def test_a_half_written_cache_is_made_again(tmp_path: Path):
    def interrupted(first: int, last: int) -> Tensor:
        if first:
            raise KeyboardInterrupt
        return rows(first, last)

    path = tmp_path / "a.npy"
    with pytest.raises(KeyboardInterrupt):
        cached(path, interrupted, count=7, batch_size=3, title="rows")
    assert not path.exists()
    assert cached(path, rows, count=7, batch_size=3, title="rows")[:, 0].tolist() == list(range(7))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_the_key_follows_weights_and_values():
    network = nn.Sequential(nn.Linear(2, 2))
    network.register_parameter("scalar", nn.Parameter(torch.tensor(1.0)))
    key = content_key(network, "a", 1)
    assert content_key(network, "a", 1) == key and len(key) == 12
    assert content_key(network, "a", 2) != key and content_key(network, "b", 1) != key
    with torch.no_grad():
        network[0].bias[0] += 1e-6  # type: ignore[index]
    assert content_key(network, "a", 1) != key


def test_an_empty_set_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="count=0"):
        cached(tmp_path / "a.npy", rows, count=0, title="rows")
