"""The order of samples is a function of (seed, step): every sample once an epoch, one bucket a batch."""

import time
from collections import Counter

import pytest

from training.data.order import batch_at, batches_before, epoch_of

MEMBERS = [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9], [], [10], [11, 12, 12, 13, 13]]
NAMES = ["8x8", "8x16", "16x8", "4x32", "32x4"]


def batch(step: int, *, seed: int = 1, size: int = 4) -> list[int]:
    return batch_at(MEMBERS, NAMES, seed=seed, step=step, batch_size=size)


def steps(epoch: int, size: int = 4) -> range:
    first, last = (
        batches_before([len(m) for m in MEMBERS], epoch=e, batch_size=size) for e in (epoch, epoch + 1)
    )
    return range(first, last)


@pytest.mark.parametrize("size", [1, 2, 4, 16])
def test_a_batch_lies_in_one_bucket_and_is_full(size: int):
    for step in range(60):
        chosen = batch(step, size=size)
        assert len(chosen) == size and any(set(chosen) <= set(members) for members in MEMBERS)


def test_with_batches_of_one_every_epoch_shows_every_sample_as_often_as_it_is_named():
    for epoch in range(5):
        shown = Counter(batch(step, size=1)[0] for step in steps(epoch, 1))
        assert shown == Counter(index for members in MEMBERS for index in members)


@pytest.mark.parametrize("size", [2, 3, 4, 7, 64])
def test_after_each_epoch_every_sample_was_seen_often_enough_and_none_much_more(size: int):
    shown: Counter[int] = Counter()
    wanted = Counter(index for members in MEMBERS for index in members)
    for epoch in range(30):
        for step in steps(epoch, size):
            shown.update(batch(step, size=size))
        for members in MEMBERS:
            ahead = sum(shown[i] for i in set(members)) - (epoch + 1) * len(members)
            assert 0 <= ahead < size  # only what fills the bucket's last batch
            for index in set(members):
                least = (epoch + 1) * wanted[index]
                assert least <= shown[index] <= least + wanted[index] * -(-size // len(members))


def test_buckets_of_whole_batches_need_no_filling():
    members, names = [[0, 1, 2, 3], [4, 5]], ["a", "b"]
    for epoch in range(4):
        shown = [batch_at(members, names, seed=3, step=3 * epoch + i, batch_size=2) for i in range(3)]
        assert sorted(i for one in shown for i in one) == list(range(6))


def test_the_step_alone_decides_whatever_was_asked_before():
    forward = [batch(step) for step in range(50)]
    backward = [batch(step) for step in reversed(range(50))][::-1]
    assert forward == backward and forward[17] == batch(17)


def test_processes_that_share_a_batch_see_what_one_process_sees():
    for step in range(20):
        whole = batch(step)
        for processes in (2, 4):
            parts = [whole[rank::processes] for rank in range(processes)]
            assert sorted(i for part in parts for i in part) == sorted(whole)
            assert all(len(part) == 4 // processes for part in parts)


def test_seeds_and_epochs_give_other_orders():
    orders = {tuple(tuple(batch(s, seed=seed)) for s in steps(epoch)) for seed in (1, 2) for epoch in (0, 1)}
    assert len(orders) == 4


def test_buckets_come_mixed():
    first = [
        next(n for n, members in enumerate(MEMBERS) if batch(s, size=1)[0] in members) for s in steps(0, 1)
    ]
    assert first != sorted(first)


def test_an_empty_bucket_that_fills_up_leaves_the_others_orders_alone():
    alone = [batch_at([[0, 1, 2, 3]], ["a"], seed=1, step=s, batch_size=2) for s in range(2)]
    both = [batch_at([[7, 8], [0, 1, 2, 3]], ["b", "a"], seed=1, step=s, batch_size=2) for s in range(3)]
    assert sorted(one for one in both if 7 not in one and 8 not in one) == sorted(alone)


def test_a_late_step_costs_as_little_as_an_early_one():
    members = [list(range(20_000)), list(range(20_000, 20_003))]
    batch_at(members, ["a", "b"], seed=9, step=0, batch_size=8)
    start = time.perf_counter()
    batch_at(members, ["a", "b"], seed=9, step=987_654_321, batch_size=8)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("size", [1, 3, 64, 1000])
def test_the_epoch_of_a_step_is_the_one_that_counts_it(size: int):
    counts = [7, 1, 0, 40]
    for step in [*range(100), 10**6, 10**9]:
        epoch = epoch_of(counts, step=step, batch_size=size)
        assert batches_before(counts, epoch=epoch, batch_size=size) <= step
        assert step < batches_before(counts, epoch=epoch + 1, batch_size=size)


@pytest.mark.parametrize(
    "members, step, size, words",
    [
        ([[0]], 0, 0, "batch_size=0: must be at least 1"),
        ([[0]], -1, 1, "step=-1: must be at least 0"),
        ([[]], 0, 1, "the picture set is empty"),
    ],
)
def test_bad_values_are_refused(members: list[list[int]], step: int, size: int, words: str):
    with pytest.raises(ValueError, match=words):
        batch_at(members, ["a"], seed=0, step=step, batch_size=size)
