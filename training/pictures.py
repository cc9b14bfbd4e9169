"""uint8 pictures as numpy holds them <-> tensors in [-1, 1].

Knows nothing of files or of what the pictures show.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def picture_tensor(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [..., height, width, 3] -> float [-1, 1] [..., 3, height, width]."""
    return torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, -3).float().div_(127.5).sub_(1)


def picture_array(pictures: Tensor) -> NDArray[np.uint8]:
    """float [-1, 1] [..., 3, height, width] -> uint8 [..., height, width, 3]."""
    scaled = pictures.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return scaled.to(torch.uint8).movedim(-3, -1).cpu().numpy()
