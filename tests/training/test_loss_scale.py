"""fp16's loss scale: overflowing steps change nothing, resuming is exact, and a hopeless run stops.

On a CPU the scaler is put into accelerate's hands, which does fp16 on CUDA only.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from training.checkpoint import load_latest
from training.draws import generator
from training.loop import FitConfig, Progress, fit
from training.loss_scale import MOST_SKIPPED, LossScale
from training.optim import OptimizerConfig, OptimizerKind

OVERFLOWING = 2.0**24
"""Halved five times before a step of the network below is taken."""
GROWTH_INTERVAL = 3


@pytest.fixture(autouse=True)
def one_process() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def half(scale: float = OVERFLOWING) -> Accelerator:
    """One process on the CPU that computes in fp16 as accelerate does on CUDA."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, mixed_precision="fp16")
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=GROWTH_INTERVAL)
    return accelerator


class Denoiser(nn.Module):
    """Two layers that learn to copy; `steep` multiplies gradients while the loss stays finite."""

    def __init__(self):
        super().__init__()
        draws = generator(3, "weights")
        self.first = nn.Parameter(torch.randn(16, 8, generator=draws) / 3)
        self.second = nn.Parameter(torch.randn(8, 16, generator=draws) / 4)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        hidden = F.silu(F.linear(batch["rows"], self.first))
        error = F.mse_loss(F.linear(hidden, self.second).float(), batch["rows"])
        return {"loss": error + (error - error.detach()) * batch["steep"]}


def batch_at(step: int) -> dict[str, Tensor]:
    rows = torch.randn(4, 8, generator=generator(1, "rows", step))
    return {"rows": rows, "steep": torch.tensor(0.0)}


def run(
    folder: Path, *, accelerator: Accelerator, kind: OptimizerKind = "adamw", steep: float = 0.0
) -> Iterator[Progress]:
    optimizer = OptimizerConfig(learning_rate=0.02, warmup_steps=2, cooldown_fraction=0.0, kind=kind)
    return fit(
        Denoiser().to(accelerator.device),
        lambda step: batch_at(step) | {"steep": torch.tensor(steep)},
        config=FitConfig(
            optimizer=optimizer, total_steps=14, batch_size=4, save_every_steps=1, keep_checkpoints=99
        ),
        run_folder=folder,
        accelerator=accelerator,
        identity="a",
    )


def saved(folder: Path) -> tuple[dict[str, Tensor], dict]:
    checkpoint = load_latest(folder)
    assert checkpoint is not None
    return checkpoint.tensors, checkpoint.facts


def skipped_steps(told: list[Progress]) -> list[int]:
    return [progress.step for progress in told if progress.gradient_norm == float("inf")]


def assert_resumes_exactly(folder: Path, *, whole: Path, stop: int, kind: OptimizerKind) -> None:
    progresses = run(folder, accelerator=half(), kind=kind)
    for progress in progresses:
        if progress.step == stop:
            break
    del progresses
    list(run(folder, accelerator=half(), kind=kind))
    (tensors, facts), (expected, expected_facts) = saved(folder), saved(whole)
    assert tensors.keys() == expected.keys() and facts == expected_facts
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", ["adamw", "schedule_free"])
def test_a_run_resumed_after_any_step_ends_in_the_same_bits(tmp_path: Path, kind: OptimizerKind):
    if kind == "schedule_free":
        pytest.importorskip("schedulefree")
    told = list(run(tmp_path / "whole", accelerator=half(), kind=kind))
    skipped = skipped_steps(told)
    # At first, while the scale comes down; later again, when it has grown too far.
    assert skipped[:2] == [1, 2] and max(skipped) > len(skipped) and len(skipped) < 12
    for stop in range(1, 14):
        assert_resumes_exactly(tmp_path / f"{stop}", whole=tmp_path / "whole", stop=stop, kind=kind)


def test_a_skipped_step_changes_neither_weights_nor_moments_nor_average(tmp_path: Path):
    told = list(run(tmp_path, accelerator=half()))
    skipped, folders = set(skipped_steps(told)), sorted((tmp_path / "checkpoints").iterdir())
    assert len(folders) == 14
    before: dict[str, Tensor] | None = None
    taken = 0
    for number, folder in enumerate(folders, start=1):
        facts = json.loads((folder / "facts.json").read_text())
        after = load_file(folder / "tensors.safetensors")
        if number in skipped and before is not None:
            assert after.keys() == before.keys()
            assert all(torch.equal(after[name], before[name]) for name in before)
        elif before is not None:
            assert not torch.equal(after["model.first"], before["model.first"])
        taken += number not in skipped
        assert facts["average_steps"] == taken
        assert {float(value) for name, value in after.items() if name.endswith(".step")} == {float(taken)}
        before = after


def test_a_run_whose_every_step_overflows_stops_in_one_line(tmp_path: Path):
    with pytest.raises(FloatingPointError, match="gradients overflow in fp16.*loss scale 0.5") as stopped:
        list(run(tmp_path, accelerator=half(8.0), steep=1e38))
    assert "\n" not in str(stopped.value)
    tensors, _ = saved(tmp_path)
    assert torch.equal(tensors["model.first"], Denoiser().first)


def test_many_skipped_steps_in_a_row_stop_a_run_whatever_the_scale():
    accelerator = half(2.0**60)
    scale = LossScale(accelerator)
    for step in range(MOST_SKIPPED - 1):
        scale.count(skipped=True, step=step)
    scale.count(skipped=False, step=MOST_SKIPPED)
    for step in range(MOST_SKIPPED - 1):
        scale.count(skipped=True, step=step)
    with pytest.raises(FloatingPointError, match=f"step 9: .* {MOST_SKIPPED} steps in a row"):
        scale.count(skipped=True, step=9)


def test_a_norm_too_large_for_fp32_is_no_overflow_that_the_scaler_sees(tmp_path: Path):
    parameter = nn.Parameter(torch.zeros(3))
    scale = LossScale(half())
    parameter.grad = torch.full((3,), 3e38)
    assert not scale.will_skip(float("inf"), [parameter])
    parameter.grad = torch.tensor([1.0, float("nan"), 1.0])
    assert scale.will_skip(float("nan"), [parameter]) and not scale.will_skip(1.0, [parameter])


def test_without_a_scaler_nothing_is_kept(tmp_path: Path):
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    list(run(tmp_path, accelerator=accelerator))
    assert LossScale(accelerator).facts() == {} and "loss_scale" not in saved(tmp_path)[1]


@pytest.mark.gpu
def test_fp16_on_cuda_resumes_in_the_same_bits(tmp_path: Path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")

    def on_cuda() -> Accelerator:
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(mixed_precision="fp16")

    told = list(run(tmp_path / "whole", accelerator=on_cuda()))
    assert told[-1].losses["loss"] < told[0].losses["loss"]
    progresses = run(tmp_path / "broken", accelerator=on_cuda())
    for progress in progresses:
        if progress.step == 5:
            break
    del progresses
    list(run(tmp_path / "broken", accelerator=on_cuda()))
    (whole, facts), (broken, other) = saved(tmp_path / "whole"), saved(tmp_path / "broken")
    assert facts == other and all(torch.equal(whole[name], broken[name]) for name in whole)
