"""`kill -9` at any moment of a fine-tuning: the same command goes on and ends in the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from training.checkpoint import Checkpoint, load_latest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
QUICK = ["--precision", "no", "--held-out", "0.1", "--set", "looks.steps=1", "--set", "looks.pictures=1"]
QUICK += ["--set", "fit.batch_size=2", "--set", "fit.save_every_steps=3", "--set", "looks.drift_prompts=dog"]


def killed(folder: Path, *words: str, kills: int, steps: int, seed: int) -> list[dict[str, float]]:
    tiny.write_folder(folder / "base")
    base = ["--base", str(folder / "base"), "--data", "20", "--cache", str(folder / "cache")]
    command = [sys.executable, "-m", "tests.killed_finetune", str(kills), str(seed), str(folder)]
    ended = subprocess.run(
        [*command, *words, *base, *QUICK, "--steps", str(steps)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    log = folder / "log.txt"
    assert ended.returncode == 0, ended.stderr + (log.read_text() if log.is_file() else "")
    return json.loads(ended.stdout.splitlines()[-1])


def checkpoint_of(folder: Path) -> Checkpoint:
    found = load_latest(folder)
    assert found is not None
    return found


def log_lines(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "samples_per_second")} for line in lines]


def ends_in_the_same_bits(folder: Path, *words: str, kills: int, steps: int, seed: int = 1) -> None:
    legs = killed(folder, *words, kills=kills, steps=steps, seed=seed)
    assert any(leg["was_running"] and 0 < leg["step"] < steps for leg in legs), legs
    whole, broken = (checkpoint_of(folder / name) for name in ("whole", "broken"))
    assert whole.step == broken.step == steps and whole.tensors.keys() == broken.tensors.keys()
    assert {"model", "average", "optimizer"} <= {name.split(".")[0] for name in whole.tensors}
    assert [n for n in whole.tensors if not torch.equal(whole.tensors[n], broken.tensors[n])] == []
    assert whole.facts == broken.facts
    assert log_lines(folder / "whole") == log_lines(folder / "broken")
    for path in (folder / "whole" / "final").rglob("*.safetensors"):
        other = folder / "broken" / path.relative_to(folder / "whole")
        made, again = load_file(path), load_file(other)
        assert made.keys() == again.keys() and all(torch.equal(made[n], again[n]) for n in made), path.name


LORA = ("--recipe", "lora", "--set", "lora.rank=2", "--set", "fit.optimizer.learning_rate=0.01")
FULL = ("--recipe", "full", "--set", "text_share=0.5", "--set", "fit.optimizer.learning_rate=0.001")


@pytest.mark.parametrize("words", [LORA, FULL], ids=["lora", "full"])
def test_a_finetuning_killed_three_times_ends_in_the_same_bits(tmp_path: Path, words: tuple[str, ...]):
    ends_in_the_same_bits(tmp_path, *words, kills=3, steps=12)


@pytest.mark.slow
@pytest.mark.parametrize("words", [LORA, FULL], ids=["lora", "full"])
def test_a_finetuning_killed_twenty_times_ends_in_the_same_bits(tmp_path: Path, words: tuple[str, ...]):
    ends_in_the_same_bits(tmp_path, *words, kills=20, steps=240, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind, rate", [("prodigy", 1), ("schedule_free", 0.01), ("adamw8bit", 0.01)])
def test_other_optimizers_killed_five_times_end_in_the_same_bits(tmp_path: Path, kind: str, rate: float):
    pytest.importorskip({"prodigy": "prodigyopt", "schedule_free": "schedulefree"}.get(kind, "bitsandbytes"))
    words = ("--set", f"fit.optimizer.kind={kind}", "--set", f"fit.optimizer.learning_rate={rate}")
    ends_in_the_same_bits(tmp_path, "--recipe", "lora", *words, kills=5, steps=60, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("--recipe", "dreambooth", "--class-prompt", "a dog", "--set", "prior.pictures=3", "--crop"),
        ("--recipe", "textual_inversion", "--token", "<toy>", "--set", "word.vectors=2"),
    ],
    ids=["dreambooth with crops", "textual inversion"],
)
def test_other_recipes_killed_five_times_end_in_the_same_bits(tmp_path: Path, words: tuple[str, ...]):
    ends_in_the_same_bits(tmp_path, *words, kills=5, steps=60, seed=4)
