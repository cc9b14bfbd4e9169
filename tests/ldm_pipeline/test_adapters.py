"""Additions are read from safetensors; pickles are refused with the command that converts them."""

# pyright: reportPrivateImportUsage=false

from pathlib import Path

import pytest
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ldm_pipeline import LatentDiffusionPipeline, load_pipeline
from tests import tiny


@pytest.fixture(scope="module")
def pipe() -> LatentDiffusionPipeline:
    """A pipeline to which nothing is ever added."""
    return tiny.make_pipeline()


@pytest.fixture
def pickles(tmp_path: Path) -> Path:
    """A folder of files that no test may open."""
    for name in ("learned_embeds.bin", "cat.pt", "pytorch_lora_weights.bin"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
    (tmp_path / "image_encoder").mkdir()
    (tmp_path / "image_encoder" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return tmp_path


def test_pickled_additions_are_refused_with_the_way_out(pipe, pickles):
    attempts = [
        lambda: pipe.load_textual_inversion(pickles / "cat.pt"),
        lambda: pipe.load_textual_inversion(str(pickles)),
        lambda: pipe.load_textual_inversion([str(pickles / "cat.pt")], token=["cat"]),
        lambda: pipe.load_textual_inversion(str(pickles), weight_name="cat.pt"),
        lambda: pipe.load_lora_weights(str(pickles)),
        lambda: pipe.load_lora_weights(str(pickles), weight_name="pytorch_lora_weights.bin"),
        lambda: pipe.load_lora_weights(pickles / "pytorch_lora_weights.bin"),
        lambda: pipe.load_ip_adapter(str(pickles), subfolder="", weight_name="ip-adapter.bin"),
        lambda: pipe.load_ip_adapter(str(pickles), subfolder="", weight_name=["ip-adapter.safetensors"]),
        lambda: load_pipeline(pickles / "cat.pt", device="cpu"),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match="run `ldm convert .* first") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="use_safetensors=False"):
        pipe.load_lora_weights("owner/name", use_safetensors=False)


def test_a_pickle_that_calls_itself_safetensors_is_not_opened(pipe, pickles):
    (pickles / "cat.pt").rename(pickles / "cat.safetensors")
    for load in (pipe.load_textual_inversion, pipe.load_lora_weights):
        with pytest.raises(ValueError, match="weights that cannot be read"):
            load(str(pickles / "cat.safetensors"))


def test_embeddings_and_loras_of_safetensors_are_learned(tmp_path):
    pipe = tiny.make_pipeline()
    save_file(
        {"<cat>": pipe.text_encoder.get_input_embeddings().weight[:1].clone()}, tmp_path / "c.safetensors"
    )
    pipe.load_textual_inversion(str(tmp_path / "c.safetensors"))
    assert pipe.tokenizer("<cat>").input_ids[1] == len(pipe.tokenizer) - 1
    lora = tiny.write_lora(tmp_path)
    pipe.load_lora_weights(lora)
    assert pipe.get_list_adapters() == {"unet": ["default_0"]}
    pipe.unload_lora_weights()
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="second")
    assert pipe.get_list_adapters() == {"unet": ["second"]}


def test_an_ip_adapters_picture_encoder_is_read_from_safetensors(tmp_path):
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=16, projection_dim=8,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "models" / "image_encoder")
    save_file({"other": tiny.make_unet().conv_in.weight.detach()}, tmp_path / "models" / "a.safetensors")
    pipe = tiny.make_pipeline()
    with pytest.raises(Exception):  # noqa: B017 (this file holds no adapter; diffusers' error names no kind)
        pipe.load_ip_adapter(str(tmp_path), subfolder="models", weight_name="a.safetensors")
    assert pipe.image_encoder.config.hidden_size == 16
