"""Folders of pictures with texts beside them or tables in them: what is a sample, and what is left out."""

import json
import os
from pathlib import Path

import pytest

from tests.odd_pictures import drawing, encoded, snapshot
from training.data.found import Found
from training.data.picture_folders import folder_units, table_units


def write(folder: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


PNG = encoded(drawing(8, 8))


def found_in(folder: Path) -> dict[str, Found]:
    return {one.name: one for unit in folder_units(folder) for one in unit.find()}


def test_pictures_below_a_folder_come_sorted_with_the_texts_beside_them(tmp_path: Path):
    write(tmp_path, b_dot_PNG=PNG, b_dot_txt="an owl", a__z_dot_jpg=PNG, a__z_dot_caption="a dog")
    write(tmp_path, c_dot_webp=PNG, c_dot_json='{"style": "flat"}', README_dot_md="x", lone_dot_txt="x")
    write(tmp_path, _dot_hidden_dot_png=PNG, __MACOSX__b_dot_png=PNG, d_dot_tiff=b"II*\0")
    (tmp_path / "empty").mkdir()
    before = snapshot(tmp_path)
    found = found_in(tmp_path)
    assert list(found) == ["a/z.jpg", "b.PNG", "c.webp", "d.tiff"]
    assert found["a/z.jpg"].texts == ("a dog",) and found["b.PNG"].texts == ("an owl",)
    assert found["c.webp"].fields == {"style": "flat"} and found["c.webp"].texts == ()
    assert all(one.place is not None and not one.reason for one in found.values())
    assert snapshot(tmp_path) == before


def test_a_text_that_cannot_be_read_costs_its_picture(tmp_path: Path):
    write(tmp_path, a_dot_png=PNG, a_dot_txt=b"\xff", b_dot_png=PNG)
    found = found_in(tmp_path)
    assert found["a.png"].reason == "text: its .txt file is not UTF-8" and not found["b.png"].reason


def test_a_table_holds_for_its_folder(tmp_path: Path):
    rows = [{"file_name": "a.png", "text": "an owl"}, {"file_name": "sub/b.png", "style": "flat"}]
    rows += [{"file_name": "gone.png"}, {"file_name": "../x.png"}]
    write(tmp_path, set__metadata_dot_jsonl="\n".join(map(json.dumps, rows)), x_dot_png=PNG)
    write(tmp_path, set__a_dot_png=PNG, set__sub__b_dot_png=PNG, set__sub__b_dot_txt="a dog")
    write(tmp_path, set__c_dot_png=PNG, set__d_dot_png=PNG, set__d_dot_txt="beside")
    found = found_in(tmp_path)
    assert found["set/a.png"].texts == ("an owl",)
    assert found["set/sub/b.png"].texts == ("a dog",) and found["set/sub/b.png"].fields["style"] == "flat"
    assert found["set/c.png"].reason.startswith("caption: the table of its folder does not name it")
    assert found["set/d.png"].texts == ("beside",) and not found["x.png"].reason
    assert found["set/gone.png"].reason == "missing: named in metadata.jsonl line 3, but not there"
    assert "leads out" in found["set/metadata.jsonl line 4"].reason


def test_a_table_alone_is_a_source(tmp_path: Path):
    write(tmp_path, metadata_dot_csv="file_name,text\nb.png,a dog\na.png,an owl\n", a_dot_png=PNG)
    write(tmp_path, b_dot_png=PNG, c_dot_png=PNG, a_dot_txt="not asked")
    found = [one for unit in table_units(tmp_path / "metadata.csv") for one in unit.find()]
    assert [(one.name, one.texts) for one in found] == [("a.png", ("an owl",)), ("b.png", ("a dog",))]


def test_two_tables_in_a_folder_are_refused(tmp_path: Path):
    write(tmp_path, metadata_dot_csv="file_name\n", metadata_dot_jsonl="")
    with pytest.raises(ValueError, match="holds metadata.jsonl and metadata.csv; keep one of them"):
        list(folder_units(tmp_path))


def test_the_stamp_follows_every_file_that_is_read(tmp_path: Path):
    write(tmp_path, a_dot_png=PNG, a_dot_txt="an owl")

    def stamp() -> str:
        (unit,) = folder_units(tmp_path)
        return unit.stamp

    stamps = [stamp(), stamp()]
    write(tmp_path, a_dot_txt="an owl that flies")
    stamps.append(stamp())
    os.utime(tmp_path / "a.png", ns=(1, 1))
    stamps.append(stamp())
    write(tmp_path, metadata_dot_jsonl='{"file_name": "a.png", "style": "flat"}')
    stamps.append(stamp())
    assert stamps[0] == stamps[1] and len(set(stamps)) == 4


def test_links_are_followed_once(tmp_path: Path):
    write(tmp_path, real__a_dot_png=PNG)
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "real" / "b.png").symlink_to("a.png")
    (tmp_path / "real" / "c.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "real" / "d.png")
    found = found_in(tmp_path)
    assert list(found) == ["real/a.png", "real/b.png", "real/c.png", "real/d.png"]
    assert found["real/c.png"].reason == "unreadable: No such file or directory"
    assert found["real/d.png"].reason == "special: not a regular file"
