"""`kill -9` at any moment: the same command goes on from the checkpoint and ends in the same bits.

All legs run as processes of their own in one environment, since the number of threads decides the last bits.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from training.checkpoint import Checkpoint, load_latest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Kill:
    """What lay on the disk when a leg had been killed."""

    step: int
    """Of the newest checkpoint: where the next leg begins."""
    was_running: bool


def command(runs: Path, part: str, *, steps: int) -> list[str]:
    """A checkpoint after each third step, so that kills fall between, before and into the writing of one."""
    plain = [part, "--recipe", "smoke", "--steps", str(steps), "--runs", str(runs)]
    rhythm = ["--set", f"{part}.fit.save_every_steps=3", "--set", "sampling.num_inference_steps=1"]
    return [sys.executable, "-m", "training", *plain, *rhythm]


def finish(runs: Path, part: str, *, steps: int) -> Checkpoint:
    """Run to the end in a process; gives its last checkpoint."""
    ended = subprocess.run(
        command(runs, part, steps=steps), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    checkpoint = load_latest(runs / "smoke" / part)
    assert checkpoint is not None and checkpoint.step == steps
    return checkpoint


def start_and_kill(runs: Path, part: str, *, steps: int, delay_seconds: float) -> Kill:
    """Start the run, wait until it has written a checkpoint of its own, and kill it so much later."""
    root = runs / "smoke" / part / "checkpoints"
    before = newest(root)
    with (runs / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command(runs, part, steps=steps), cwd=ROOT, stdout=log, stderr=log, env=ENVIRONMENT
        )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and newest(root) == before and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay_seconds)
    was_running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return Kill(newest(root), was_running)


def newest(root: Path) -> int:
    """The step of the newest complete checkpoint, 0 where there is none."""
    return max((int(path.name.removeprefix("step-")) for path in root.glob("step-*")), default=0)


def copied(runs: Path, folder: Path) -> Path:
    """The runs folder with hard links: what lies there already is never written to."""
    return Path(shutil.copytree(runs, folder / "runs", copy_function=os.link))


def logged(runs: Path, part: str) -> list[dict[str, float]]:
    lines = (runs / "smoke" / part / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def untimed(line: dict[str, float]) -> dict[str, float]:
    """What a log line tells of the weights."""
    return {name: value for name, value in line.items() if name not in ("time", "samples_per_second")}


def differing(first: Checkpoint, second: Checkpoint) -> list[str]:
    assert first.tensors.keys() == second.tensors.keys()
    return [name for name, value in first.tensors.items() if not torch.equal(value, second.tensors[name])]


def ends_in_the_same_bits(runs: Path, folder: Path, *, part: str, steps: int, kills: int, seed: int) -> None:
    whole = copied(runs, folder / "whole")
    shutil.rmtree(whole / "smoke" / part, ignore_errors=True)
    expected = finish(whole, part, steps=steps)
    broken = copied(whole, folder / "broken")  # with the caches that the first run made
    shutil.rmtree(broken / "smoke" / part)

    draws = random.Random(seed)
    killed = [
        start_and_kill(broken, part, steps=steps, delay_seconds=draws.uniform(0.0, 0.3)) for _ in range(kills)
    ]
    assert any(kill.was_running and 0 < kill.step < steps for kill in killed), (
        f"no leg was killed between its first checkpoint and its end: {killed}"
    )
    began, last = time.time(), killed[-1].step
    resumed = finish(broken, part, steps=steps)
    earlier = [line for line in logged(broken, part) if line["step"] < last]
    assert earlier and all(line["time"] <= began for line in earlier), "the last leg did not go on, but anew"
    assert {"model", "average", "optimizer"} <= {name.split(".")[0] for name in expected.tensors}
    assert differing(expected, resumed) == []
    assert [untimed(line) for line in logged(broken, part)] == [untimed(line) for line in logged(whole, part)]


def test_a_unet_killed_twice_ends_in_the_same_bits(smoke_runs: Path, tmp_path: Path):
    ends_in_the_same_bits(smoke_runs, tmp_path, part="unet", steps=24, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["recogniser", "vae", "clip", "unet"])
def test_a_part_killed_five_times_ends_in_the_same_bits(smoke_runs: Path, tmp_path: Path, part: str):
    ends_in_the_same_bits(smoke_runs, tmp_path, part=part, steps=60, kills=5, seed=2)
