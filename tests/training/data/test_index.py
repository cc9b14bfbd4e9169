"""An index knows what it has seen, goes on where it stopped, and looks again at what changed."""

import os
import resource
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.odd_pictures import animation, drawing, encoded, with_alpha, write_shard
from training.data.found import Place, Unit, bytes_of
from training.data.index import Sample, index_path, indexed
from training.data.likeness import look, pixel_hash
from training.data.picture_folders import folder_units
from training.data.shards import shard_units


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(encoded(drawing(40, 30, number=number)))
    (folder / "0.txt").write_text("an owl")
    (folder / "5.webp").write_bytes(animation("WEBP"))
    return folder


class Reader:
    """Reads pictures and notes which."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, place: Place) -> bytes:
        self.read.append(Path(place.file).name)
        return bytes_of(place)


def look_at(units: Iterable[Unit], path: Path | None) -> tuple[list[Sample], list[str]]:
    reader = Reader()
    return indexed(units, path=path, read=reader, title="test"), sorted(reader.read)


def test_every_picture_is_looked_at_once(folder: Path, tmp_path: Path):
    path = index_path(tmp_path / "cache", folder)
    samples, read = look_at(folder_units(folder), path)
    assert [one.name for one in samples] == read == [f"{n}.png" for n in range(5)] + ["5.webp"]
    pixels = np.asarray(drawing(40, 30, number=0))
    assert samples[0].size == (30, 40) and samples[0].pixels == pixel_hash(pixels)
    assert samples[0].texts == ("an owl",) and samples[0].look == look(pixels) and not samples[0].transparent
    assert samples[5].reason == "animated: 3 frames; save the one you want as a still picture"
    assert look_at(folder_units(folder), path) == (samples, [])
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [path.name]


def test_only_what_changed_is_looked_at_again(folder: Path, tmp_path: Path):
    path = index_path(tmp_path, folder)
    look_at(folder_units(folder), path)
    (folder / "1.png").write_bytes(encoded(with_alpha(drawing(20, 20))))
    (folder / "2.txt").write_text("a dog")
    (folder / "3.png").unlink()
    (folder / "9.png").write_bytes(encoded(drawing(8, 8)))
    samples, read = look_at(folder_units(folder), path)
    assert read == ["1.png", "2.png", "9.png"]
    assert samples[1].transparent and samples[2].texts == ("a dog",)
    assert [one.name for one in samples] == ["0.png", "1.png", "2.png", "4.png", "5.webp", "9.png"]
    assert look_at(folder_units(folder), path) == (samples, []) and b"3.png" not in path.read_bytes()


def test_an_interrupted_or_torn_index_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("training.data.index.AT_ONCE", 2)
    path = index_path(tmp_path, folder)
    reader = Reader()

    def interrupted(place: Place) -> bytes:
        if len(reader.read) == 4:
            raise KeyboardInterrupt
        return reader(place)

    with pytest.raises(KeyboardInterrupt):
        indexed(folder_units(folder), path=path, read=interrupted, title="test", threads=1)
    path.write_bytes(path.read_bytes()[:-30])  # the last line torn
    samples, read = look_at(folder_units(folder), path)
    assert 2 <= len(read) < 6
    assert look_at(folder_units(folder), path) == (samples, [])
    assert samples == look_at(folder_units(folder), None)[0]


def test_lines_that_mean_nothing_are_looked_at_again(folder: Path, tmp_path: Path):
    path = index_path(tmp_path, folder)
    samples, _ = look_at(folder_units(folder), path)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([b'{"unit": "1.png"}', b"[3]", b"\xff", *lines[-2:]]))
    assert look_at(folder_units(folder), path)[0] == samples


def test_a_shard_of_many_is_one_unit(tmp_path: Path):
    members = {f"{n}.png": encoded(Image.new("RGB", (8, 8), (n, 0, 0))) for n in range(150)}
    write_shard(tmp_path / "a.tar", members)
    write_shard(tmp_path / "b.tar", {})
    write_shard(tmp_path / "c.tar", {"x.png": encoded(drawing(8, 8))})
    paths = [tmp_path / name for name in ("a.tar", "b.tar", "c.tar")]
    samples, _ = look_at(shard_units(paths), tmp_path / "index.jsonl")
    assert [one.name for one in samples] == [f"a.tar/{n}.png" for n in range(150)] + ["c.tar/x.png"]
    assert look_at(shard_units(paths), tmp_path / "index.jsonl") == (samples, [])


def test_a_picture_that_cannot_be_read_is_left_out(folder: Path, tmp_path: Path):
    def read(place: Place) -> bytes:
        raise OSError(5, "Input/output error")

    samples = indexed(folder_units(folder), path=None, read=read, title="test")
    assert {one.reason for one in samples} == {"unreadable: Input/output error"}


def test_a_full_disk_is_told_in_one_line(folder: Path, tmp_path: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # a longer write fails as on a full disk
    try:
        with pytest.raises(OSError, match=r"the index could not be written \(File too large\); make room"):
            look_at(folder_units(folder), tmp_path / "index.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(look_at(folder_units(folder), tmp_path / "index.jsonl")[0]) == 6


def test_each_place_has_its_index(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert index_path(tmp_path, tmp_path / "link") == index_path(tmp_path, tmp_path)
    assert index_path(tmp_path, tmp_path / "a") != index_path(tmp_path, tmp_path / "b")
    assert os.fspath(index_path(tmp_path, tmp_path)).endswith(".jsonl")
