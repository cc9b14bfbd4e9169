"""A watched run: what is logged and reported when, and what a resumed run makes up for."""

import json
import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from torch import nn

from training.logbook import Logbook
from training.loop import FitConfig, Progress
from training.optim import OptimizerConfig
from training.watch import watch

FIT = FitConfig(
    optimizer=OptimizerConfig(learning_rate=1e-3), total_steps=40, batch_size=1, save_every_steps=20
)


def step(number: int, *, restored: bool = False) -> Progress:
    return Progress(
        step=number, losses={"loss": 1 / number}, learning_rate=1e-3, gradient_norm=1.0,
        samples_per_second=math.nan if restored else 5.0, averaged=lambda: nullcontext(nn.Module()),
        restored=restored,
    )  # fmt: skip


def followed(folder: Path, progresses: Iterator[Progress]) -> list[tuple[int, str]]:
    """Watch, reporting at every chance, and give (step, first name) of each log line."""

    def report(progress: Progress, book: Logbook) -> None:
        book.write(progress.step, {"held_out/score": 0.5})

    watch(progresses, folder, FIT, report=report, writes=True)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], "held_out" if "held_out/score" in row else "train") for row in rows]


WHOLE = [(10, "train"), (20, "train"), (20, "held_out"), (30, "train"), (40, "train"), (40, "held_out")]


def test_reports_follow_saved_checkpoints(tmp_path: Path):
    assert followed(tmp_path, map(step, range(1, 41))) == WHOLE


@pytest.mark.parametrize("kept", [1, 2, 3, 4])
def test_a_resumed_run_makes_up_for_lost_lines_and_repeats_none(tmp_path: Path, kept: int):
    followed(tmp_path, map(step, range(1, 41)))
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines()[:kept]))
    resumed = [step(20, restored=True), *map(step, range(21, 41))]
    assert followed(tmp_path, iter(resumed)) == WHOLE


@pytest.mark.parametrize("kept", [4, 5, 6])
def test_a_complete_run_makes_up_for_its_last_report(tmp_path: Path, kept: int):
    followed(tmp_path, map(step, range(1, 41)))
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines()[:kept]))
    assert followed(tmp_path, iter([step(40, restored=True)])) == WHOLE


def test_a_run_stopped_between_two_reports_owes_none(tmp_path: Path):
    followed(tmp_path, map(step, range(1, 14)))
    assert followed(tmp_path, iter([step(13, restored=True), step(14)])) == [(10, "train")]


def test_other_processes_leave_no_trace(tmp_path: Path):
    watch(map(step, range(1, 41)), tmp_path / "run", FIT, report=lambda *_: None, writes=False)
    assert not (tmp_path / "run").exists()
