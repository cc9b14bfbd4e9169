"""Every example runs in an empty folder and leaves pictures in the folder it is given, which it makes.

What the pictures show is not its matter.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image

from ldm_pipeline import LatentDiffusionPipeline

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SLOW = {"06_train_everything_small.py", "07_lora.py"}


def check_pictures(example: Path, place: Path, *arguments: str) -> None:
    """Run an example in `place`; it must leave pictures of more than one color in `new/folder` there."""
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); runpy.run_path({str(example)!r})",
            "new/folder",
            *arguments,
        ],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    pictures = list(place.glob("new/folder/*.png"))
    assert pictures, "no picture was written"
    for path in pictures:
        with Image.open(path) as picture:
            low_and_high = picture.convert("L").getextrema()
        assert low_and_high[0] != low_and_high[1], f"{path.name} is one flat color"


@pytest.mark.parametrize(
    "example",
    [pytest.param(path, marks=[pytest.mark.slow] if path.name in SLOW else []) for path in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_an_example_leaves_pictures(example: Path, tmp_path: Path):
    check_pictures(example, tmp_path)


def test_the_example_of_loras_takes_a_file_and_trains_none(tmp_path: Path):
    unet = LatentDiffusionPipeline.from_pretrained().unet
    unet.add_adapter(LoraConfig(r=1, lora_alpha=1, target_modules=["to_q"]))
    layers: dict[str, torch.nn.Module | torch.Tensor] = {**get_peft_model_state_dict(unet)}
    LatentDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=layers, weight_name="own.safetensors"
    )
    check_pictures(ROOT / "examples" / "07_lora.py", tmp_path, "own.safetensors")
    assert not list(tmp_path.glob("new/folder/*.safetensors"))
