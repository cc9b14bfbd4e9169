"""Training, rendering, export and evaluation neither read nor change the global random state."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from ldm_pipeline.judge import Recogniser, RecogniserConfig
from tests import tiny, tiny_runs
from tests.random_states import seeded_globally, untouched
from training.__main__ import main
from training.checkpoint import load_latest
from training.claims import FIELDS
from training.data.postcards import PostcardConfig, render_postcards
from training.evaluation.report import evaluate_folder
from training.recipes import SMOKE
from training.scenes.world import FLAT_WORLD

PARTS = ("recogniser", "vae", "clip", "unet")
STEPS = {"recogniser": 1, "vae": 1, "clip": 1, "unet": 2}

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:this model was never trained on the words"),
]


def train(runs: Path, part: str) -> dict[str, torch.Tensor]:
    """Train a part of the smoke recipe for a step or two, from nothing; gives what its checkpoint holds."""
    shutil.rmtree(runs / "smoke" / part, ignore_errors=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    few = ["--steps", str(STEPS[part]), "--set", "sampling.num_inference_steps=1"]
    assert main([part, "--recipe", "smoke", "--runs", str(runs), *few]) == 0
    AcceleratorState._reset_state(reset_partial_state=True)
    checkpoint = load_latest(runs / "smoke" / part)
    assert checkpoint is not None and checkpoint.step == STEPS[part]
    return checkpoint.tensors


@pytest.mark.parametrize("part", PARTS)
def test_a_part_trains_to_the_same_bits_under_any_global_seed(smoke_runs: Path, tmp_path: Path, part: str):
    runs = Path(shutil.copytree(smoke_runs, tmp_path / "runs", copy_function=os.link))
    found = []
    for number in (1, 2):
        with seeded_globally(number), untouched():
            found.append(train(runs, part))
    first, second = found
    assert first.keys() == second.keys() and len(first) > 10
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []


def test_rendering(tmp_path: Path):
    found = []
    for number in (1, 2):
        with seeded_globally(number), untouched():
            config = PostcardConfig(world=SMOKE.world, seed=5, count=3, size=64)
            postcards = render_postcards(config, tmp_path / str(number))
            found.append([postcards.images([i]).tobytes() for i in range(3)])
    assert found[0] == found[1]


def test_export(tmp_path: Path):
    tiny_runs.write_runs(tmp_path / "runs")
    with untouched():
        out = ["--out", str(tmp_path / "pipeline")]
        assert main(["export", "--recipe", "smoke", "--runs", str(tmp_path / "runs"), *out]) == 0


def test_a_dry_run(tmp_path: Path):
    for part in PARTS:
        with untouched():
            assert main([part, "--recipe", "smoke", "--dry-run", "--runs", str(tmp_path)]) == 0


def test_evaluation(tmp_path: Path):
    world = replace(FLAT_WORLD, cities=("paris", "cairo"), kinds=("umbrella", "dog"), colors=("red", "blue"))
    judge = Recogniser(RecogniserConfig(widths=(8, 8), blocks=0, fields=FIELDS))
    tiny.randomize(judge, 5)
    judge.save(tmp_path / "judge")
    model = tiny.write_folder(tmp_path / "model")
    found = []
    for number in (1, 2):
        with seeded_globally(number), untouched():
            report = evaluate_folder(
                model,
                world=world,
                size=64,
                judge_folder=tmp_path / "judge",
                out=tmp_path / str(number),
                recipe="tiny",
                prompts=2,
                pairs=2,
                seeds_per_prompt=2,
            )
            found.append(report.columns)
    assert found[0] == found[1]
