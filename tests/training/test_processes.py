"""Rows and flags of several processes, and runs whose weights lie in shards on two of them.

The shards are made by accelerate's own FSDP2 code over torch's `fully_shard`, on the CPU over gloo.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import Tensor

from tests import tiny, tiny_finetune
from tests.sharded_finetune import WRAPPED_LAYERS
from training.checkpoint import load_latest
from training.optim import OptimizerConfig, OptimizerKind
from training.processes import gathered, own_rows, refuse_other_ways

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 900.0
STEPS, HANDED, RATE = 5, 3, 0.001
WORDS = ["--data", "16", "--held-out", "0.1", "--precision", "no", "--set", "looks.steps=1"]
WORDS += ["--set", "looks.pictures=1", "--set", "looks.drift_prompts=dog", "--set", "fit.batch_size=4"]
WORDS += ["--set", "fit.save_every_steps=1", "--set", "fit.keep_checkpoints=99", "--steps", str(STEPS)]
WORDS += ["--set", f"fit.optimizer.learning_rate={RATE}"]
# AdamW takes large steps on gradients that are hardly more than rounding: it needs a slow start to compare.
FULL = ["--recipe", "full", "--set", "text_share=0.5", "--set", "fit.optimizer.warmup_steps=20"]
LORA = ["--recipe", "lora", "--set", "fit.micro_batches=2", "--set", "fit.optimizer.kind=schedule_free"]
LORA += ["--set", "fit.optimizer.cooldown_fraction=0", "--set", "fit.optimizer.warmup_steps=1"]


@dataclass
class OneOfTwo:
    """What is asked of accelerate, as the second of two processes sees it."""

    distributed_type: DistributedType = DistributedType.MULTI_CPU
    is_fsdp2: bool = False
    process_index, num_processes, device = 1, 2, torch.device("cpu")


def test_each_process_takes_its_own_rows_and_an_odd_batch_is_refused():
    batch = {"rows": torch.arange(4), "scalar": torch.tensor(3.0)}
    mine = own_rows(batch, OneOfTwo())  # type: ignore[arg-type]
    assert mine["rows"].tolist() == [1, 3] and float(mine["scalar"]) == 3
    with pytest.raises(ValueError, match="batch of 3 samples cannot be shared evenly by 2 processes"):
        own_rows({"rows": torch.arange(3)}, OneOfTwo())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "way, fsdp2, kind, words",
    [
        (DistributedType.DEEPSPEED, False, "adamw", "distributed_type=DEEPSPEED.*FSDP2"),
        (DistributedType.FSDP, False, "adamw", "fsdp_version=1.*set fsdp_version: 2"),
        (DistributedType.FSDP, True, "prodigy", "kind=prodigy under FSDP2.*choose from adamw"),
    ],
)
def test_what_could_not_go_on_elsewhere_is_refused(
    way: DistributedType, fsdp2: bool, kind: OptimizerKind, words: str
):
    config = OptimizerConfig(learning_rate=1.0, kind=kind)
    with pytest.raises(ValueError, match=words) as refused:
        refuse_other_ways(OneOfTwo(way, fsdp2), config)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    refuse_other_ways(OneOfTwo(DistributedType.FSDP, True), OptimizerConfig(learning_rate=1.0))  # type: ignore[arg-type]


def test_the_example_wraps_what_is_tested_here_and_accelerate_reads_it():
    path = ROOT / "examples" / "accelerate" / "fsdp2.yaml"
    assert path.read_text(encoding="utf-8").startswith("# Not run on a GPU yet.")
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig) and config.fsdp_config is not None
    assert (config.distributed_type, config.mixed_precision) == (DistributedType.FSDP, "bf16")
    assert (config.num_machines, config.num_processes) == (1, 2)
    assert config.fsdp_config["fsdp_version"] == 2
    assert config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(",") == WRAPPED_LAYERS


def test_only_a_process_that_writes_keeps_whole_tensors():
    tensors = {"a": torch.ones(2), "b": torch.zeros(3)}
    assert gathered(tensors, keep=False) == {}
    assert gathered(tensors, keep=True).keys() == tensors.keys()


def alone(*words: str) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    tiny_finetune.run(*words)
    AcceleratorState._reset_state(reset_partial_state=True)


def in_two_shards(*runs: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += ["--master_addr", "127.0.0.1", "--master_port", port, "-m", "tests.sharded_finetune"]
    words = [word for run in runs for word in ("--", *run)][1:]
    ended = subprocess.run(
        [*launch, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("2 processes, FSDP") == 2, ended.stdout
    said = "the weights lie in shards: no previews on the way, one look at the end"
    assert ended.stdout.count(said) == len(runs), ended.stdout


def handed_over(run: Path, to: Path) -> Path:
    """A copy of a finished run as it was after `HANDED` steps."""
    shutil.copytree(run, to)
    shutil.rmtree(to / "final")
    for step in range(HANDED + 1, STEPS + 1):
        shutil.rmtree(to / "checkpoints" / f"step-{step:08d}")
    return to


def losses(run: Path) -> list[float]:
    facts = [json.loads(path.read_text()) for path in sorted(run.glob("checkpoints/step-*/facts.json"))]
    assert [each["step"] for each in facts] == list(range(1, STEPS + 1))
    return [each["last"]["losses"]["loss"] for each in facts]


def delivered(run: Path) -> dict[str, Tensor]:
    files = sorted((run / "final").rglob("*.safetensors"))
    return {f"{path.name}/{name}": value for path in files for name, value in load_file(path).items()}


def assert_same_run(one: Path, other: Path) -> None:
    """Losses, checkpoints (in names, shapes and values) and deliveries agree to 1e-5."""
    assert losses(other) == pytest.approx(losses(one), rel=1e-5)
    assert len(set(losses(one))) == STEPS
    ended, theirs = load_latest(one), load_latest(other)
    assert ended is not None and theirs is not None and ended.tensors.keys() == theirs.tensors.keys()
    for name, value in ended.tensors.items():
        torch.testing.assert_close(theirs.tensors[name], value, atol=nearness(name), rtol=1e-5, msg=name)
    files, others = delivered(one), delivered(other)
    assert files.keys() == others.keys() and files
    for name, value in files.items():
        # A whole pipeline is delivered in float16: one unit in its last place more.
        share = 2**-10 if value.dtype == torch.float16 else 1e-5
        torch.testing.assert_close(others[name], value, atol=nearness(name), rtol=share, msg=name)


def nearness(name: str) -> float:
    """1e-5; but the keys' biases have no gradient other than rounding, which AdamW takes for one."""
    return STEPS * RATE if name.endswith("k_proj.bias") else 1e-5


@pytest.mark.parametrize("recipe", [FULL, pytest.param(LORA, marks=pytest.mark.slow)], ids=["full", "lora"])
def test_sharded_runs_are_those_of_one_process_and_go_on_in_either(tmp_path: Path, recipe: list[str]):
    base = str(tiny.write_folder(tmp_path / "base"))
    words = ["--base", base, "--cache", str(tmp_path / "cache"), *WORDS, *recipe, "--out"]
    one, shards, to_shards, back = (tmp_path / name for name in ("one", "shards", "to_shards", "back"))
    alone(*words, str(one))
    handed_over(one, to_shards)
    started = load_latest(to_shards)
    in_two_shards([*words, str(shards)], [*words, str(to_shards)])
    handed_over(shards, back)
    alone(*words, str(back))
    for other in (shards, to_shards, back):
        assert_same_run(one, other)
    ended = load_latest(one)
    assert started is not None and ended is not None
    moved = [(ended.tensors[n] - v).abs().max() for n, v in started.tensors.items() if n.startswith("model.")]
    assert max(map(float, moved)) > 1e-4  # what is compared has gone far beyond the tolerance
    looks = [json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) for run in (one, shards)]
    assert looks[0]["step"] == looks[1]["step"] == STEPS
    assert looks[1]["held_out/loss"] == pytest.approx(looks[0]["held_out/loss"], rel=1e-4)
    previews = {path.name for path in (shards / "previews").iterdir()}
    assert previews == {"base.png", f"samples-{STEPS:07d}.png"}
