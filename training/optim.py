"""The optimizer of every run: AdamW, its learning rate over time, and its state as named tensors.

Knows nothing of what is being optimized.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (arXiv 1711.05101) with a trapezoid learning rate: warm-up, constant, linear cool-down."""

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


def learning_rate_at(step: int, *, total_steps: int, config: OptimizerConfig) -> float:
    """Learning rate of optimizer step `step`, counted from 0."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cooldown_steps = max(1, int(total_steps * config.cooldown_fraction))
    cool = min(1.0, (total_steps - step) / (cooldown_steps + 1))
    return config.learning_rate * min(warm, cool)


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of `module`, grouped by share of the rate and by decay.

    A group's "share" is to be multiplied to its learning rate by whoever sets it.
    """
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    groups: list[dict[str, Any]] = []
    for share in dict.fromkeys([1.0, *(share for _, share in config.shares)]):
        own = [p for name, p in trainable.items() if share_of(name, config) == share]
        groups += [
            {"params": [p for p in own if p.ndim >= 2], "weight_decay": config.weight_decay, "share": share},
            {"params": [p for p in own if p.ndim < 2], "weight_decay": 0.0, "share": share},
        ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def share_of(name: str, config: OptimizerConfig) -> float:
    """The share of the learning rate that the parameter of this name learns at."""
    return next((share for beginning, share in config.shares if name.startswith(beginning)), 1.0)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as a flat dict `{index}.{name}`, for a safetensors file."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave; the parameter groups stay as they are.

    Moments get the memory layout of their parameter: the fused kernel walks the raw memory of both, and
    a file holds no layout. (Without this a channels_last network resumes with its moments scrambled.)
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        if value.shape == parameter.shape and value.ndim:
            value = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
