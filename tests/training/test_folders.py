"""Folders that are whole or absent, whatever goes wrong while they are written."""

from pathlib import Path

import pytest
from safetensors import SafetensorError

from training.folders import deliver


def writes(text: str):
    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "letter.txt").write_text(text)

    return write


def test_a_folder_appears_with_its_parents(tmp_path: Path):
    deliver(tmp_path / "a" / "b", writes("first"))
    assert (tmp_path / "a" / "b" / "letter.txt").read_text() == "first"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"], "nothing is left beside it"


def test_the_new_content_replaces_all_of_the_old(tmp_path: Path):
    deliver(tmp_path / "b", writes("first"))
    (tmp_path / "b" / "old.txt").write_text("of the first")
    deliver(tmp_path / "b", writes("second"))
    assert {path.name: path.read_text() for path in (tmp_path / "b").iterdir()} == {"letter.txt": "second"}
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_the_old_content_stands_while_the_new_is_written(tmp_path: Path):
    deliver(tmp_path / "b", writes("first"))

    def look(folder: Path) -> None:
        writes("second")(folder)
        assert (tmp_path / "b" / "letter.txt").read_text() == "first"

    deliver(tmp_path / "b", look)
    assert (tmp_path / "b" / "letter.txt").read_text() == "second"


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("bad"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path: Path, error: BaseException):
    deliver(tmp_path / "b", writes("first"))

    def fail(folder: Path) -> None:
        writes("half")(folder)
        raise error

    with pytest.raises(type(error)):
        deliver(tmp_path / "b", fail)
    assert (tmp_path / "b" / "letter.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_weights_that_do_not_fit_on_the_disk_are_an_error_of_the_system(tmp_path: Path):
    def fail(folder: Path) -> None:
        raise SafetensorError("I/O error: No space left on device")

    with pytest.raises(OSError, match="b could not be written .*No space left.* free some disk space"):
        deliver(tmp_path / "b", fail)


def test_what_a_killed_process_left_is_no_hindrance(tmp_path: Path):
    for left in ("b.partial", "b.old"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "torn.txt").write_text("torn")
    deliver(tmp_path / "b", writes("first"))
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["letter.txt"]
