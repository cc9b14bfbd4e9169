"""The one training loop: a generator of `Progress`; the run is its `for` body.

Knows nothing of pictures, captions or diffusion: an objective is an `nn.Module` whose `forward(batch)`
returns named losses with their sum as "loss", and `batch_at(step)` is a pure function that gives the global
batch.
"""

import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from training.checkpoint import Checkpoint, load_latest, save_checkpoint
from training.loss_scale import LossScale
from training.optim import (
    UNSAID,
    OptimizerConfig,
    build_optimizer,
    laid_out_as,
    learning_rate_at,
    load_optimizer_tensors,
    optimizer_numbers,
    optimizer_tensors,
    own_average,
)
from training.processes import (
    Batch,
    any_process,
    gathered,
    own_rows,
    prepared,
    refuse_other_ways,
    row_count,
    whole,
)

RHYTHM = ("total_steps", "save_every_steps", "keep_checkpoints")
"""Fields of a `FitConfig` that change no step's result before the cool-down."""
AVERAGE_WARMUP_POWER = 0.75
"""Exponent of the moving average's warm-up, decay(n) = 1 - (1 + n)^-0.75, for runs of up to 10^5 steps."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long and in which rhythm a run goes on."""

    optimizer: OptimizerConfig
    total_steps: int
    batch_size: int
    """Samples of one optimizer step, over all processes."""
    average_decay: float = 0.999
    """Largest decay of the exponential moving average of the weights, which is what a run delivers."""
    save_every_steps: int = 500
    keep_checkpoints: int = 2
    micro_batches: int = field(default=1, metadata=UNSAID)
    """Parts in which a process takes its rows, to need less memory; for losses that are means over rows."""

    def __post_init__(self) -> None:
        for name in ("total_steps", "batch_size", "save_every_steps", "keep_checkpoints", "micro_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1.")


@dataclass(frozen=True)
class Progress:
    """What one optimizer step did, or, for the first of a resumed run, the last before its checkpoint."""

    step: int
    """Steps done so far, this one included."""
    losses: dict[str, float]
    """Means over the global batch."""
    learning_rate: float
    gradient_norm: float
    samples_per_second: float
    """Mean since this process started, saving and previews left out."""
    averaged: Callable[[], AbstractContextManager[nn.Module]]
    """A context in which the objective holds the averaged weights; ValueError where they lie in shards."""
    restored: bool = False
    """Whether this step is the checkpoint's, done by an earlier process (its speed is then not known)."""


class RunFolderError(ValueError):
    """The run folder was made by another recipe."""


def fingerprint(*configs: object) -> str:
    """SHA-256 over dataclasses and plain values: equal if the runs would compute the same weights so far.

    A `FitConfig`'s `total_steps` is left out on purpose, so that a run can be made longer: it decides the
    cool-down only. So are how often it saves and what it keeps.
    """
    plain = [_plain(config) for config in configs]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        left_out = [*RHYTHM] if isinstance(value, FitConfig) else []
        left_out += [
            f.name
            for f in fields(value)
            if f.metadata.get("unsaid_at_default") and getattr(value, f.name) == f.default
        ]
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name not in left_out}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def fit(
    objective: nn.Module,
    batch_at: Callable[[int], Batch],
    *,
    config: FitConfig,
    run_folder: Path,
    accelerator: Accelerator,
    identity: str,
) -> Iterator[Progress]:
    """Train `objective` to `config.total_steps`, resuming from `run_folder` where it holds a checkpoint.

    Args:
        objective: its trainable parameters are optimized and averaged; its buffers are not saved.
        batch_at: step -> the global batch, dict of tensors with `config.batch_size` rows (scalars have none).
            Every random draw of the step is in it. Each process takes its own rows, every n-th of n
            processes, so the number of rows must be a multiple of theirs (and of `config.micro_batches`).
        identity: `fingerprint(...)` of what decides the weights; a run folder with another one raises, and
            so does one made in another precision.
    Yields:
        one `Progress` a step; first, where a checkpoint was restored, one for its step. SIGINT saves a
        checkpoint after the current step and then raises KeyboardInterrupt.
    Raises:
        RunFolderError: the run folder holds another run's checkpoint.
        CheckpointError: a checkpoint could not be written, or all there are damaged.
        FloatingPointError: a loss or the gradient's norm is no finite number; the weights are still those
            of the step before. In fp16 a step whose gradients overflow is skipped instead, and too many in a
            row raise.
        ValueError: accelerate was told to share the run out in a way that is not supported here.
    """
    refuse_other_ways(accelerator, config.optimizer)
    checkpoint = load_latest(run_folder)
    identity = fingerprint(identity, accelerator.mixed_precision)
    if checkpoint is not None and checkpoint.facts["identity"] != identity:
        raise RunFolderError(
            f"run folder {run_folder} was made by another recipe, data set or precision; "
            "choose another folder, or delete this one."
        )
    names = [name for name, p in objective.named_parameters() if p.requires_grad]
    model, optimizer = prepared(objective, build_optimizer(objective, config.optimizer), accelerator)
    # Only now: FSDP2 makes other parameters, and would leave moments restored before it with the old ones.
    parameters = [p for p in objective.parameters() if p.requires_grad]
    trainable = dict(zip(names, parameters, strict=True))
    average = EMAModel(
        parameters,
        decay=config.average_decay,
        use_ema_warmup=True,
        power=AVERAGE_WARMUP_POWER,
        foreach=True,
    )
    loss_scale = LossScale(accelerator)
    start = 0
    if checkpoint is not None:
        start = _restore(checkpoint, trainable, optimizer, average)
        loss_scale.restore(checkpoint.facts)
    model.train()
    if config.optimizer.kind == "schedule_free":
        optimizer.train()

    def save(step: int) -> None:
        tensors = gathered(_tensors(trainable, optimizer, average), keep=accelerator.is_main_process)
        if accelerator.is_main_process:
            facts = {"identity": identity, "average_steps": average.optimization_step, "last": last}
            numbers = optimizer_numbers(optimizer)
            facts |= {"optimizer": numbers} if numbers else {}
            facts |= loss_scale.facts()
            save_checkpoint(run_folder, step=step, tensors=tensors, facts=facts, keep=config.keep_checkpoints)
        accelerator.wait_for_everyone()

    def averaged() -> AbstractContextManager[nn.Module]:
        if accelerator.is_fsdp2:
            raise ValueError(
                "averaged: no process holds the weights whole under FSDP2; open those of a checkpoint with "
                "averaged_weights."
            )
        return _averaged(objective, average, parameters)

    busy_seconds, samples = 0.0, 0
    last: dict[str, Any] = {"losses": {}, "learning_rate": math.nan, "gradient_norm": math.nan}
    with _interrupt_flag() as interrupted:
        if checkpoint is not None:
            last |= checkpoint.facts.get("last", {})
            del checkpoint  # its tensors are as large as all that is trained
            yield Progress(step=start, **last, samples_per_second=math.nan, averaged=averaged, restored=True)
            if any_process(interrupted.is_set(), accelerator):
                raise KeyboardInterrupt(f"saved at step {start}")
        for step in range(start, config.total_steps):
            began = time.perf_counter()
            learning_rate = learning_rate_at(step, total_steps=config.total_steps, config=config.optimizer)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group["share"]
            whole_batch = batch_at(step)
            samples += row_count(whole_batch)
            batch = own_rows(whole_batch, accelerator, parts=config.micro_batches)
            values = _gradients(model, batch, accelerator, parts=config.micro_batches)
            clipped = accelerator.clip_grad_norm_(parameters, config.optimizer.max_grad_norm)
            assert clipped is not None  # as under DeepSpeed, which is refused
            norm = float(whole(clipped))
            _refuse_nan(values, step)
            skipped = loss_scale.will_skip(norm, parameters)
            if not skipped:
                _refuse_nan({"gradient norm": norm}, step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss_scale.count(skipped=skipped, step=step)
            if not skipped:
                _step_average(average, parameters, optimizer)
            busy_seconds += time.perf_counter() - began
            done = step + 1
            last = {
                "losses": values,
                "learning_rate": learning_rate,
                "gradient_norm": math.inf if skipped else norm,
            }
            stopping = any_process(interrupted.is_set(), accelerator)
            saved = stopping or done % config.save_every_steps == 0 or done == config.total_steps
            if saved:
                save(done)
            yield Progress(
                step=done,
                **last,
                samples_per_second=samples / busy_seconds,
                averaged=averaged,
            )
            # It may have come during the caller's preview.
            if stopping or any_process(interrupted.is_set(), accelerator):
                if not saved:
                    save(done)
                raise KeyboardInterrupt(f"saved at step {done}")


def averaged_weights(run_folder: Path) -> tuple[dict[str, Tensor], int]:
    """The averaged weights of a run's newest checkpoint, by parameter name, and its step.

    Raises:
        FileNotFoundError: the run has no checkpoint yet.
    """
    checkpoint = load_latest(run_folder)
    if checkpoint is None:
        raise FileNotFoundError(f"{run_folder} holds no checkpoint; run the training of this part first.")
    return {
        name.removeprefix("average."): value
        for name, value in checkpoint.tensors.items()
        if name.startswith("average.")
    }, checkpoint.step


def load_averaged(module: nn.Module, run_folder: Path, *, prefix: str = "") -> int:
    """Load a run's averaged weights below `prefix` into `module`; returns the run's step."""
    weights, step = averaged_weights(run_folder)
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    missing, unexpected = module.load_state_dict(own, strict=False)
    buffers = {name for name, _ in module.named_buffers()}
    if unexpected or set(missing) - buffers:
        raise RunFolderError(f"{run_folder} does not hold this network; it was made by another recipe.")
    return step


def _tensors(trainable: dict[str, nn.Parameter], optimizer: Any, average: EMAModel) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for (name, parameter), shadow in zip(trainable.items(), average.shadow_params, strict=True):
        tensors[f"model.{name}"] = parameter
        tensors[f"average.{name}"] = shadow
    tensors.update({f"optimizer.{name}": value for name, value in optimizer_tensors(optimizer).items()})
    return tensors


def _restore(
    checkpoint: Checkpoint,
    trainable: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: EMAModel,
) -> int:
    with torch.no_grad():
        for (name, parameter), shadow in zip(trainable.items(), average.shadow_params, strict=True):
            parameter.copy_(laid_out_as(checkpoint.tensors[f"model.{name}"], parameter))
            shadow.copy_(laid_out_as(checkpoint.tensors[f"average.{name}"], parameter))
    average.optimization_step = int(checkpoint.facts["average_steps"])
    state = {
        name.removeprefix("optimizer."): value
        for name, value in checkpoint.tensors.items()
        if name.startswith("optimizer.")
    }
    load_optimizer_tensors(optimizer, state, checkpoint.facts.get("optimizer"))
    return checkpoint.step


def _gradients(model: nn.Module, batch: Batch, accelerator: Accelerator, *, parts: int) -> dict[str, float]:
    """Leave the gradient of the mean loss in the parameters; gives the losses' means over all processes."""
    sums: dict[str, Tensor] = {}
    for part in range(parts):
        last = part == parts - 1
        rows = {name: value[part::parts] if value.ndim else value for name, value in batch.items()}
        with nullcontext() if last else accelerator.no_sync(model):
            with accelerator.autocast():
                losses = model(rows if parts > 1 else batch)
            accelerator.backward(losses["loss"] / parts if parts > 1 else losses["loss"])
        for name, value in losses.items():
            sums[name] = sums[name] + value.detach() if name in sums else value.detach()
    if accelerator.num_processes > 1:
        names = sorted(sums)
        reduced = accelerator.reduce(torch.stack([sums[name].float() for name in names]), reduction="mean")
        assert isinstance(reduced, Tensor)
        sums = dict(zip(names, reduced, strict=True))
    return {name: float(value) / parts for name, value in sums.items()}


def _step_average(average: EMAModel, parameters: list[nn.Parameter], optimizer: Any) -> None:
    """The moving average of the weights, or, where the optimizer keeps an average of its own, that one."""
    own = [own_average(optimizer, parameter) for parameter in parameters]
    if any(value is None for value in own):
        average.step(parameters)
        return
    average.optimization_step += 1
    for shadow, value in zip(average.shadow_params, own, strict=True):
        assert value is not None
        shadow.copy_(value)


def _refuse_nan(losses: dict[str, float], step: int) -> None:
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(
            f"step {step}: {', '.join(bad)} is no finite number; lower the learning rate; "
            "checkpoints are untouched."
        )


@contextmanager
def _averaged(objective: nn.Module, average: EMAModel, parameters: list[nn.Parameter]) -> Iterator[nn.Module]:
    average.store(parameters)
    average.copy_to(parameters)
    objective.eval()
    try:
        with torch.no_grad():
            yield objective
    finally:
        average.restore(parameters)
        objective.train()


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """SIGINT sets the flag instead of striking in the middle of an optimizer step; a second kills."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def on_interrupt(_signal: int, _frame: object) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
