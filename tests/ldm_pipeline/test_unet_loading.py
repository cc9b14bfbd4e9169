"""A UNet that is converted while it loads equals diffusers' own; what is not plain is left to diffusers."""

# pyright: reportPrivateImportUsage=false

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from ldm_pipeline import LatentDiffusionPipeline, unet_loading
from ldm_pipeline.unet_loading import WEIGHTS, load_unet
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("unet")
    tiny.make_unet().save_pretrained(place)
    return place


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("at_once", [1, 20_000, 2**28])
def test_it_equals_what_diffusers_loads(folder: Path, monkeypatch, dtype: torch.dtype, at_once: int):
    monkeypatch.setattr(unet_loading, "BYTES_AT_ONCE", at_once)
    opened: list[Path] = []

    def counting(file: Path, framework: str):
        opened.append(file)
        return open_file(file, framework=framework)

    open_file = unet_loading.safe_open
    monkeypatch.setattr(unet_loading, "safe_open", counting)
    ours = load_unet(folder, dtype=dtype)
    theirs = UNet2DConditionModel.from_pretrained(str(folder), torch_dtype=dtype, use_safetensors=True)
    assert ours is not None and not ours.training and ours.dtype == dtype
    assert ours.config == theirs.config
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert all(p.requires_grad for p in ours.parameters()) == all(
        p.requires_grad for p in theirs.parameters()
    )
    tensors = len(theirs.state_dict())
    assert len(opened) == {1: 1 + tensors, 2**28: 2}.get(at_once, len(opened))
    assert 2 < len(opened) < tensors or at_once != 20_000


def rewritten(folder: Path, target: Path, change) -> Path:
    """A copy of the UNet whose tensors went through `change`."""
    target.mkdir()
    (target / "config.json").write_text((folder / "config.json").read_text())
    save_file(change(load_file(folder / WEIGHTS)), target / WEIGHTS)
    return target


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {name: value.half() for name, value in tensors.items()},
        lambda tensors: {f"old.{name}": value for name, value in tensors.items()},
        lambda tensors: dict(list(tensors.items())[1:]),
        lambda tensors: {name: value[..., :1].contiguous() for name, value in tensors.items()},
    ],
    ids=["half", "other names", "one missing", "other shapes"],
)
def test_what_is_not_plain_is_left_to_diffusers(folder: Path, tmp_path: Path, change):
    assert load_unet(rewritten(folder, tmp_path / "unet", change), dtype=torch.bfloat16) is None


def test_nothing_is_gained_in_float32_from_shards_or_from_damage(folder: Path, tmp_path: Path):
    assert load_unet(folder, dtype=torch.float32) is None
    tiny.make_unet().save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert load_unet(tmp_path / "shards", dtype=torch.bfloat16) is None
    broken = rewritten(folder, tmp_path / "broken", dict)
    (broken / WEIGHTS).write_bytes((broken / WEIGHTS).read_bytes()[:-100])
    assert load_unet(broken, dtype=torch.bfloat16) is None
    quantized = rewritten(folder, tmp_path / "quantized", dict)
    config = json.loads((quantized / "config.json").read_text())
    (quantized / "config.json").write_text(json.dumps({**config, "quantization_config": {}}))
    assert load_unet(quantized, dtype=torch.bfloat16) is None


def test_a_pipeline_takes_it_where_nothing_else_was_asked(saved_folder, monkeypatch):
    loaded: list[Path] = []

    def noting(folder: Path, *, dtype: torch.dtype):
        loaded.append(folder)
        return load_unet(folder, dtype=dtype)

    monkeypatch.setattr("ldm_pipeline.components.load_unet", noting)
    pipe = LatentDiffusionPipeline.from_pretrained(saved_folder, dtype=torch.bfloat16)
    assert pipe.unet.dtype == pipe.vae.dtype == torch.bfloat16 and len(loaded) == 1
    assert pipe.unet.config["_name_or_path"] == str(Path(saved_folder) / "unet")
    for other in ({"unet": pipe.unet}, {"low_cpu_mem_usage": True}):
        LatentDiffusionPipeline.from_pretrained(saved_folder, dtype=torch.bfloat16, **other)
    assert len(loaded) == 1
