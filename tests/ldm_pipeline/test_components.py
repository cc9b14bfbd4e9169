"""Folders go out to every tool of the Stable Diffusion family and come back unchanged."""

# pyright: reportPrivateImportUsage=false

import json
import warnings
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from ldm_pipeline import GenerationRequest, LatentDiffusionPipeline
from tests import tiny

SAME = {"num_inference_steps": 3, "guidance_scale": 4.0, "output_type": "np"}


def quiet(pipe) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_saved_folder_is_a_stable_diffusion_folder_without_machine_paths(saved_folder, tmp_path):
    pipe = quiet(LatentDiffusionPipeline.from_pretrained(saved_folder))
    pipe.save_pretrained(tmp_path / "again")
    assert (
        json.loads((tmp_path / "again" / "model_index.json").read_text())["_class_name"]
        == "StableDiffusionPipeline"
    )
    for path in (tmp_path / "again").rglob("*.json"):
        assert str(saved_folder) not in path.read_text() and "name_or_path" not in path.read_text()


@pytest.mark.parametrize(
    "cls",
    [
        LatentDiffusionPipeline,
        diffusers.StableDiffusionPipeline,
        diffusers.DiffusionPipeline,
        diffusers.AutoPipelineForText2Image,
    ],
)
def test_every_class_opens_the_folder_and_draws_the_same_picture(saved_folder, cls):
    settings = {**SAME, "generator": torch.Generator("cpu").manual_seed(7)}
    ours = quiet(tiny.make_pipeline())("paris", seed=7, **SAME).images
    opened = quiet(cls.from_pretrained(saved_folder))
    own = {"negative_start": 0.0} if cls is LatentDiffusionPipeline else {}
    assert np.abs(opened("paris", **settings, **own).images - ours).max() < 1e-4


def test_a_folder_saved_in_half_precision_opens_in_diffusers_without_a_number_type(tmp_path):
    pipe = tiny.make_pipeline().to(dtype=torch.float16)
    pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "text_encoder" / "config.json").read_text())["dtype"] == "float32"
    theirs = quiet(diffusers.StableDiffusionPipeline.from_pretrained(tmp_path))
    assert theirs.unet.dtype == theirs.vae.dtype == theirs.text_encoder.dtype == torch.float32
    ours = quiet(LatentDiffusionPipeline.from_pretrained(tmp_path))
    drawn = [one("paris", generator=torch.Generator("cpu").manual_seed(7), **SAME) for one in (ours, theirs)]
    assert np.abs(drawn[0].images - drawn[1].images).max() < 1e-4
    half = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path, dtype=torch.float16)
    assert half.unet.dtype == half.vae.dtype == half.text_encoder.dtype == torch.float16


def test_a_folder_that_names_our_class_is_opened_by_the_generic_classes_too(tmp_path):
    folder = tiny.write_folder(tmp_path / "named")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", "LatentDiffusionPipeline"))
    for cls in (
        diffusers.DiffusionPipeline,
        diffusers.AutoPipelineForText2Image,
        diffusers.AutoPipelineForImage2Image,
        diffusers.AutoPipelineForInpainting,
        LatentDiffusionPipeline,
    ):
        assert type(cls.from_pretrained(folder)) is LatentDiffusionPipeline


def test_the_folders_defaults_are_used_unless_an_argument_says_otherwise(saved_folder):
    pipe = quiet(LatentDiffusionPipeline.from_pretrained(saved_folder))
    request = pipe("paris", output_type="latent").request
    assert (request.num_inference_steps, request.guidance_scale, request.negative_start) == (4, 4.0, 0.25)
    request = pipe("paris", num_inference_steps=2, negative_start=0.0, output_type="latent").request
    assert (request.num_inference_steps, request.negative_start) == (2, 0.0)


def test_without_defaults_diffusers_own_apply(flow_pipe):
    assert isinstance(flow_pipe.generation_defaults.num_inference_steps, int)
    request = flow_pipe("paris", num_inference_steps=1, output_type="latent").request
    assert isinstance(request, GenerationRequest)
    assert (request.guidance_scale, request.guidance_interval, request.negative_start) == (
        7.5,
        (0.0, 1.0),
        0.0,
    )
    assert flow_pipe.generation_defaults.num_inference_steps == 50


def test_defaults_and_known_words_survive_saving(saved_folder, tmp_path):
    first = LatentDiffusionPipeline.from_pretrained(saved_folder)
    first.save_pretrained(tmp_path / "again")
    second = LatentDiffusionPipeline.from_pretrained(tmp_path / "again")
    assert second.generation_defaults == first.generation_defaults
    assert second.known_words == first.known_words and "umbrella" in (second.known_words or ())


def test_default_size_and_scheduler_of_a_folder_are_taken(tmp_path):
    folder = tiny.write_folder(tmp_path / "sized")
    chosen = {"height": 48, "width": 80, "scheduler": "unipc", "num_inference_steps": 2}
    (folder / "generation_defaults.json").write_text(json.dumps(chosen))
    out = quiet(LatentDiffusionPipeline.from_pretrained(folder))("paris", seed=1)
    assert out.images[0].size == (80, 48) and out.request.scheduler == "UniPCMultistepScheduler"
    (folder / "generation_defaults.json").write_text('{"stepz": 3}')
    with pytest.raises(ValueError, match="'stepz' is unknown"):
        LatentDiffusionPipeline.from_pretrained(folder)


def test_words_the_model_never_saw_are_named_and_known_ones_are_not(saved_folder):
    pipe = quiet(LatentDiffusionPipeline.from_pretrained(saved_folder))
    with pytest.warns(UserWarning, match="never trained on the words 'zebra', 'piano': "):
        pipe("a Zebra in Paris", negative_prompt="piano and rain", output_type="latent")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pipe("A red car in Paris, at".removesuffix(", at"), negative_prompt="umbrella", output_type="latent")


def test_a_lora_may_have_taught_words_that_the_model_does_not_know(saved_folder, tmp_path):
    pipe = quiet(LatentDiffusionPipeline.from_pretrained(saved_folder))
    pipe.load_lora_weights(tiny.write_lora(tmp_path / "lora"))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "this model was never trained")
        pipe("a zebra", output_type="latent")
    pipe.unload_lora_weights()
    with pytest.warns(UserWarning, match="never trained on the words 'zebra'"):
        pipe("a zebra", output_type="latent")


def test_weights_load_as_float32_whatever_they_are_saved_as(tmp_path):
    tiny.make_pipeline().to(torch.float16).save_pretrained(tmp_path / "half")
    for dtype, expected in ((None, torch.float32), (torch.bfloat16, torch.bfloat16)):
        given = {} if dtype is None else {"dtype": dtype}
        pipe = LatentDiffusionPipeline.from_pretrained(tmp_path / "half", **given)
        assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {expected}


def test_half_precision_draws_nearly_the_same_picture(tmp_path, flow_pipe):
    tiny.make_pipeline().save_pretrained(tmp_path / "whole")
    half = quiet(LatentDiffusionPipeline.from_pretrained(tmp_path / "whole", dtype=torch.bfloat16))
    drawn = [pipe("paris", seed=7, **SAME).images for pipe in (flow_pipe, half)]
    assert np.abs(drawn[0] - drawn[1]).mean() < 0.03


def test_a_folder_without_safety_checker_loads_without_a_word(saved_folder, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LatentDiffusionPipeline.from_pretrained(saved_folder)
    assert "safety" not in caplog.text


def test_the_schedulers_of_a_folder_can_be_exchanged_by_name(saved_folder):
    pipe = quiet(LatentDiffusionPipeline.from_pretrained(saved_folder))
    pipe.use_scheduler("euler")
    assert type(pipe.scheduler).__name__ == "FlowMatchEulerDiscreteScheduler"
    assert np.isfinite(pipe("paris", seed=1, output_type="np").images).all()
    with pytest.raises(ValueError, match="scheduler='ddim' cannot run"):
        pipe.use_scheduler("ddim")


def test_a_scheduler_passed_to_from_pretrained_does_not_change_what_the_model_is(saved_folder):
    pipe = quiet(LatentDiffusionPipeline.from_pretrained(saved_folder, scheduler=diffusers.DDIMScheduler()))
    with pytest.raises(ValueError, match="rectified-flow"):
        pipe("paris")
