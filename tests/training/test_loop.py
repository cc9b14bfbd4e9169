"""The loop: it learns, averages, resumes bit by bit, and leaves the global random state alone."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import math
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn import functional as F

from training.checkpoint import load_latest
from training.draws import generator
from training.loop import (
    FitConfig,
    Progress,
    RunFolderError,
    averaged_weights,
    fingerprint,
    fit,
    load_averaged,
)
from training.optim import OptimizerConfig

OPTIMIZER = OptimizerConfig(learning_rate=0.02, warmup_steps=2)
CONFIG = FitConfig(optimizer=OPTIMIZER, total_steps=12, batch_size=4, save_every_steps=4)


class Denoiser(nn.Module):
    """A convolution that learns to copy; one weight is frozen."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(torch.Generator().manual_seed(0).get_state())
            self.net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.seen_rows = 0

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.seen_rows = len(batch["pictures"])
        loss = F.mse_loss(self.net(batch["pictures"]), batch["pictures"])
        return {"loss": loss * batch["scale"], "plain": loss}


def batch_at(step: int) -> dict[str, Tensor]:
    pictures = torch.randn(4, 3, 6, 6, generator=generator(1, "pictures", step))
    return {"pictures": pictures.contiguous(memory_format=torch.channels_last), "scale": torch.tensor(1.0)}


def run(folder: Path, accelerator: Accelerator, *, config: FitConfig = CONFIG, identity: str = "a"):
    objective = Denoiser().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return objective, fit(
        objective, batch_at, config=config, run_folder=folder, accelerator=accelerator, identity=identity
    )


def tensors(folder: Path) -> dict[str, Tensor]:
    checkpoint = load_latest(folder)
    assert checkpoint is not None
    return checkpoint.tensors


def test_the_loss_falls_and_every_step_is_told(tmp_path: Path, accelerator: Accelerator):
    _, progresses = run(tmp_path, accelerator)
    told: list[Progress] = list(progresses)
    assert [p.step for p in told] == list(range(1, 13))
    assert told[-1].losses["loss"] < 0.8 * told[0].losses["loss"]
    assert told[-1].losses.keys() == {"loss", "plain"}
    assert told[0].learning_rate == pytest.approx(0.01)
    assert all(p.samples_per_second > 0 and p.gradient_norm > 0 for p in told)


@pytest.mark.parametrize("stop", [1, 4, 7, 11])
def test_a_run_abandoned_after_any_step_ends_in_the_same_bits(
    tmp_path: Path, accelerator: Accelerator, stop: int
):
    list(run(tmp_path / "whole", accelerator)[1])
    _, progresses = run(tmp_path / "broken", accelerator)
    for progress in progresses:
        if progress.step == stop:
            break
    del progresses
    _, resumed = run(tmp_path / "broken", accelerator)
    told = [(p.step, p.restored) for p in resumed]
    restored = [(stop // 4 * 4, True)] if stop >= 4 else []
    assert told == restored + [(step, False) for step in range(stop // 4 * 4 + 1, 13)]
    whole, broken = tensors(tmp_path / "whole"), tensors(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_the_average_is_that_of_diffusers(tmp_path: Path, accelerator: Accelerator):
    objective, progresses = run(tmp_path, accelerator)
    weights = [p for p in objective.parameters() if p.requires_grad]
    theirs = EMAModel(weights, decay=0.999, use_ema_warmup=True, power=0.75)
    for progress in progresses:
        theirs.step(weights)
        raw = weights[0].detach().clone()
        with progress.averaged() as averaged:
            assert averaged is objective and not objective.training
            torch.testing.assert_close(weights[0].detach(), theirs.shadow_params[0], atol=1e-7, rtol=1e-6)
        assert torch.equal(weights[0].detach(), raw) and objective.training
    loaded = Denoiser()
    with pytest.raises(RunFolderError, match="does not hold this network"):
        load_averaged(loaded, tmp_path)
    assert load_averaged(loaded.net, tmp_path, prefix="net.") == 12
    torch.testing.assert_close(loaded.net.get_parameter("0.weight").detach(), theirs.shadow_params[0])


def test_another_recipe_s_run_folder_is_refused_and_kept(tmp_path: Path, accelerator: Accelerator):
    list(run(tmp_path, accelerator)[1])
    with pytest.raises(RunFolderError, match="made by another recipe"):
        list(run(tmp_path, accelerator, identity="b")[1])
    assert averaged_weights(tmp_path)[1] == 12


def test_a_finished_run_does_nothing_and_an_absent_one_says_so(tmp_path: Path, accelerator: Accelerator):
    done = list(run(tmp_path, accelerator)[1])
    [again] = run(tmp_path, accelerator)[1]
    assert again.restored and (again.step, again.losses) == (12, done[-1].losses)
    assert (again.learning_rate, again.gradient_norm) == (done[-1].learning_rate, done[-1].gradient_norm)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        averaged_weights(tmp_path / "absent")


@pytest.mark.parametrize("during", ["step", "preview"])
def test_ctrl_c_saves_at_once_and_says_where(tmp_path: Path, accelerator: Accelerator, during: str):
    def interrupting(step: int) -> dict[str, Tensor]:
        if during == "step" and step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return batch_at(step)

    before = signal.getsignal(signal.SIGINT)
    progresses = fit(Denoiser(), interrupting, config=CONFIG, run_folder=tmp_path, accelerator=accelerator,
                     identity="a")  # fmt: skip
    with pytest.raises(KeyboardInterrupt, match="saved at step 6"):
        for progress in progresses:
            if during == "preview" and progress.step == 6:
                os.kill(os.getpid(), signal.SIGINT)
    assert averaged_weights(tmp_path)[1] == 6
    assert signal.getsignal(signal.SIGINT) is before


def test_global_random_states_stay_untouched(tmp_path: Path, accelerator: Accelerator):
    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    list(run(tmp_path, accelerator)[1])
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), states[1], strict=True))
    assert random.getstate() == states[2]


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_its_checkpoints(
    tmp_path: Path, accelerator: Accelerator
):
    def poisoned(step: int) -> dict[str, Tensor]:
        return batch_at(step) | ({"scale": torch.tensor(float("nan"))} if step == 6 else {})

    with pytest.raises(FloatingPointError, match="step 6: loss is no finite number"):
        list(
            fit(
                Denoiser(),
                poisoned,
                config=CONFIG,
                run_folder=tmp_path,
                accelerator=accelerator,
                identity="a",
            )
        )
    assert averaged_weights(tmp_path)[1] == 4
    assert all(value.isfinite().all() for value in tensors(tmp_path).values())


class Steep(torch.autograd.Function):
    """A finite value whose gradient is infinite."""

    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        return gradients[0] * math.inf


class Breaking(Denoiser):
    """A denoiser whose gradient breaks where the batch says so, while its losses stay finite."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = super().forward(batch | {"scale": torch.tensor(1.0)})
        return losses if batch["scale"].isfinite() else losses | {"loss": Steep.apply(losses["loss"])}


@pytest.mark.parametrize("kind, words", [(Denoiser, "loss is no"), (Breaking, "gradient norm is no")])
def test_a_step_that_breaks_leaves_the_weights_of_the_step_before(
    tmp_path: Path, accelerator: Accelerator, kind: type[Denoiser], words: str
):
    def poisoned(step: int) -> dict[str, Tensor]:
        return batch_at(step) | ({"scale": torch.tensor(float("nan"))} if step == 6 else {})

    objective = kind()
    progresses = fit(
        objective, poisoned, config=CONFIG, run_folder=tmp_path, accelerator=accelerator, identity="a"
    )
    before: list[Tensor] = []
    with pytest.raises(FloatingPointError, match=f"step 6: {words} finite number"):
        for _ in progresses:
            before = [p.detach().clone() for p in objective.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, objective.parameters(), strict=True))


def test_a_run_in_another_precision_is_refused(tmp_path: Path, accelerator: Accelerator):
    list(run(tmp_path, accelerator)[1])
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(RunFolderError, match="data set or precision"):
        list(run(tmp_path, Accelerator(cpu=True, mixed_precision="bf16"))[1])


def test_a_fingerprint_changes_with_every_value_that_changes_a_step():
    assert fingerprint("a", CONFIG) == fingerprint("a", replace(CONFIG, total_steps=99, save_every_steps=3))
    others = [replace(CONFIG, batch_size=8), replace(CONFIG, optimizer=replace(OPTIMIZER, warmup_steps=3))]
    assert len({fingerprint("a", c) for c in (CONFIG, OPTIMIZER, *others)} | {fingerprint("b", CONFIG)}) == 5


@pytest.mark.parametrize("name", ["total_steps", "batch_size", "save_every_steps", "keep_checkpoints"])
def test_a_rhythm_of_nothing_is_refused(name: str):
    with pytest.raises(ValueError, match=f"{name}=0: must be at least 1"):
        replace(CONFIG, **{name: 0})
