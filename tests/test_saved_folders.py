"""Pipelines go from class to class and through folders: number types, variants and names that others read."""

# pyright: reportPrivateImportUsage=false

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
)

from ldm_pipeline import LatentDiffusionPipeline
from tests import tiny

SETTINGS = {"num_inference_steps": 2, "output_type": "np"}
THREE = [
    diffusers.StableDiffusionPipeline,
    diffusers.StableDiffusionImg2ImgPipeline,
    diffusers.StableDiffusionInpaintPipeline,
]


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def types(pipe: Any) -> set[torch.dtype]:
    return {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("cls", THREE)
def test_from_pipe_keeps_the_number_types_and_copies_the_scheduler(cls, dtype):
    theirs = cls(**tiny.make_components("epsilon")).to(dtype=dtype)
    ours = LatentDiffusionPipeline.from_pipe(theirs)
    assert types(ours) == types(theirs) == {dtype}
    assert ours.unet is theirs.unet and ours.scheduler is not theirs.scheduler
    assert ours.scheduler.config == theirs.scheduler.config
    theirs.scheduler.set_timesteps(5)
    assert ours.scheduler.num_inference_steps is None
    assert ours.config["requires_safety_checker"] is False


@pytest.mark.parametrize("cls", THREE)
def test_diffusers_classes_are_made_of_ours(cls):
    ours = tiny.make_pipeline("epsilon").to(dtype=torch.bfloat16)
    theirs = cls.from_pipe(ours, dtype=torch.bfloat16)
    assert types(ours) == types(theirs) == {torch.bfloat16} and theirs.vae is ours.vae


def test_from_pipe_draws_the_same_picture_and_takes_replacements():
    first = tiny.make_pipeline()
    first.known_words = frozenset(tiny.WORDS)
    scheduler, unet = tiny.make_scheduler(), tiny.make_unet()
    second = quiet(LatentDiffusionPipeline.from_pipe(first, scheduler=scheduler, unet=unet))
    assert second.scheduler is scheduler and second.unet is unet
    assert second.generation_defaults == first.generation_defaults
    assert second.known_words == first.known_words and second._is_flow_model
    drawn = [pipe("paris", seed=3, **SETTINGS).images for pipe in (first, second)]
    assert np.array_equal(drawn[0], drawn[1])
    assert types(LatentDiffusionPipeline.from_pipe(first, dtype=torch.bfloat16)) == {torch.bfloat16}


def test_from_pipe_refuses_what_this_pipeline_cannot_run():
    pipe = tiny.make_pipeline()
    with pytest.raises(ValueError, match="unet is a AutoencoderKL: this class takes UNet2DConditionModel"):
        LatentDiffusionPipeline.from_pipe(pipe, unet=pipe.vae)
    with pytest.raises(ValueError, match="a text_encoder_2: this class has one text encoder"):
        LatentDiffusionPipeline.from_pipe(pipe, text_encoder_2=pipe.text_encoder)
    with pytest.raises(ValueError, match="run code from elsewhere"):
        LatentDiffusionPipeline.from_pipe(pipe, custom_pipeline="somewhere")


def test_asked_for_pickles_it_warns_and_writes_safetensors(tmp_path: Path):
    with pytest.warns(UserWarning, match="safe_serialization=False would write pickles"):
        tiny.make_pipeline().save_pretrained(tmp_path, safe_serialization=False)
    assert not list(tmp_path.rglob("*.bin")) and len(list(tmp_path.rglob("*.safetensors"))) == 3


def test_a_variant_in_shards_opens_in_both_families(tmp_path: Path):
    pipe = tiny.make_pipeline().to(dtype=torch.float16)
    pipe.save_pretrained(tmp_path, variant="fp16", max_shard_size="60KB")
    files = [path.name for path in tmp_path.rglob("*.safetensors")]
    assert len(files) > 3 and all("fp16" in name for name in files)
    ours = LatentDiffusionPipeline.from_pretrained(tmp_path, variant="fp16", dtype=torch.float16)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(
        tmp_path, variant="fp16", dtype=torch.float16, use_safetensors=True
    )
    for opened in (ours, theirs):
        assert types(opened) == {torch.float16}
        for name in ("unet", "vae", "text_encoder"):
            found, saved = getattr(opened, name).state_dict(), getattr(pipe, name).state_dict()
            assert all(torch.equal(found[key], saved[key]) for key in saved)
    place = tmp_path / "text_encoder"
    held = {key: path.name for path in place.glob("*.safetensors") for key in load_file(path)}
    (index,) = place.glob("*.index*.json")
    assert json.loads(index.read_text())["weight_map"] == held
    assert len(set(held.values())) > 1 and all(key.startswith("text_model.") for key in held)


def test_a_folder_opens_with_a_number_type_for_each_component(tmp_path: Path):
    tiny.make_pipeline().save_pretrained(tmp_path)
    chosen = {"vae": torch.float32, "default": torch.float16}
    pipe = LatentDiffusionPipeline.from_pretrained(tmp_path, dtype=chosen)
    assert (pipe.vae.dtype, pipe.unet.dtype, pipe.text_encoder.dtype) == (
        torch.float32,
        torch.float16,
        torch.float16,
    )


def test_an_inpainting_unet_is_saved_as_what_it_is_and_opens_everywhere(tmp_path: Path):
    parts = tiny.make_components("epsilon")
    config = dict(parts["unet"].config) | {"in_channels": 9, "out_channels": 4}
    parts["unet"] = UNet2DConditionModel.from_config(config)  # pyright: ignore
    vae = dict(parts["vae"].config) | {"latent_channels": 4}
    parts["vae"] = diffusers.AutoencoderKL.from_config(vae)  # pyright: ignore
    LatentDiffusionPipeline(**parts).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionInpaintPipeline"
    assert type(diffusers.DiffusionPipeline.from_pretrained(tmp_path)) is THREE[2]
    assert type(diffusers.AutoPipelineForInpainting.from_pretrained(tmp_path)) is THREE[2]
    assert LatentDiffusionPipeline.from_pretrained(tmp_path).unet.config.in_channels == 9


def test_every_generic_class_opens_a_saved_folder(tmp_path: Path):
    tiny.make_pipeline("epsilon").save_pretrained(tmp_path)
    auto = (
        diffusers.AutoPipelineForText2Image,
        diffusers.AutoPipelineForImage2Image,
        diffusers.AutoPipelineForInpainting,
    )
    assert [type(cls.from_pretrained(tmp_path)) for cls in auto] == THREE
    assert type(diffusers.DiffusionPipeline.from_pretrained(tmp_path)) is THREE[0]


def test_text_encoder_and_tokenizer_are_saved_as_older_tools_read_them(tmp_path: Path):
    pipe = tiny.make_pipeline()
    pipe.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "text_encoder" / "model.safetensors")
    assert all(key.startswith("text_model.") for key in saved)
    names = {path.name for path in (tmp_path / "tokenizer").iterdir()}
    assert {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"} <= names
    again = LatentDiffusionPipeline.from_pretrained(tmp_path).text_encoder.state_dict()
    for key, weight in pipe.text_encoder.state_dict().items():
        assert torch.equal(again[key], weight)


def test_a_pipeline_in_parts_is_saved_and_opened(tmp_path: Path):
    parts: dict[str, Any] = tiny.make_components() | {"text_encoder": None, "tokenizer": None}
    LatentDiffusionPipeline(**parts).save_pretrained(tmp_path)
    opened = LatentDiffusionPipeline.from_pretrained(tmp_path, text_encoder=None, tokenizer=None)
    assert opened.unet is not None and opened.text_encoder is None


def write_real_world_folder(folder: Path) -> None:
    """A folder as Stable Diffusion 1.5's: with a safety checker, old keys, and buffers nobody reads now."""
    parts = tiny.make_components("epsilon")
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=16, projection_dim=8,
    )  # fmt: skip
    config = CLIPConfig(vision_config=vision.to_dict(), projection_dim=8)
    parts["safety_checker"] = StableDiffusionSafetyChecker(config)
    size = {"height": 32, "width": 32}
    parts["feature_extractor"] = CLIPImageProcessor(size=size, crop_size=size)
    parts["requires_safety_checker"] = True
    LatentDiffusionPipeline(**parts).save_pretrained(folder)
    weights = folder / "text_encoder" / "model.safetensors"
    held = load_file(weights) | {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file(held, weights, metadata={"format": "pt"})
    weights = folder / "safety_checker" / "model.safetensors"
    held = load_file(weights) | {"vision_model.vision_model.embeddings.position_ids": torch.arange(5)[None]}
    save_file(held, weights, metadata={"format": "pt"})


def test_a_folder_like_stable_diffusion_1_5s_opens_without_a_word(tmp_path: Path, caplog, capfd):
    write_real_world_folder(tmp_path)
    for logger in ("diffusers", "transformers"):
        logging.getLogger(logger).addHandler(caplog.handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipe = quiet(LatentDiffusionPipeline.from_pretrained(tmp_path))
    finally:
        for logger in ("diffusers", "transformers"):
            logging.getLogger(logger).removeHandler(caplog.handler)
    assert caplog.text == ""
    said = capfd.readouterr().err.replace("\r", "\n").splitlines()
    assert [line for line in said if line.strip() and "it/s" not in line and "Loading" not in line] == []
    assert type(pipe.safety_checker).__name__ == "StableDiffusionSafetyChecker"
    assert pipe.config["requires_safety_checker"] is True
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["safety_checker"][0] == "stable_diffusion" and index["requires_safety_checker"] is True
    assert len(pipe("paris", seed=1, num_inference_steps=1).nsfw_content_detected) == 1


def test_the_old_name_of_the_picture_reader_is_understood(tmp_path: Path):
    write_real_world_folder(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "CLIPFeatureExtractor"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    opened = LatentDiffusionPipeline.from_pretrained(tmp_path)
    assert isinstance(opened.feature_extractor, CLIPImageProcessor)


def test_a_text_encoder_with_a_projection_goes_through_a_folder(tmp_path: Path):
    parts = tiny.make_components()
    config = parts["text_encoder"].config
    projecting = CLIPTextModelWithProjection(config).eval()
    tiny.randomize(projecting, 6)
    parts["text_encoder"] = projecting
    pipe = quiet(LatentDiffusionPipeline(**parts))
    pipe.save_pretrained(tmp_path)
    opened = quiet(LatentDiffusionPipeline.from_pretrained(tmp_path))
    assert type(opened.text_encoder) is CLIPTextModelWithProjection
    assert LatentDiffusionPipeline.from_pipe(opened).text_encoder is opened.text_encoder
    drawn = [one("paris", seed=3, **SETTINGS).images for one in (pipe, opened)]
    assert np.array_equal(drawn[0], drawn[1])
