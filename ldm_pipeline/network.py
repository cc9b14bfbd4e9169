"""Rows of a batch through the denoising network, together or one picture at a time.

Knows nothing of guidance, schedules or texts.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def rows_of(arguments: dict[str, Any], picture: int) -> dict[str, Any]:
    """Give one picture's rows of a network's arguments by name: tensors have a row per picture.

    `cross_attention_kwargs` holds what acts on all pictures alike and stays whole.
    """
    return {
        name: value[picture : picture + 1] if isinstance(value, Tensor) else value
        for name, value in arguments.items()
    }


def call_network(
    unet: Any,
    model_input: Float[Tensor, "batch channels height width"],
    timestep: Tensor,
    arguments: dict[str, Any],
    *,
    exact: bool,
) -> Float[Tensor, "batch channels height width"]:
    """Run the network on one row per picture; `exact`: on each alone, so that no neighbor changes its bits.

    Kernels, and with them the order of sums, are chosen by shapes: a batch of eight gives other last bits
    than eight batches of one. Tensors in `arguments` have a row per picture.
    """
    pictures = len(model_input)
    if not exact or pictures == 1:
        return unet(model_input, timestep, **arguments, return_dict=False)[0]
    answers = [
        unet(
            model_input[i : i + 1],
            timestep,
            **rows_of(arguments, i),
            return_dict=False,
        )[0]
        for i in range(pictures)
    ]
    return torch.cat(answers)
