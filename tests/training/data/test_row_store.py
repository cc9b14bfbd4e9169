"""Rows on disk are made once, go on where they stopped, and tell when they are stale or damaged."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from training.data.row_store import RowStore, stored_rows

FACTS = {"weights": "abc", "pictures": ["x"]}


class Maker:
    """Makes rows and notes which; stops before row `stops_at`."""

    def __init__(self, stops_at: int = 1000):
        self.made: list[int] = []
        self.stops_at = stops_at

    def __call__(self, first: int, last: int) -> Tensor:
        if first >= self.stops_at:
            raise KeyboardInterrupt
        self.made += range(first, last)
        return torch.arange(first, last)[:, None, None].expand(-1, 2, 3) * 0.25


def open_store(path: Path, maker: Maker, **changes: Any) -> RowStore:
    given = {"count": 10, "batch_size": 3, "facts": FACTS, "title": "rows", **changes}
    return stored_rows(path, maker, **given)


def test_rows_are_made_once_in_batches_and_read_at_random(tmp_path: Path):
    maker = Maker()
    store = open_store(tmp_path / "new" / "a.npy", maker)
    assert maker.made == list(range(10)) and len(store) == 10
    rows = store.read([7, 0, 7])
    assert (
        rows.shape == (3, 2, 3) and rows.dtype == torch.float32 and rows[:, 0, 0].tolist() == [1.75, 0, 1.75]
    )
    again = Maker()
    assert torch.equal(open_store(tmp_path / "new" / "a.npy", again).read([7, 0, 7]), rows) and not again.made
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.json", "a.npy", "a.sums"]


def test_a_half_written_store_goes_on_where_it_stopped(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        open_store(tmp_path / "a.npy", Maker(stops_at=6))
    assert not (tmp_path / "a.npy").exists()
    maker = Maker()
    assert open_store(tmp_path / "a.npy", maker).read([1, 9])[:, 0, 0].tolist() == [0.25, 2.25]
    assert maker.made == [6, 7, 8, 9]


def test_rows_that_were_damaged_before_the_end_are_made_again_in_whole_batches(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        open_store(tmp_path / "a.npy", Maker(stops_at=9))
    data = bytearray((tmp_path / "a.partial").read_bytes())
    data[128 + 12 * 4 + 1] ^= 1  # a bit of row 4
    (tmp_path / "a.partial").write_bytes(data)
    maker = Maker()
    assert open_store(tmp_path / "a.npy", maker).read([4])[0, 0, 0] == 1
    assert maker.made == [3, 4, 5, 9]


@pytest.mark.parametrize("name", ["a.partial", "a.sums", "a.json"])
@pytest.mark.parametrize("length", [0, 50])
def test_a_torn_file_of_an_unfinished_store_is_made_anew(tmp_path: Path, name: str, length: int):
    with pytest.raises(KeyboardInterrupt):
        open_store(tmp_path / "a.npy", Maker(stops_at=6))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:length])
    assert open_store(tmp_path / "a.npy", Maker()).read(list(range(10)))[:, 0, 0].tolist() == [
        n / 4 for n in range(10)
    ]


def test_a_row_that_the_disk_damaged_is_found_when_it_is_read(tmp_path: Path):
    open_store(tmp_path / "a.npy", Maker())
    data = bytearray((tmp_path / "a.npy").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a.npy").write_bytes(data)
    store = open_store(tmp_path / "a.npy", Maker())
    store.read(list(range(9)))
    with pytest.raises(ValueError, match=r"a\.npy: row 9 is damaged; delete the file, it is made again"):
        store.read([9])


def test_a_finished_store_that_is_not_whole_is_refused(tmp_path: Path):
    open_store(tmp_path / "a.npy", Maker())
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"a\.npy: is damaged; delete it and a\.sums"):
        open_store(tmp_path / "a.npy", Maker())


def test_a_stale_store_is_refused_by_name_with_what_changed(tmp_path: Path):
    open_store(tmp_path / "a.npy", Maker())
    with pytest.raises(ValueError, match=r"a\.npy: is stale, made from other weights; delete it"):
        open_store(tmp_path / "a.npy", Maker(), facts={**FACTS, "weights": "abd"})
    with pytest.raises(ValueError, match="made from other rows"):
        open_store(tmp_path / "a.npy", Maker(), count=11)
    assert json.loads((tmp_path / "a.json").read_text())["facts"] == FACTS


def test_a_full_disk_is_told_in_one_line(tmp_path: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # a longer file fails as on a full disk
    try:
        with pytest.raises(
            OSError, match=r"a\.npy: could not be written \(File too large\); make room there"
        ):
            open_store(tmp_path / "a.npy", Maker(), count=100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(open_store(tmp_path / "a.npy", Maker(), count=100)) == 100


def test_other_number_types_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="dtype=torch.bfloat16: choose torch.float16 or torch.float32"):
        open_store(tmp_path / "a.npy", Maker(), dtype=torch.bfloat16)
    assert torch.equal(open_store(tmp_path / "b.npy", Maker(), dtype=torch.float32).read([1]), Maker()(1, 2))
