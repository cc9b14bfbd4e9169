"""WebDataset shards are read where they lie: samples by key, nothing extracted, damage told."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import pytest

from tests.odd_pictures import add_member, drawing, encoded, snapshot, write_shard
from training.data import found as found_module
from training.data.found import Found, bytes_of
from training.data.shards import shard_units

PNG, OTHER = encoded(drawing(8, 8)), encoded(drawing(8, 8, number=1))


def found_in(*paths: Path) -> list[Found]:
    return [one for unit in shard_units(list(paths)) for one in unit.find()]


def test_members_that_share_a_key_are_a_sample(tmp_path: Path):
    members = {"x/a.png": PNG, "x/a.txt": b"an owl", "x/a.cls": b"3", "b.json": b'{"style": "flat"}'}
    write_shard(tmp_path / "0.tar", members | {"b.WEBP": OTHER, "only.txt": b"no picture"})
    before = snapshot(tmp_path)
    first, second = found_in(tmp_path / "0.tar")
    assert (first.name, first.texts, second.name) == ("0.tar/x/a.png", ("an owl",), "0.tar/b.webp")
    assert second.fields == {"style": "flat"} and not first.reason + second.reason
    assert first.place is not None and bytes_of(first.place) == PNG
    assert second.place is not None and bytes_of(second.place) == OTHER
    assert snapshot(tmp_path) == before


def test_only_regular_members_with_listed_endings_are_read(tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "secret.png").write_bytes(PNG)
    with tarfile.open(tmp_path / "0.tar", "w") as shard:
        for kind, name in (
            (tarfile.SYMTYPE, "a.png"),
            (tarfile.LNKTYPE, "b.png"),
            (tarfile.FIFOTYPE, "c.png"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, str(tmp_path / "secret.png")
            shard.addfile(link)
        add_member(shard, "d.pkl", pickle.dumps(Bomb()))
        add_member(shard, "d.pyd", pickle.dumps(Bomb()))
        add_member(shard, "../../outside.png", PNG)
    before = snapshot(tmp_path)
    (only,) = found_in(tmp_path / "0.tar")
    assert only.name == "0.tar/../../outside.png" and not only.reason  # a name; nothing is written there
    assert snapshot(tmp_path) == before


def test_a_sparse_member_is_passed_over(tmp_path: Path):
    with tarfile.open(tmp_path / "0.tar", "w") as shard:
        sparse = tarfile.TarInfo("a.png")
        sparse.pax_headers = {
            "GNU.sparse.major": "0",
            "GNU.sparse.size": str(1 << 50),
            "GNU.sparse.map": "0,9",
        }
        sparse.size = 9
        shard.addfile(sparse, io.BytesIO(bytes(9)))
        add_member(shard, "b.png", PNG)
    assert [one.name for one in found_in(tmp_path / "0.tar")] == ["0.tar/b.png"]


def test_what_cannot_be_used_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(found_module, "LARGEST_FILE_BYTES", 5000)
    members = {"a.png": PNG, "a.jpg": OTHER, "b.png": PNG, "b.txt": b"\xff", "c.png": bytes(6000)}
    write_shard(tmp_path / "0.tar", members | {"photo.v2.png": PNG, "d.png": PNG})
    with tarfile.open(tmp_path / "0.tar", "a") as shard:
        add_member(shard, "d.png", OTHER)
    reasons = {one.name: one.reason for one in found_in(tmp_path / "0.tar") if one.reason}
    assert reasons == {
        "0.tar/a.jpg": "second: a.png is the sample's picture",
        "0.tar/b.png": "text: its .txt file is not UTF-8",
        "0.tar/c.png": "huge: 0 MiB, at most 0 are read",
        "0.tar/d.png": "second: its name is there twice",
        "0.tar": "ending: 1 files end in '.v2.png', no picture's ending: keys stop at the first dot",
    }


def shard_of_four(path: Path) -> bytes:
    write_shard(path, {f"{name}.png": PNG for name in "abcd"})
    return path.read_bytes()


@pytest.mark.parametrize("size", [512 * 4 + 100, 512 * 4 + 512 + 40])
def test_a_shard_that_ends_in_the_middle_gives_what_it_has_and_says_so(tmp_path: Path, size: int):
    whole = shard_of_four(tmp_path / "0.tar")
    assert len(PNG) <= 1024 and len(whole) > size
    (tmp_path / "0.tar").write_bytes(whole[:size])
    *samples, end = found_in(tmp_path / "0.tar")
    assert samples and all(not one.reason for one in samples)
    assert end.name == "0.tar" and end.reason.startswith("shard: damaged")


def test_a_damaged_header_in_the_middle_is_told(tmp_path: Path):
    whole = bytearray(shard_of_four(tmp_path / "0.tar"))
    with tarfile.open(tmp_path / "0.tar") as shard:
        second = shard.getmembers()[1].offset
    whole[second + 10] ^= 0xFF
    (tmp_path / "0.tar").write_bytes(whole)
    first, end = found_in(tmp_path / "0.tar")
    assert first.name == "0.tar/a.png" and end.reason == f"shard: damaged at byte {second}; read up to there"


def test_joined_archives_are_told(tmp_path: Path):
    whole = shard_of_four(tmp_path / "0.tar")
    (tmp_path / "0.tar").write_bytes(whole + bytes(40_000) + whole)
    assert "follow its end mark" in found_in(tmp_path / "0.tar")[-1].reason


def test_an_archive_without_its_end_mark_is_whole(tmp_path: Path):
    whole = shard_of_four(tmp_path / "0.tar")
    with tarfile.open(tmp_path / "0.tar") as shard:
        last = shard.getmembers()[-1]
    end = last.offset_data + -(-last.size // 512) * 512
    (tmp_path / "0.tar").write_bytes(whole[:end])
    assert [one.reason for one in found_in(tmp_path / "0.tar")] == [""] * 4


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100, b"\x1f\x8b" + bytes(2000)])
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes):
    (tmp_path / "0.tar").write_bytes(content)
    (only,) = found_in(tmp_path / "0.tar")
    assert only.reason.startswith("shard: ")


def test_hostile_headers_end_in_a_reason(tmp_path: Path):
    deep = b""
    for _ in range(3000):  # each extended header is followed by another
        member = tarfile.TarInfo("x")
        member.type, member.size = tarfile.XHDTYPE, 512
        deep += member.tobuf() + b"11 path=ab\n".ljust(512, b"\0")
    (tmp_path / "0.tar").write_bytes(deep)
    (only,) = found_in(tmp_path / "0.tar")
    assert only.reason.startswith("shard: damaged")


def test_shards_come_in_the_order_given_and_are_stamped(tmp_path: Path):
    write_shard(tmp_path / "0.tar", {"a.png": PNG, "a.json": json.dumps({"n": 1}).encode()})
    write_shard(tmp_path / "1.tar", {"a.png": PNG})
    names = [one.name for one in found_in(tmp_path / "1.tar", tmp_path / "0.tar")]
    assert names == ["1.tar/a.png", "0.tar/a.png"]
    first, second = shard_units([tmp_path / "0.tar", tmp_path / "1.tar"])
    write_shard(tmp_path / "0.tar", {"b.png": OTHER, "b.txt": b"x"})
    changed, same = shard_units([tmp_path / "0.tar", tmp_path / "1.tar"])
    assert changed.stamp != first.stamp and same.stamp == second.stamp
