"""The learning rate's trapezoid, and an optimizer that goes on from its saved state."""

import copy
import json
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from training.optim import (
    PACKAGES,
    OptimizerConfig,
    OptimizerKind,
    build_optimizer,
    learning_rate_at,
    load_optimizer_tensors,
    optimizer_numbers,
    optimizer_tensors,
    own_average,
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


@pytest.mark.parametrize("kind", ["adamw", "adamw8bit", "prodigy", "schedule_free"])
def test_every_kind_goes_on_from_a_file_in_the_same_bits(kind: OptimizerKind):
    if kind != "adamw":
        pytest.importorskip(PACKAGES[kind])
    config = replace(
        CONFIG, kind=kind, learning_rate=1.0 if kind == "prodigy" else 0.01, cooldown_fraction=0.0
    )

    def step(network: nn.Module, optimizer: Any, seed: int) -> None:
        rows = torch.randn(8, 80, generator=torch.Generator().manual_seed(seed))
        (network(rows) - rows.flip(1)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    network = nn.Linear(80, 80)  # 6,400 weights: enough for moments in 8 bits
    optimizer: Any = build_optimizer(network, config)
    if kind == "schedule_free":
        optimizer.train()
    for seed in range(3):
        step(network, optimizer, seed)
    resumed = copy.deepcopy(network)
    again: Any = build_optimizer(resumed, config)
    tensors = load(save(optimizer_tensors(optimizer)))
    load_optimizer_tensors(again, tensors, json.loads(json.dumps(optimizer_numbers(optimizer))))
    if kind == "schedule_free":
        again.train()
    for seed in range(3, 6):
        step(network, optimizer, seed)
        step(resumed, again, seed)
    assert torch.equal(network.weight, resumed.weight) and torch.equal(network.bias, resumed.bias)
    own = [own_average(optimizer, parameter) for parameter in network.parameters()]
    if kind == "schedule_free":
        optimizer.eval()
        for average, parameter in zip(own, network.parameters(), strict=True):
            assert average is not None
            torch.testing.assert_close(average, parameter.detach())
    else:
        assert own == [None, None]


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(
        ValueError, match="kind=prodigy: the package prodigyopt is not installed; `pip install"
    ):
        build_optimizer(nn.Linear(2, 2), replace(CONFIG, kind="prodigy"))


def test_settings_that_a_kind_has_no_use_for_are_refused():
    with pytest.raises(ValueError, match="kind=prodigy with shares"):
        replace(CONFIG, kind="prodigy", shares=(("text.", 0.5),))
    with pytest.raises(ValueError, match="kind=schedule_free with cooldown_fraction=0.25"):
        replace(CONFIG, kind="schedule_free")


def test_without_a_cool_down_the_rate_stays_to_the_end():
    config = replace(CONFIG, cooldown_fraction=0.0)
    assert [learning_rate_at(step, total_steps=40, config=config) for step in (4, 38, 39)] == [0.01] * 3
