"""The learning rate's trapezoid, and an optimizer that goes on from its saved state."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from training.optim import (
    OptimizerConfig,
    build_optimizer,
    learning_rate_at,
    load_optimizer_tensors,
    optimizer_tensors,
)

CONFIG = OptimizerConfig(learning_rate=0.01, warmup_steps=4, cooldown_fraction=0.25, weight_decay=0.5)


def test_the_learning_rate_rises_stays_and_falls_to_nearly_zero():
    rates = [learning_rate_at(step, total_steps=40, config=CONFIG) / 0.01 for step in range(40)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4:30] == pytest.approx([1.0] * 26)
    assert rates[30:] == pytest.approx([(40 - step) / 11 for step in range(30, 40)])
    assert all(rate > 0 for rate in rates)


def test_biases_and_norms_are_not_decayed():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    decayed, spared = build_optimizer(network, CONFIG).param_groups
    assert [p.ndim for p in decayed["params"]] == [4] and decayed["weight_decay"] == 0.5
    assert [p.ndim for p in spared["params"]] == [1, 1, 1] and spared["weight_decay"] == 0.0


def test_frozen_parameters_are_left_out():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    assert sum(len(group["params"]) for group in build_optimizer(network, CONFIG).param_groups) == 2


def test_a_share_of_the_rate_holds_for_the_names_that_begin_so():
    network = nn.ModuleDict({"text": nn.Linear(2, 3), "other": nn.Linear(2, 5)})
    groups = build_optimizer(network, replace(CONFIG, shares=(("text.", 0.1),))).param_groups
    rows = {(g["share"], g["weight_decay"]): [p.shape[0] for p in g["params"]] for g in groups}
    assert rows == {(1.0, 0.5): [5], (1.0, 0.0): [5], (0.1, 0.5): [3], (0.1, 0.0): [3]}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_reloaded_optimizer_makes_the_same_next_step(layout: torch.memory_format):
    def step(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        pictures = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        network(pictures.contiguous(memory_format=layout)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    network = nn.Conv2d(3, 16, 3).to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = build_optimizer(network, CONFIG)
    step(network, optimizer, 0)
    resumed = copy.deepcopy(network)
    resumed_optimizer = build_optimizer(resumed, CONFIG)
    saved = {
        name: value.clone(memory_format=torch.contiguous_format)
        for name, value in optimizer_tensors(optimizer).items()
    }
    load_optimizer_tensors(resumed_optimizer, saved)
    step(network, optimizer, 1)
    step(resumed, resumed_optimizer, 1)
    assert torch.equal(network.weight, resumed.weight)  # type: ignore[arg-type]
