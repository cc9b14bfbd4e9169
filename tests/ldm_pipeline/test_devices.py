"""A device is one that works, and "auto" means the number type that the hardware has instructions for."""

import pytest
import torch

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.devices import checked_device, fastest_dtype


def test_the_best_device_is_one_that_works():
    place = checked_device(None)
    assert torch.ones(2, device=place).sum().item() == 2


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        ({"avx512_bf16": True, "avx2": True}, torch.bfloat16),
        ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ({"architecture": "aarch64", "bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_has_instructions(monkeypatch, features, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    assert fastest_dtype(torch.device("cpu")) == dtype


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_an_accelerator_computes_in_half_precision(monkeypatch, native, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native)
    assert fastest_dtype(torch.device("cuda")) == dtype
    assert fastest_dtype(torch.device("mps")) == torch.float16


def test_a_folder_opens_in_it(saved_folder):
    pipe = LatentDiffusionPipeline.from_pretrained(saved_folder, dtype="auto")
    assert pipe.unet.dtype == pipe.vae.dtype == fastest_dtype(checked_device(None))
    assert LatentDiffusionPipeline.from_pretrained(saved_folder).unet.dtype == torch.float32
