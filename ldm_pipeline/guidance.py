"""Classifier-free guidance: when it acts, and the arithmetic of it.

Knows nothing of networks, schedulers or texts: tensors in, tensors out.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How strongly, and in which part of the schedule, the prompt pulls away from the negative prompt.

    A place in the schedule is a fraction: step k of n stands at k / n, 0 at pure noise. Image-to-image enters
    the same schedule late, so its first step stands at about 1 - strength.
    """

    scale: float = 7.5
    """Weight of the guided difference; 1 or less: no guidance, one network branch."""
    rescale: float = 0.0
    """Share of the prediction rescaled to the conditional one's spread, 0 to 1."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Guidance acts in [start, stop); outside it only the conditional branch is run (arXiv 2404.07724)."""
    negative_start: float = 0.0
    """Before this fraction the empty prompt stands in for the negative one: a negative prompt that acts from
    the first step can induce its object (arXiv 2406.02965)."""

    def acts_at(self, fraction: float) -> bool:
        """Tell whether a step at this place needs the unconditional branch."""
        start, stop = self.interval
        return self.scale > 1.0 and start <= fraction < stop

    def negative_acts_at(self, fraction: float) -> bool:
        """Tell whether the unconditional branch is the negative prompt's here, not the empty prompt's."""
        return fraction >= self.negative_start


def guided_prediction(
    unconditional: Float[Tensor, "batch channels height width"],
    conditional: Float[Tensor, "batch channels height width"],
    guidance: Guidance,
) -> Float[Tensor, "batch channels height width"]:
    """Move the conditional prediction away from the unconditional one.

    u + w (c - u), eq. 2 of Imagen (arXiv 2205.11487); both (pictures channels height width). Then, with
    phi = `guidance.rescale`, phi times the result rescaled to std(c) plus 1 - phi times the result, eq. 15
    and 16 of arXiv 2305.08891.
    """
    guided = unconditional + guidance.scale * (conditional - unconditional)
    if guidance.rescale == 0.0:
        return guided
    axes = list(range(1, guided.ndim))
    spread = conditional.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return guidance.rescale * (guided * spread) + (1 - guidance.rescale) * guided


def scale_embedding(scale: float, width: int, *, pictures: int) -> Float[Tensor, "batch width"]:
    """Embed the guidance scale for networks distilled with it (`time_cond_proj_dim`, arXiv 2310.04378).

    Sine and cosine features of 1000 (scale - 1), float32 (pictures width).
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
    angles = 1000.0 * (scale - 1.0) * frequencies
    features = torch.cat([angles.sin(), angles.cos()])
    return torch.nn.functional.pad(features, (0, width - 2 * half)).repeat(pictures, 1)
