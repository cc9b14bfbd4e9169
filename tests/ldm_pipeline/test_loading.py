"""A model opens by folder, a wrong name, device, file or scheduler is one line that says what to do.

It uses a tiny random pipeline folder; the bundled model is not looked at.
"""

from pathlib import Path

import pytest
import torch

from ldm_pipeline.devices import fastest_dtype
from ldm_pipeline.loading import load_pipeline


def test_a_folder_opens_ready_to_draw(saved_folder: Path):
    pipeline = load_pipeline(saved_folder, device="cpu", scheduler="unipc", dtype="bfloat16")
    assert type(pipeline.scheduler).__name__ == "UniPCMultistepScheduler"
    assert pipeline.unet.dtype == pipeline.vae.dtype == pipeline.text_encoder.dtype == torch.bfloat16
    plain = load_pipeline(str(saved_folder), device="cpu")
    assert plain.unet.dtype == plain.vae.dtype == fastest_dtype(torch.device("cpu"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"model": "no-such-model"}, "no-such-model"),
        ({"model": "./no/such/folder"}, "no/such/folder"),
        ({"dtype": "float7"}, "use auto or one of float32"),
        ({"device": "abacus"}, "abacus"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"scheduler": "magic"}, "dpm++"),
        ({"scheduler": "ddim"}, "rectified-flow"),
        ({"lora": "missing.safetensors"}, "is not a file"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_what_cannot_be_loaded_is_one_line(saved_folder: Path, arguments: dict[str, str], complaint: str):
    with pytest.raises(ValueError) as caught:
        load_pipeline(**({"model": str(saved_folder), "device": "cpu"} | arguments))
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_only_safetensors_are_opened(saved_folder: Path, tmp_path: Path):
    pickle = tmp_path / "model.ckpt"
    pickle.write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match="safetensors"):
        load_pipeline(pickle, device="cpu")
    with pytest.raises(ValueError, match="safetensors"):
        load_pipeline(saved_folder, lora=pickle, device="cpu")
