"""Seeds to noise: one generator per picture, drawn on the CPU in float32.

Knows nothing of schedulers or of what the noise is added to, and never touches the global random state.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

Generators = Generator | list[Generator]
"""One generator that draws a whole batch at once (diffusers' way), or one per picture (ours)."""


def generators_for(seeds: Sequence[int]) -> list[Generator]:
    """Make one CPU generator per seed; `seed=7` means `torch.Generator("cpu").manual_seed(7)`."""
    return [Generator("cpu").manual_seed(seed) for seed in seeds]


def draw_noise(
    shape: Sequence[int], generators: Generators, *, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "batch channels height width"]:
    """Draw standard normal noise of `shape` (pictures channels height width).

    With one generator per picture each picture is drawn alone: `torch.randn` is not prefix-stable, so a
    batch drawn at once would give the first picture other noise than it gets alone. Always float32, then
    cast, as in `Float32Draws`.
    """
    if isinstance(generators, list):
        alone = [
            randn_tensor((1, *shape[1:]), generator=g, device=device, dtype=torch.float32) for g in generators
        ]
        return torch.cat(alone).to(dtype)
    return randn_tensor(tuple(shape), generator=generators, device=device, dtype=torch.float32).to(dtype)


class Float32Draws(TorchFunctionMode):
    """While it is on, `torch.randn` draws in float32 in this thread and rounds to the type it was asked for.

    Schedulers and VAE posteriors draw in the number type of what they are given. In half precision that is
    the float32 noise, rounded, where a picture has a multiple of 16 numbers, and other noise altogether
    elsewhere (8 x 65 x 65 at 520 pixels); in float64 it always is (torch 2.15).
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        dtype = named.get("dtype")
        if func is not torch.randn or dtype is None or dtype == torch.float32:
            return func(*args, **named)
        return func(*args, **{**named, "dtype": torch.float32}).to(dtype)
