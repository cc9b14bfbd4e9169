"""The step cache is exact at interval 1, saves deep layers beyond it, and leaves the UNet as it was."""

import threading
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
from peft import LoraConfig
from torch import nn

from ldm_pipeline.step_cache import cached_steps, check_step_cache, cut_at, layers_of
from tests import tiny

STEPS = 4


def deep_unet() -> Any:
    """Three levels of two layers: nine layers up, as Stable Diffusion has twelve."""
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(8, 8, 16),  # pyright: ignore[reportArgumentType]
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),  # pyright: ignore
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),  # pyright: ignore
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()
    tiny.randomize(unet, 3)
    return unet


@pytest.fixture(scope="module")
def unet() -> Any:
    return deep_unet()


def inputs(*, height: int = 8, width: int = 8, rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(rows, 8, height, width, generator=draw), torch.randn(rows, 7, 32, generator=draw)


def predict(unet: Any, latents: Any, timestep: Any, states: Any, *, place: float, arguments: Any) -> Any:
    return unet(latents, timestep, encoder_hidden_states=states, **arguments, return_dict=False)[0]


@torch.no_grad()
def walk(unet: Any, predict: Any, **size: int) -> torch.Tensor:
    """A straight line of short steps, along which features change little."""
    latents, states = inputs(**size)
    for step in range(STEPS):
        timestep = torch.tensor(800 - 5 * step)
        predicted = predict(unet, latents, timestep, states, place=step / STEPS, arguments={})
        latents = latents - 0.02 * predicted
    return latents


def cached(unet: Any, *, interval: int, depth: int, predict: Any = predict, **size: int) -> torch.Tensor:
    with cached_steps(unet, predict, interval=interval, depth=depth) as predict_with:
        return walk(unet, predict_with, **size)


class Runs:
    """Counts how often modules really compute: their convolutions and linear layers see what skips do not."""

    def __init__(self, **modules: Any):
        self.counts = dict.fromkeys(modules, 0)
        self.hooks = []
        for name, module in modules.items():
            first = next(m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.GroupNorm))
            self.hooks.append(first.register_forward_hook(lambda *_, name=name: self.count(name)))

    def count(self, name: str) -> None:
        self.counts[name] += 1

    def __enter__(self) -> dict[str, int]:
        return self.counts

    def __exit__(self, *_: Any) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.mark.parametrize("depth", [1, 4, 8])
def test_an_interval_of_one_is_exact(unet, depth):
    assert torch.equal(cached(unet, interval=1, depth=depth), walk(unet, predict))


@pytest.mark.parametrize(("interval", "whole"), [(1, 4), (2, 2), (3, 2), (4, 1)])
def test_deep_layers_run_at_whole_steps_only(unet, interval, whole):
    with Runs(mid=unet.mid_block, up=unet.up_blocks[0], top=unet.up_blocks[2].resnets[2]) as counts:
        cached(unet, interval=interval, depth=1)
    assert counts == {"mid": whole, "up": whole, "top": STEPS}


@pytest.mark.parametrize(
    ("depth", "up", "down"),
    [(1, [0, 0, 1], [0, 0]), (2, [0, 1, 1], [1, 0]), (3, [1, 1, 1], [1, 1])],
)
def test_the_shallow_layers_of_both_ways_run_at_every_step(unet, depth, up, down):
    """One layer up per depth, and the layers down whose skip connections those read."""
    modules = {f"up{i}": layer for i, layer in enumerate(unet.up_blocks[2].resnets)}
    modules |= {f"down{i}": layer for i, layer in enumerate(unet.down_blocks[0].resnets)}
    with Runs(**modules) as counts:
        cached(unet, interval=STEPS, depth=depth)
    assert list(counts.values()) == [STEPS if runs else 1 for runs in up + down]


@pytest.mark.parametrize("depth", [1, 3, 5, 8])
def test_a_reused_step_differs_but_stays_near(unet, depth):
    exact, near = walk(unet, predict), cached(unet, interval=2, depth=depth)
    start, _ = inputs()
    moved = (exact - start).norm()
    error = (near - exact).norm() / moved
    assert 1e-7 < error < 0.1


def test_an_unchanged_input_gives_an_unchanged_prediction(unet):
    """At the same timestep the kept features are those that a whole step would compute."""
    latents, states = inputs()

    @torch.no_grad()
    def twice(depth: int) -> list[torch.Tensor]:
        with cached_steps(unet, predict, interval=2, depth=depth) as again:
            return [
                again(unet, latents, torch.tensor(500), states, place=0.0, arguments={}) for _ in range(2)
            ]

    for depth in range(1, layers_of(unet)):
        whole, reused = twice(depth)
        assert torch.equal(whole, reused), depth


def test_sizes_that_do_not_halve_evenly_work(unet):
    latents, _ = inputs(height=6, width=11)
    found = cached(unet, interval=2, depth=4, height=6, width=11)
    assert found.shape == latents.shape
    exact = walk(unet, predict, height=6, width=11)
    assert 0 < (found - exact).norm() / (exact - latents).norm() < 0.05


def test_a_step_with_another_number_of_rows_is_whole(unet):
    """Guidance that begins or ends between whole steps changes the batch."""
    alone = torch.tensor(700)

    def sometimes_both(unet: Any, latents: Any, timestep: Any, states: Any, *, place: float, **_: Any) -> Any:
        rows = 2 if place in (0.25, 0.5) else 1
        return predict(unet, latents[:rows], alone, states[:rows], place=place, arguments={})[:1]

    with Runs(mid=unet.mid_block) as counts:
        cached(unet, interval=STEPS, depth=1, predict=sometimes_both)
    assert counts == {"mid": 3}  # one row, two rows, two again, one


def test_every_call_of_a_step_keeps_its_own_features(unet):
    """As under a guider: one network call per condition."""
    latents, states = inputs()

    def each_alone(unet: Any, latents: Any, timestep: Any, states: Any, **_: Any) -> Any:
        rows = zip(latents.split(1), states.split(1), strict=True)
        return torch.cat([predict(unet, x, timestep, y, place=0.0, arguments={}) for x, y in rows])

    together = cached(unet, interval=2, depth=3)
    torch.testing.assert_close(
        cached(unet, interval=2, depth=3, predict=each_alone), together, atol=1e-5, rtol=0
    )


def test_free_u_does_not_wear_the_kept_features_out():
    unet = deep_unet()
    unet.enable_freeu(s1=0.9, s2=0.2, b1=1.4, b2=1.6)
    latents, states = inputs()
    with torch.no_grad(), cached_steps(unet, predict, interval=4, depth=5) as again:
        found = [again(unet, latents, torch.tensor(500), states, place=0.0, arguments={}) for _ in range(4)]
    assert all(torch.equal(found[0], one) for one in found)


def test_adapters_act_at_whole_and_at_reused_steps():
    unet = deep_unet()
    unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"]))
    tiny.randomize(unet, 3)  # the adapter's second half starts at zero
    exact, near = walk(unet, predict), cached(unet, interval=2, depth=3)
    start, _ = inputs()
    moved = (exact - start).norm()
    assert 0 < (near - exact).norm() / moved < 0.1
    unet.disable_adapters()
    assert (cached(unet, interval=2, depth=3) - near).norm() / moved > 0.1


@pytest.mark.parametrize("fails", [False, True])
def test_the_unet_is_as_it_was_also_after_an_error(unet, fails):
    before = walk(unet, predict)

    def breaks(*positional: Any, **named: Any) -> Any:
        if fails and named["place"] > 0:
            raise RuntimeError("out of memory")
        return predict(*positional, **named)

    try:
        cached(unet, interval=2, depth=3, predict=breaks)
    except RuntimeError:
        assert fails
    assert not [name for name, module in unet.named_modules() if "forward" in vars(module)]
    assert torch.equal(walk(unet, predict), before)


def test_a_forward_that_stood_on_a_module_comes_back():
    """As an offload hook's, which diffusers and accelerate put there."""
    unet = tiny.make_unet()
    calls = []
    original = unet.mid_block.forward

    def hooked(*positional: Any, **named: Any) -> Any:
        calls.append(1)
        return original(*positional, **named)

    unet.mid_block.forward = hooked
    cached(unet, interval=2, depth=1)
    assert unet.mid_block.forward is hooked and len(calls) == STEPS // 2


def test_threads_do_not_see_each_others_cache(unet):
    """Two caches of different depth and a plain run at once, step by step."""
    wanted = {
        1: cached(unet, interval=2, depth=1),
        4: cached(unet, interval=3, depth=4),
        0: walk(unet, predict),
    }
    turns, found = threading.Barrier(3), {}

    def waiting(*positional: Any, **named: Any) -> Any:
        turns.wait(60)
        return predict(*positional, **named)

    def work(depth: int) -> None:
        if depth == 0:
            found[depth] = walk(unet, waiting)
        else:
            found[depth] = cached(unet, interval=2 if depth == 1 else 3, depth=depth, predict=waiting)

    threads = [threading.Thread(target=work, args=(depth,)) for depth in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for depth, latents in wanted.items():
        assert torch.equal(found[depth], latents), depth
    assert not [name for name, module in unet.named_modules() if "forward" in vars(module)]


def test_stable_diffusions_shape_is_cut_where_deep_cache_cuts_it(unet):
    """Depth of one level's layers: all of the top block up, all but the last connection of the first down."""
    cut = cut_at(unet, 3)
    assert cut.last is unet.up_blocks[1]
    assert {unet.mid_block, *unet.up_blocks[:2], *unet.down_blocks[1:]} < cut.modules
    assert cut.modules - {unet.mid_block, *unet.up_blocks[:2], *unet.down_blocks[1:]} == {
        unet.down_blocks[0].downsamplers[0]
    }


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"interval": 0, "depth": 1}, "interval=0 is too small: use 1"),
        ({"interval": 2, "depth": 0}, "depth=0 is no number of shallow layers of this UNet: use 1 to 8"),
        ({"interval": 2, "depth": 9}, "depth=9 is no number of shallow layers of this UNet: use 1 to 8"),
    ],
)
def test_what_cannot_be_cached_is_refused(unet, settings, words):
    with pytest.raises(ValueError, match=words):
        check_step_cache(unet, **settings)
