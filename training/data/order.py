"""(seed, step) -> the samples of a step: every batch of one bucket, every sample once an epoch.

Knows nothing of pictures or processes: a batch is the global one, of which each process takes its rows.

Each bucket is an endless stream: its samples in one random order, then in another, and so on. A batch is the
next `batch_size` samples of one stream. An epoch holds, of every bucket, the batches that its samples of that
epoch begin in: what an incomplete batch lacks is filled with the first samples of the bucket's next order,
which the next epoch then does not show again. So after e epochs every sample was seen e times at least, and
over a long run all equally often, however small a bucket is.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch

from training.draws import generator


def batch_at(
    members: Sequence[Sequence[int]], names: Sequence[str], *, seed: int, step: int, batch_size: int
) -> list[int]:
    """Sample indices of the global batch of `step`; O(1) in the step.

    Args:
        members: the samples of each bucket, a sample that counts twice named twice.
        names: a name for each bucket that stays when others come or go.
    Raises:
        ValueError: there are no samples, or a value is out of its range.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1.")
    if step < 0:
        raise ValueError(f"step={step}: must be at least 0.")
    counts = tuple(len(bucket) for bucket in members)
    if not sum(counts):
        raise ValueError("the picture set is empty: there is no batch to draw; add pictures.")
    epoch = epoch_of(counts, step=step, batch_size=batch_size)
    batches = _batches_of_epoch(seed, epoch, counts, batch_size)
    bucket, number = batches[step - batches_before(counts, epoch=epoch, batch_size=batch_size)]
    count, chosen = counts[bucket], []
    for position in range(number * batch_size, (number + 1) * batch_size):
        order = _order(seed, names[bucket], position // count, count)
        chosen.append(members[bucket][int(order[position % count])])
    return chosen


def batches_before(counts: Sequence[int], *, epoch: int, batch_size: int) -> int:
    """How many batches the epochs before this one have."""
    return sum(-(-epoch * count // batch_size) for count in counts)


def epoch_of(counts: Sequence[int], *, step: int, batch_size: int) -> int:
    """The epoch of a step: an estimate from the mean length of an epoch, then a few epochs back or forth."""
    epoch = step * batch_size // sum(counts)
    while batches_before(counts, epoch=epoch, batch_size=batch_size) > step:
        epoch -= 1
    while batches_before(counts, epoch=epoch + 1, batch_size=batch_size) <= step:
        epoch += 1
    return epoch


@lru_cache(maxsize=4)
def _batches_of_epoch(
    seed: int, epoch: int, counts: tuple[int, ...], batch_size: int
) -> list[tuple[int, int]]:
    """(bucket, number of the batch in the bucket's stream) of each step of an epoch."""
    batches = [
        (bucket, number)
        for bucket, count in enumerate(counts)
        for number in range(-(-epoch * count // batch_size), -(-(epoch + 1) * count // batch_size))
    ]
    order = torch.randperm(len(batches), generator=generator(seed, "batches", epoch))
    return [batches[i] for i in order.tolist()]


@lru_cache(maxsize=256)
def _order(seed: int, name: str, epoch: int, count: int) -> torch.Tensor:
    """One random order of a bucket's samples."""
    return torch.randperm(count, generator=generator(seed, "order", name, epoch))
