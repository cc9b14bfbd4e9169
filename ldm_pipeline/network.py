"""One picture's share of a batch: what the denoising network is given when it computes a picture alone.

Knows nothing of guidance, schedules or texts.
"""

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor


def alone(batch: Shaped[Tensor, "batch ..."], picture: int) -> Shaped[Tensor, "1 ..."]:
    """Copy one picture's row, so that it lies in memory as it would in a run of that picture alone.

    Kernels are chosen by shapes and may be chosen by strides and by the alignment of the first number, which
    a view into a batch does not have: 8 x 65 x 65 numbers end in the middle of a cache line.
    """
    return batch[picture : picture + 1].clone(memory_format=torch.contiguous_format)


def rows_of(arguments: dict[str, Any], picture: int) -> dict[str, Any]:
    """Give one picture's rows of a network's arguments by name: tensors have a row per picture.

    `cross_attention_kwargs` holds what acts on all pictures alike and stays whole.
    """
    return {
        name: alone(value, picture) if isinstance(value, Tensor) else value
        for name, value in arguments.items()
    }
