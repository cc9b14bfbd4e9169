"""A path is read as what it is, or refused in one line that says what could be given."""

from pathlib import Path

import pytest

from tests.odd_pictures import drawing, encoded, write_shard
from training.data.sources import picture_bytes, units_of

PNG = encoded(drawing(8, 8))


def names(path: Path) -> list[str]:
    return [one.name for unit in units_of(path) for one in unit.find()]


def test_each_kind_of_source_is_known(tmp_path: Path):
    pictures, shards = tmp_path / "pictures", tmp_path / "shards"
    pictures.mkdir()
    shards.mkdir()
    (pictures / "a.png").write_bytes(PNG)
    (pictures / "metadata.jsonl").write_text('{"file_name": "a.png"}')
    for number in (1, 0):
        write_shard(shards / f"{number}.tar", {"a.png": PNG})
    (shards / "README.md").write_text("x")
    assert names(pictures) == ["a.png"] and names(pictures / "metadata.jsonl") == ["a.png"]
    assert names(shards) == ["0.tar/a.png", "1.tar/a.png"] and names(shards / "1.tar") == ["1.tar/a.png"]
    for path in (pictures, shards):
        place = next(iter(next(iter(units_of(path))).find())).place
        assert place is not None and picture_bytes(place) == PNG


def test_a_source_is_the_same_however_its_path_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.png").write_bytes(PNG)
    (tmp_path / "link").symlink_to("a")
    monkeypatch.chdir(tmp_path)
    units = [next(units_of(path)) for path in (tmp_path / "a", Path("a"), Path("a/../a"), Path("link"))]
    assert len({unit.stamp for unit in units}) == 1
    assert {one.place.file for unit in units for one in unit.find() if one.place} == {
        str((tmp_path / "a" / "a.png").resolve())
    }


@pytest.mark.parametrize(
    "files, path, words",
    [
        ([], "nowhere", "nowhere: is not there; give a folder of pictures, a metadata.jsonl"),
        ([], ".", "there is no picture in it; give a folder"),
        (["a.zip"], "a.zip", "a.zip: is no source of pictures; give"),
        (["a.tar", "b.png"], ".", r"holds shards \(a.tar\) and pictures \(b.png\); give each a folder"),
        (["a.parquet"], ".", "save the result with save_to_disk"),
        (
            ["dataset_dict.json", "train/state.json", "train/dataset_info.json"],
            ".",
            "give one of train in it",
        ),
    ],
)
def test_what_is_no_source_is_refused(tmp_path: Path, files: list[str], path: str, words: str):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ValueError, match=words):
        list(units_of(tmp_path / path))
