"""The optimizer of every run, its learning rate over time, and its state as named tensors and numbers.

Knows nothing of what is being optimized.
"""

import importlib
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

OptimizerKind = Literal["adamw", "adamw8bit", "prodigy", "schedule_free"]
PACKAGES = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt", "schedule_free": "schedulefree"}
"""What each kind but AdamW needs: extras of the same names."""
UNSAID = {"unsaid_at_default": True}
"""Metadata of a config's field that came later: at its default it is no part of a run's fingerprint."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (arXiv 1711.05101), or `kind`, with a trapezoid learning rate: warm-up, constant, cool-down."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    """Of matrices and convolutions only; biases, norms and scalars are not decayed."""
    max_grad_norm: float = 1.0
    warmup_steps: int = 100
    cooldown_fraction: float = 0.25
    """The last part of the run, in which the learning rate falls linearly to zero."""
    shares: tuple[tuple[str, float], ...] = ()
    """(beginning of a parameter's name, share of the learning rate that it learns at); all others: 1."""
    kind: OptimizerKind = field(default="adamw", metadata=UNSAID)
    """"adamw8bit": moments in 8 bits (arXiv 2110.02861); "prodigy" finds its own rate, of which
    `learning_rate`, usually 1, is a multiple (arXiv 2306.06101); "schedule_free": no cool-down, an average of
    its own (arXiv 2405.15682)."""

    def __post_init__(self) -> None:
        if self.kind == "prodigy" and any(share != 1 for _, share in self.shares):
            raise ValueError(
                "kind=prodigy with shares: it has one learning rate for all; leave the shares out, "
                "or take adamw."
            )
        if self.kind == "schedule_free" and self.cooldown_fraction:
            raise ValueError(
                f"kind=schedule_free with cooldown_fraction={self.cooldown_fraction}: it averages instead of "
                "cooling down; set cooldown_fraction=0."
            )


def learning_rate_at(step: int, *, total_steps: int, config: OptimizerConfig) -> float:
    """Learning rate of optimizer step `step`, counted from 0."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.cooldown_fraction == 0:
        return config.learning_rate * warm
    cooldown_steps = max(1, int(total_steps * config.cooldown_fraction))
    cool = min(1.0, (total_steps - step) / (cooldown_steps + 1))
    return config.learning_rate * min(warm, cool)


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """An optimizer over the trainable parameters of `module`, grouped by share of the rate and by decay.

    A group's "share" is to be multiplied to its learning rate by whoever sets it.

    Raises:
        ValueError: the package that `config.kind` needs is not installed, or does not run here.
    """
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    groups: list[dict[str, Any]] = []
    for share in dict.fromkeys([1.0, *(share for _, share in config.shares)]):
        own = [p for name, p in trainable.items() if share_of(name, config) == share]
        groups += [
            {"params": [p for p in own if p.ndim >= 2], "weight_decay": config.weight_decay, "share": share},
            {"params": [p for p in own if p.ndim < 2], "weight_decay": 0.0, "share": share},
        ]
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
    package = _imported(config.kind)
    groups = [group for group in groups if group["params"]]
    if config.kind == "adamw8bit":
        return package.optim.AdamW8bit(groups, lr=config.learning_rate, betas=config.betas)
    if config.kind == "prodigy":
        # Its paper's settings for diffusion models; without them the estimate of the rate breaks in warm-up.
        return package.Prodigy(
            groups,
            lr=config.learning_rate,
            betas=config.betas,
            use_bias_correction=True,
            safeguard_warmup=True,
        )
    return package.AdamWScheduleFree(groups, lr=config.learning_rate, betas=config.betas)


def _imported(kind: OptimizerKind) -> Any:
    package = PACKAGES[kind]
    try:
        return importlib.import_module(package)
    except (ImportError, OSError, RuntimeError) as error:
        reason = (
            "is not installed" if isinstance(error, ModuleNotFoundError) else f"does not run here ({error})"
        )
        raise ValueError(
            f"kind={kind}: the package {package} {reason}; `pip install {package}`, or take kind=adamw."
        ) from error


def share_of(name: str, config: OptimizerConfig) -> float:
    """The share of the learning rate that the parameter of this name learns at."""
    return next((share for beginning, share in config.shares if name.startswith(beginning)), 1.0)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as a flat dict `{index}.{name}`, for a safetensors file."""
    return {name: value for name, value in _entries(optimizer).items() if isinstance(value, Tensor)}


def optimizer_numbers(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What the state holds beside tensors, as JSON can: counters of parameters, and of groups.

    Empty for AdamW, whose groups hold nothing but their settings.
    """
    if isinstance(_unwrapped(optimizer), torch.optim.AdamW):
        return {}
    state = {name: value for name, value in _entries(optimizer).items() if not isinstance(value, Tensor)}
    groups = [
        {name: value for name, value in group.items() if name != "params" and not isinstance(value, Tensor)}
        for group in optimizer.param_groups
    ]
    return {"state": state, "groups": groups}


def _entries(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """`{index}.{name}` to value, in the order of the groups' parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"{index}.{name}": value
        for index, parameter in enumerate(parameters)
        for name, value in optimizer.state.get(parameter, {}).items()
    }


def _unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer inside accelerate's."""
    return getattr(optimizer, "optimizer", optimizer)


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], numbers: dict[str, Any] | None = None
) -> None:
    """Put back what `optimizer_tensors` and `optimizer_numbers` gave; AdamW's groups stay as they are.

    Moments get the memory layout of their parameter: the fused kernel walks the raw memory of both, and
    a file holds no layout. (Without this a channels_last network resumes with its moments scrambled.)
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        if value.shape == parameter.shape and value.ndim:
            value = laid_out_as(value, parameter)
        state.setdefault(int(number), {})[name] = value
    if not numbers:
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return
    # Set by hand: `load_state_dict` casts moments to the parameter's type, which 8 bits would not survive.
    for key, value in numbers["state"].items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    for number, entries in state.items():
        parameter = parameters[number]
        optimizer.state[parameter] = {
            name: value.to(parameter.device) if isinstance(value, Tensor) else value
            for name, value in entries.items()
        }
    for group, saved in zip(optimizer.param_groups, numbers["groups"], strict=True):
        group.update({name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()})


def laid_out_as(value: Tensor, parameter: Tensor) -> Tensor:
    """`value` in the memory layout of a parameter of its shape or, where that lies in shards, as its shard.

    Every process must hold the whole value; no process waits for another.
    """
    if isinstance(parameter, DTensor):
        mesh, placements = parameter.device_mesh, parameter.placements
        return distribute_tensor(value.to(parameter.device), mesh, placements, src_data_rank=None)
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def own_average(optimizer: torch.optim.Optimizer, parameter: Tensor) -> Tensor | None:
    """The average that a schedule-free optimizer keeps of `parameter`; None for all other kinds.

    x = y + (1 - 1 / beta_1) (z - y), where the parameter itself holds y (arXiv 2405.15682).
    """
    z = optimizer.state.get(parameter, {}).get("z")
    if z is None:
        return None
    beta_1 = optimizer.param_groups[0]["betas"][0]
    return parameter.detach().lerp(z, 1 - 1 / beta_1)
