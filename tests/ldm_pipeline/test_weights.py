"""Weights have one hash however they were loaded, and another once they were changed.

Which of these hashes stand in a recipe is test_call_record's matter.
"""

import gc
import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from ldm_pipeline import load_pipeline
from ldm_pipeline.folder import model_hash
from ldm_pipeline.weights import active_adapters, ip_adapter_hash, tensors_hash, weights_hash
from tests import tiny


@pytest.fixture
def loaded(saved_folder: Path):
    return load_pipeline(saved_folder, device="cpu", dtype="float32")


def test_a_folder_has_its_files_hash_in_any_number_type(loaded, saved_folder: Path):
    wanted = model_hash(saved_folder)
    assert weights_hash(loaded)() == wanted
    assert weights_hash(loaded.to(torch.bfloat16))() == wanted
    half = load_pipeline(saved_folder, device="cpu", dtype="bfloat16")
    assert weights_hash(half)() == wanted
    assert weights_hash(type(half).from_pipe(half))() == wanted


def test_weights_that_were_trained_or_replaced_have_another_hash(loaded, saved_folder: Path):
    wanted = model_hash(saved_folder)
    before = weights_hash(loaded)
    with torch.no_grad():
        next(loaded.vae.parameters()).mul_(2)
    changed = weights_hash(loaded)()
    assert len(changed) == 64 and changed != wanted == before()
    with torch.no_grad():
        next(loaded.vae.parameters()).mul_(2)
    assert weights_hash(loaded)() not in ("", wanted, changed)
    other = load_pipeline(saved_folder, device="cpu", dtype="float32")
    other.unet = tiny.make_unet()
    assert weights_hash(other)() not in ("", wanted)


def test_a_folder_that_changed_since_has_no_hash(saved_folder: Path, tmp_path: Path):
    folder = Path(shutil.copytree(saved_folder, tmp_path / "copy"))
    later = weights_hash(load_pipeline(folder, device="cpu", dtype="float32"))
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert later() == ""
    shutil.rmtree(folder)
    assert later() == ""


def test_parts_have_the_hash_of_their_tensors():
    one, same = tiny.make_pipeline(), tiny.make_pipeline()
    first = weights_hash(one)()
    assert len(first) == 64 and first == weights_hash(same)()
    later = weights_hash(same)
    with torch.no_grad():
        next(same.unet.parameters()).add_(1)
    assert later() == "", "what a call drew with is gone"
    assert weights_hash(same)() not in ("", first)
    later = weights_hash(one)
    one.to(torch.float16)
    assert later() == "" and weights_hash(one)() not in ("", first), "number types count in memory"
    later = weights_hash(one)
    del one
    gc.collect()
    assert later() == "", "a recipe keeps no network alive"


def test_a_lora_is_known_by_its_file_and_leaves_the_model_its_hash(
    loaded, saved_folder: Path, tmp_path: Path
):
    assert active_adapters(loaded) == []
    lora = tiny.write_lora(tmp_path / "mine")
    loaded.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="ink")
    loaded.set_adapters(["ink"], [0.25])
    (adapter,) = active_adapters(loaded.to(torch.bfloat16))
    assert (adapter.name, adapter.weight, adapter.uneven) == (lora.name, 0.25, False)
    assert adapter.hash() == hashlib.sha256(lora.read_bytes()).hexdigest()
    assert weights_hash(loaded)() == model_hash(saved_folder)
    loaded.disable_lora()
    assert active_adapters(loaded) == []


def test_a_lora_that_was_trained_on_or_came_from_memory_is_known_by_its_tensors(loaded, tmp_path: Path):
    lora = tiny.write_lora(tmp_path)
    loaded.load_lora_weights(str(lora.parent), adapter_name="ink")
    from_file = active_adapters(loaded)[0]
    with torch.no_grad():
        next(tensor for name, tensor in loaded.unet.named_parameters() if "lora_" in name).add_(1)
    trained = active_adapters(loaded)[0]
    assert (from_file.name, trained.name) == (lora.name, "ink")
    assert len(trained.hash()) == 64 and trained.hash() != from_file.hash()
    other = tiny.make_pipeline()
    other.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="ink")
    tensors = {name: one for name, one in other.unet.named_parameters() if "lora_" in name}
    assert tensors_hash(tensors) != "" and active_adapters(other)[0].hash() == from_file.hash()


def test_loras_that_act_unevenly_or_were_fused_are_told(loaded, saved_folder: Path, tmp_path: Path):
    lora = tiny.write_lora(tmp_path)
    loaded.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="ink")
    layers = [one for one in loaded.unet.modules() if hasattr(one, "lora_A")]
    layers[0].scale_layer(0.5)
    assert [(one.weight, one.uneven) for one in active_adapters(loaded)] == [(1.0, True)]
    layers[0].scale_layer(2.0)
    loaded.fuse_lora()
    assert [(one.weight, one.uneven) for one in active_adapters(loaded)] == [(1.0, False)]
    assert weights_hash(loaded)() == model_hash(saved_folder)
    loaded.unload_lora_weights()
    assert active_adapters(loaded) == []
    assert weights_hash(loaded)() not in ("", model_hash(saved_folder)), "the LoRA is in the weights now"


def test_a_unet_without_ip_adapters_has_no_hash_of_one():
    assert ip_adapter_hash(tiny.make_unet()) is None


def test_tensors_are_told_apart_by_name_type_shape_and_bytes():
    one = torch.arange(4.0)
    hashes = [
        tensors_hash({"a": one}),
        tensors_hash({"b": one}),
        tensors_hash({"a": one.double()}),
        tensors_hash({"a": one.reshape(2, 2)}),
        tensors_hash({"a": one + 1}),
        tensors_hash({"a": one.bfloat16()}),
    ]
    assert len({*hashes}) == len(hashes)
    assert tensors_hash({"a": torch.arange(8.0)[::2] / 2}) == hashes[0], "whatever the layout"
    assert tensors_hash({"a": one.to("meta")}) == ""
