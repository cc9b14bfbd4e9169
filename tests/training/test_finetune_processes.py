"""One process and two at the same global batch: same losses; a checkpoint of two goes on on one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from tests import tiny, tiny_finetune

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 600.0
WORDS = ["--data", "16", "--held-out", "0.1", "--precision", "no", "--set", "looks.steps=1"]
WORDS += ["--set", "looks.pictures=1", "--set", "looks.drift_prompts=dog", "--set", "fit.batch_size=4"]
WORDS += ["--set", "fit.save_every_steps=1", "--set", "fit.keep_checkpoints=99"]
WORDS += ["--set", "fit.optimizer.learning_rate=0.001", "--set", "text_share=0.5"]


def losses(out: Path) -> dict[int, float]:
    facts = [json.loads(path.read_text()) for path in sorted(out.glob("checkpoints/step-*/facts.json"))]
    return {each["step"]: each["last"]["losses"]["loss"] for each in facts}


def alone(*words: str) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    tiny_finetune.run(*words)
    AcceleratorState._reset_state(reset_partial_state=True)


def in_two_processes(*words: str) -> None:
    """torchrun, whose processes talk over gloo; both say what accelerate made of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += ["--master_addr", "127.0.0.1", "--master_port", port]
    ended = subprocess.run(
        [*launch, "-m", "tests.tiny_finetune", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("2 processes, MULTI_CPU") == 2, ended.stdout


def agree(folder: Path, *, steps: int, tolerance: float, recipe: str) -> list[str]:
    base = str(tiny.write_folder(folder / "base"))
    words = ["--recipe", recipe, "--base", base, "--cache", str(folder / "cache"), *WORDS]
    alone(*words, "--steps", str(steps), "--out", str(folder / "one"))
    in_two_processes(*words, "--steps", str(steps), "--out", str(folder / "two"))
    one, two = losses(folder / "one"), losses(folder / "two")
    assert list(one) == list(range(1, steps + 1)) and two == pytest.approx(one, rel=tolerance)
    assert len(set(one.values())) == steps
    return words


def test_two_processes_compute_what_one_does_and_one_goes_on(tmp_path: Path):
    words = agree(tmp_path, steps=5, tolerance=1e-5, recipe="full")
    for name in ("one", "two"):
        alone(*words, "--steps", "7", "--out", str(tmp_path / name))
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(two) == list(range(1, 8)) and two == pytest.approx(one, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["full", "lora"])
def test_two_processes_stay_with_one_over_fifty_steps(tmp_path: Path, recipe: str):
    agree(tmp_path, steps=50, tolerance=1e-3, recipe=recipe)
