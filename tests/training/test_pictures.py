"""Pictures come back from tensors as they went in."""

import numpy as np
import torch

from training.pictures import picture_array, picture_tensor


def test_every_byte_comes_back():
    images = np.arange(256 * 3, dtype=np.uint32).astype(np.uint8).reshape(1, 16, 16, 3)
    assert np.array_equal(picture_array(picture_tensor(images)), images)


def test_black_is_minus_one_and_white_is_one_with_channels_first():
    images = np.zeros((2, 4, 6, 3), dtype=np.uint8)
    images[..., 1] = 255
    tensor = picture_tensor(images)
    assert tensor.shape == (2, 3, 4, 6)
    assert tensor[:, 0].unique().tolist() == [-1] and tensor[:, 1].unique().tolist() == [1]


def test_what_lies_outside_the_range_is_clamped():
    assert picture_array(torch.tensor([-3.0, 0.0, 3.0])[:, None, None]).ravel().tolist() == [0, 128, 255]
