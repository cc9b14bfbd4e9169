"""Classifier-free guidance: when it acts, and the arithmetic of it and of weighted sums of prompts.

Knows nothing of networks, schedulers or texts: tensors in, tensors out.
"""

import functools
import math
from collections.abc import Sequence
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


@dataclass(frozen=True, kw_only=True)
class Term:
    """One network's answer for a batch, and its weight in each picture's sum."""

    prediction: Float[Tensor, "batch channels height width"]
    weight: Float[Tensor, " batch"] | None = None
    """None: 1 for all."""


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
    return composed_prediction([Term(prediction=unconditional)], [Term(prediction=conditional)], guidance)


def composed_prediction(
    negatives: Sequence[Term], prompts: Sequence[Term], guidance: Guidance
) -> Float[Tensor, "batch channels height width"]:
    """Move away from the mean of the negatives toward the weighted sum of the prompts.

    u + s sum_i w_i (c_i - u), conjunction and negation of Composable Diffusion (arXiv 2206.01714), where u is
    the weighted mean of the negatives' predictions and s is `guidance.scale`. One prompt of weight 1 and one
    negative: `guided_prediction`, to the bit. `guidance.rescale` takes the prompts' weighted mean for c.
    """
    u = weighted_mean(negatives)
    pull = _sum([_weighted(term.prediction - u, term.weight) for term in prompts])
    guided = u + guidance.scale * pull
    if guidance.rescale == 0.0:
        return guided
    axes = list(range(1, guided.ndim))
    spread = weighted_mean(prompts).std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return guidance.rescale * (guided * spread) + (1 - guidance.rescale) * guided


def weighted_mean(terms: Sequence[Term]) -> Float[Tensor, "batch channels height width"]:
    """Give sum_i w_i p_i / sum_i w_i; each picture's weights have a positive sum. A lone term is itself."""
    if len(terms) == 1:
        return terms[0].prediction
    ones = torch.ones_like(terms[0].prediction[:, 0, 0, 0], dtype=torch.float32)
    total = _sum([ones if term.weight is None else term.weight for term in terms])
    return _weighted(_sum([_weighted(term.prediction, term.weight) for term in terms]), 1 / total)


def _weighted(tensor: Tensor, weight: Tensor | None) -> Tensor:
    """Multiply each picture by its own weight; None changes no bit."""
    return tensor if weight is None else (weight[:, None, None, None] * tensor).to(tensor.dtype)


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    """Add tensors up, without a first zero: that would change the bits of -0."""
    return functools.reduce(torch.add, tensors)


def scale_embedding(scale: float, width: int, *, pictures: int) -> Float[Tensor, "batch width"]:
    """Embed the guidance scale for networks distilled with it (`time_cond_proj_dim`, arXiv 2310.04378).

    Sine and cosine features of 1000 (scale - 1), float32 (pictures width).
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
    angles = 1000.0 * (scale - 1.0) * frequencies
    features = torch.cat([angles.sin(), angles.cos()])
    return torch.nn.functional.pad(features, (0, width - 2 * half)).repeat(pictures, 1)
