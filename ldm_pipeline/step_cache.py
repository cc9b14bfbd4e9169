"""A step cache for UNets: between whole steps only shallow layers are run, on deep features kept from them.

Knows nothing of guidance, schedulers or texts; it wraps whatever predicts. Training-free, after DeepCache
(arXiv 2312.00858): features change little from step to step, the deeper the less.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Predict = Callable[..., Tensor]
"""As `denoise.predict`: (unet, model_input, timestep, state, *, place, arguments), gives a prediction."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Which modules of a UNet are left out between whole steps."""

    last: nn.Module
    """The last of them to run: its output enters the first shallow layer of the way up."""
    modules: frozenset[nn.Module]
    """All of them. Nothing that is run depends on what the others give, but for its shape."""


@dataclass(kw_only=True)
class _Kept:
    """One run's features, and whether the network call under way reuses them."""

    cut: Cut
    whole_step: bool = True
    call: int = -1
    """Number of the network call in its step: a guider makes several, each with features of its own."""
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Per call of a step the shape of the input that its features belong to."""
    reuses: bool = False
    features: dict[tuple[int, nn.Module], Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class _Switch:
    """A module whose `forward` asks whether to run."""

    runs: int
    """How many runs need it."""
    own_forward: Any
    """The forward that stood on the module itself (an offload hook's), or None."""


_under_way = threading.local()
"""`kept` of the prediction under way in this thread; calls of other threads have none and are whole."""
_switches: dict[nn.Module, _Switch] = {}
_switching = threading.Lock()


def layers_of(unet: Any) -> int:
    """Count the layers on a UNet's way up (12 in Stable Diffusion's), each with a partner on the way down."""
    return sum(len(block.resnets) for block in unet.up_blocks)


def check_step_cache(unet: Any, *, interval: int, depth: int) -> None:
    """Refuse in one line an interval or a depth that cannot be."""
    if interval < 1:
        raise ValueError(f"interval={interval} is too small: use 1 (every step whole) or more")
    deepest = layers_of(unet) - 1
    if not 1 <= depth <= deepest:
        raise ValueError(f"depth={depth} is no number of shallow layers of this UNet: use 1 to {deepest}")


def cut_at(unet: Any, depth: int) -> Cut:
    """Divide a UNet so that only the last `depth` layers of the way up, and what they need, are shallow.

    The way down leaves one skip connection per layer, the way up takes them in reverse: its last layer that
    of `conv_in`, the one before that of the first layer down, and so on.
    """
    skipped: list[nn.Module] = []
    connections = 1  # of conv_in, which is always run
    for block in unet.down_blocks:
        parts = [*layer_modules(block), *([[one] for one in block.downsamplers or ()])]
        skipped += _deep_part(block, parts, shallow=[connections + i < depth for i in range(len(parts))])
        connections += len(parts)
    if unet.mid_block is not None:
        skipped.append(unet.mid_block)
    left = layers_of(unet)
    for block in unet.up_blocks:
        parts = layer_modules(block)
        skipped += _deep_part(block, parts, shallow=[left - i <= depth for i in range(len(parts))])
        left -= len(parts)
    return Cut(last=skipped[-1], modules=frozenset(skipped))


def layer_modules(block: Any) -> list[list[nn.Module]]:
    """List a block's layers: a residual block each, with its attention where the block has one."""
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    pairs = zip(block.resnets, attentions, strict=True)
    return [[part for part in pair if part is not None] for pair in pairs]


def _deep_part(block: nn.Module, parts: list[list[nn.Module]], *, shallow: list[bool]) -> list[nn.Module]:
    """List what is left out of a block: the block itself, or some of its parts, or nothing."""
    if not any(shallow):
        return [block]
    return [one for part, runs in zip(parts, shallow, strict=True) if not runs for one in part]


@contextmanager
def cached_steps(unet: Any, predict: Predict, *, interval: int, depth: int) -> Iterator[Predict]:
    """Give a prediction that runs the whole UNet at every `interval`-th step only, for one run of the loop.

    Between them the last `depth` of the way up's layers are run, on features that the last whole step left;
    interval 1 is exact, depth 1 the fastest. `predict` may make several network calls per step; a call whose
    input has another shape than that at the last whole step (guidance has begun) is whole too. Keeps the
    outputs of the modules left out, about as much memory as they take within one network call.

    Threads may do so on one UNet at the same time, or call it meanwhile: each keeps its own features. On
    leaving, also by an error, the UNet is as it was.
    """
    check_step_cache(unet, interval=interval, depth=depth)
    kept, steps = _Kept(cut=cut_at(unet, depth)), itertools.count()

    def predict_with(network: Any, *positional: Any, **named: Any) -> Tensor:
        kept.whole_step, kept.call = next(steps) % interval == 0, -1
        _under_way.kept = kept
        try:
            return predict(network, *positional, **named)
        finally:
            del _under_way.kept

    with ExitStack() as switched:
        switched.enter_context(_switch(unet.conv_in, _begin_call))
        for module in kept.cut.modules:
            switched.enter_context(_switch(module, _keep_or_reuse))
        yield predict_with


@contextmanager
def _switch(module: nn.Module, instead: Callable[..., Any]) -> Iterator[None]:
    """Let a module call `instead(module, forward, ...)` for its `forward`, until the last run ends."""
    with _switching:
        if module not in _switches:
            own = module.__dict__.get("forward")
            _switches[module] = _Switch(runs=0, own_forward=own)
            module.forward = functools.partial(instead, module, module.forward)
        _switches[module].runs += 1
    try:
        yield
    finally:
        with _switching:
            switch = _switches[module]
            switch.runs -= 1
            if switch.runs == 0:
                del _switches[module]
                del module.forward
                if switch.own_forward is not None:
                    module.forward = switch.own_forward


def _begin_call(_: nn.Module, forward: Callable[..., Any], sample: Tensor) -> Tensor:
    """Decide for a network call, at its first layer, whether features of the same shape can be reused."""
    kept: _Kept | None = getattr(_under_way, "kept", None)
    if kept is not None:
        shape = tuple(sample.shape)
        kept.call += 1
        kept.reuses = not kept.whole_step and kept.shapes.get(kept.call) == shape
        kept.shapes[kept.call] = shape
    return forward(sample)


def _keep_or_reuse(
    module: nn.Module, forward: Callable[..., Any], *positional: Any, **named: Any
) -> Tensor | tuple[Any, ...]:
    """Give a deep module's output of the last whole step, or run it and keep that."""
    kept: _Kept | None = getattr(_under_way, "kept", None)
    if kept is None or module not in kept.cut.modules:
        return forward(*positional, **named)
    place = (kept.call, module)
    if not kept.reuses:
        output = forward(*positional, **named)
        kept.features[place] = _copy(output) if module is kept.cut.last else output
        return output
    return _copy(kept.features[place]) if module is kept.cut.last else kept.features[place]


def _copy(output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """Copy what shallow layers read: FreeU scales its input in place."""
    return output.clone() if isinstance(output, Tensor) else tuple(one.clone() for one in output)
