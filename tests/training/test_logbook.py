"""What a run writes down: complete lines, none from after the checkpoint it resumed from."""

import json
import time
from pathlib import Path

import pytest
from PIL import Image

from training.logbook import Logbook

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write(folder: Path, *, first_step: int, steps: list[int]) -> None:
    book = Logbook(folder, first_step=first_step)
    for step in steps:
        book.write(step, {"train/loss": 1 / step})
    book.close()


def test_a_line_has_the_step_the_time_and_six_digits(tmp_path: Path):
    before = time.time()
    write(tmp_path / "run", first_step=0, steps=[3])
    (line,) = lines(tmp_path / "run")
    assert line["step"] == 3 and line["train/loss"] == 0.333333
    assert before - 1 < line["time"] < time.time() + 1


def test_a_resumed_run_drops_what_lies_after_its_checkpoint(tmp_path: Path):
    write(tmp_path, first_step=0, steps=[10, 20, 30])
    write(tmp_path, first_step=20, steps=[30, 40])
    assert [line["step"] for line in lines(tmp_path)] == [10, 20, 30, 40]


def test_a_line_that_a_kill_tore_is_dropped(tmp_path: Path):
    write(tmp_path, first_step=0, steps=[10])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "ti')
    write(tmp_path, first_step=20, steps=[30])
    assert [line["step"] for line in lines(tmp_path)] == [10, 30]


def test_it_knows_what_was_written_for_a_step(tmp_path: Path):
    book = Logbook(tmp_path)
    assert book.names_at(10) == set()
    book.write(10, {"train/loss": 1.0})
    book.write(10, {"held_out/true": 2.0})
    assert book.names_at(10) == {"step", "time", "train/loss", "held_out/true"}
    assert book.names_at(20) == set()
    book.close()


def test_numbers_and_previews_are_found_where_tools_look_for_them(tmp_path: Path):
    book = Logbook(tmp_path)
    book.write(1, {"train/loss": 1.0})
    path = book.picture(7, "samples", Image.new("RGB", (4, 4), "red"))
    book.close()
    assert path == tmp_path / "previews" / "samples-0000007.png"
    assert Image.open(path).getpixel((0, 0)) == (255, 0, 0)
    assert any(file.name.startswith("events.out.tfevents") for file in (tmp_path / "tensorboard").iterdir())
