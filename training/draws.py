"""What is drawn when: every random draw of a run as a function of (seed, purpose, step or epoch).

Knows nothing of ranks, devices or global state; hence a resumed run repeats the uninterrupted one.
"""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator seeded by SHA-256 of (seed, purpose): independent streams without bookkeeping."""
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:7], "little"))


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=generator(seed, "order", epoch))


def samples_at(seed: int, step: int, *, batch_size: int, count: int) -> Tensor:
    """Indices int64 [batch] of the samples of optimizer step `step`: an epoch is one permutation.

    O(1) in the step, so that a run can be taken up anywhere, in the middle of an epoch too.
    """
    if count < 1:
        raise ValueError(f"count={count}: the data set is empty; render or add pictures first.")
    first = step * batch_size
    positions = range(first, first + batch_size)
    return torch.stack([_epoch_order(seed, p // count, count)[p % count] for p in positions])
