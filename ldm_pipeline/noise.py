"""Seeds to noise: one generator per picture, drawn on the CPU in float32.

Knows nothing of schedulers or of what the noise is added to, and never touches the global random state.
"""

from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float
from torch import Generator, Tensor

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
    cast: float16 draws differ by rounding only, and float64 draws are other noise altogether.
    """
    if isinstance(generators, list):
        alone = [
            randn_tensor((1, *shape[1:]), generator=g, device=device, dtype=torch.float32) for g in generators
        ]
        return torch.cat(alone).to(dtype)
    return randn_tensor(tuple(shape), generator=generators, device=device, dtype=torch.float32).to(dtype)
