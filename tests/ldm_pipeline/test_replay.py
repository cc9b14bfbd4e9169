"""A recipe sets a pipeline up as it was; what is missing, other or not allowed is named in one line."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import dataclasses
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.guiders import AdaptiveProjectedGuidance, SkipLayerGuidance
from diffusers.hooks import LayerSkipConfig
from PIL import Image

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.recipe import PictureRecipe
from ldm_pipeline.recipe_parts import InputRecord
from ldm_pipeline.replay import CannotReplay, arguments_of, open_for
from tests import tiny


@pytest.fixture(scope="module")
def pipe(saved_folder: Path) -> Any:
    opened = LatentDiffusionPipeline.from_pretrained(saved_folder)
    opened.set_progress_bar_config(disable=True)
    return opened


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def again(recipe: PictureRecipe, folder: Path, **inputs) -> Image.Image:
    arguments, number = arguments_of(recipe, inputs=inputs)
    opened = open_for(recipe, model=str(folder))
    opened.set_progress_bar_config(disable=True)
    drawn = opened(**arguments)
    assert drawn.recipes is not None
    assert drawn.recipes[number].pixels_hash == recipe.pixels_hash
    return drawn.images[number]


CALLS = {
    "negative and rows": {
        "prompt": ["red car", "paris on the day"], "negative_prompt": ["umbrella", "dog"],
        "num_images_per_prompt": 2, "negative_start": 0.5, "guidance_interval": (0.2, 0.9),
    },
    "weights": {"prompt": "a (red:1.3) car", "prompt_syntax": "a1111"},
    "sum": {"prompt": [[("red car", 1.0), ("night", 0.5)]], "negative_prompt": [["umbrella", "dog"]]},
    "regions": {"prompt": "paris", "regions": [("red car", (0.0, 0.5, 0.5, 1.0), 0.7)]},
    "guider": {"prompt": "red car", "guider": AdaptiveProjectedGuidance(guidance_scale=3.0)},
    "not exact": {"prompt": ["red car", "paris"], "num_images_per_prompt": 2, "exact": False},
    "odd size": {"prompt": "red car", "height": 72, "width": 56},
    "sigmas": {"prompt": "red car", "sigmas": [0.9, 0.6, 0.2]},
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_recipe_of_a_call_draws_its_picture_again(pipe, saved_folder: Path, name: str):
    arguments = CALLS[name]
    pipe.use_scheduler("euler" if "sigmas" in arguments else "dpm++")
    drawn = pipe(**arguments, seed=7)
    last = len(drawn.images) - 1
    recipe = PictureRecipe.from_json(drawn.recipes[last].to_json())  # as read from a file
    assert again(recipe, saved_folder) == drawn.images[last]


@pytest.mark.parametrize("shared", [True, False])
def test_a_generators_state_draws_it_again(pipe, saved_folder: Path, shared: bool):
    pipe.use_scheduler("dpm++")
    each = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    drawn = pipe(["red car", "dog"], generator=each[0] if shared else each)
    assert again(drawn.recipes[1], saved_folder) == drawn.images[1]


def test_pictures_masks_and_latents_are_asked_for_by_hash(pipe, saved_folder: Path):
    pipe.use_scheduler("dpm++")
    start, mask = picture(), Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 32, 64, 64))
    drawn = pipe("red car", image=start, mask_image=mask, strength=0.8, seed=5)
    recipe = drawn.recipes[0]
    assert again(recipe, saved_folder, image=start, mask_image=mask) == drawn.images[0]
    with pytest.raises(
        CannotReplay, match=r"^the recipe needs image \(SHA-256 [0-9a-f]{12}\.\.\.\), which the"
    ):
        arguments_of(recipe)
    with pytest.raises(
        CannotReplay, match=r"^image has SHA-256 [0-9a-f]{12}\.\.\., the recipe's [0-9a-f]{12}"
    ):
        arguments_of(recipe, inputs={"image": picture(1), "mask_image": mask})
    with pytest.raises(CannotReplay, match=r"^latents was given, but the recipe has no such input"):
        arguments_of(recipe, inputs={"image": start, "mask_image": mask, "latents": torch.zeros(1)})
    noise = torch.randn(1, tiny.LATENT_CHANNELS, 8, 8, generator=torch.Generator().manual_seed(1))
    drawn = pipe("red car", latents=noise)
    assert again(drawn.recipes[0], saved_folder, latents=noise) == drawn.images[0]


def test_a_new_picture_in_the_manner_of_an_old_one_takes_other_inputs(pipe):
    pipe.use_scheduler("dpm++")
    drawn = pipe("red car", image=picture(), strength=0.8, generator=torch.Generator().manual_seed(2))
    arguments, number = arguments_of(drawn.recipes[0], inputs={"image": picture(1)}, as_they_were=False)
    assert number == 0 and "generator" not in arguments and arguments["strength"] == 0.8
    pipe(**arguments, seed=9)
    noise = torch.zeros(1, tiny.LATENT_CHANNELS, 8, 8)
    assert "latents" not in arguments_of(pipe("dog", latents=noise).recipes[0], as_they_were=False)[0]


def test_number_types_are_set_network_by_network(pipe, saved_folder: Path):
    recipe = dataclasses.replace(
        pipe("dog", seed=1).recipes[0],
        dtypes={"unet": "bfloat16", "vae": "float32", "text_encoder": "bfloat16"},
    )
    opened = open_for(recipe, model=str(saved_folder))
    kinds = (opened.unet.dtype, opened.vae.dtype, opened.text_encoder.dtype)
    assert kinds == (torch.bfloat16, torch.float32, torch.bfloat16)
    assert open_for(recipe, model=str(saved_folder), dtype="float32").unet.dtype == torch.float32


def test_the_scheduler_comes_with_its_whole_config(saved_folder: Path, pipe):
    recipe = pipe("dog", seed=1).recipes[0]
    other = dataclasses.replace(
        recipe,
        scheduler="UniPCMultistepScheduler",
        scheduler_config={**recipe.scheduler_config, "lambda_min_clipped": "-inf", "flow_shift": 2.5},
    )
    made = open_for(other, model=str(saved_folder)).scheduler
    assert type(made) is diffusers.UniPCMultistepScheduler and made.config["flow_shift"] == 2.5


def test_a_lora_is_found_by_its_hash_and_weighs_what_it_did(saved_folder: Path, tmp_path: Path):
    file = tiny.write_lora(tmp_path)
    pipe: Any = LatentDiffusionPipeline.from_pretrained(saved_folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name="style")
    pipe.set_adapters(["style"], [0.6])
    drawn = pipe("red car", seed=7, cross_attention_kwargs={"scale": 0.5})
    recipe = drawn.recipes[0]
    opened = open_for(recipe, model=str(saved_folder), loras=[file])
    opened.set_progress_bar_config(disable=True)
    assert opened(**arguments_of(recipe)[0]).images[0] == drawn.images[0]
    with pytest.raises(CannotReplay, match=r"^the recipe's LoRA pytorch_lora_weights\.safetensors \(SHA-256"):
        open_for(recipe, model=str(saved_folder), loras=[saved_folder / "model_index.json"])


def test_what_no_file_holds_and_what_is_not_allowed_is_refused(pipe, saved_folder: Path):
    pipe.use_scheduler("dpm++")
    layers = LayerSkipConfig(
        fqn="mid_block.attentions.0.transformer_blocks", indices=[0], skip_attention=True, skip_ff=False
    )
    skipping = SkipLayerGuidance(guidance_scale=3.0, skip_layer_guidance_stop=1.0, skip_layer_config=[layers])
    with pytest.raises(
        CannotReplay, match="^the recipe needs layers of SkipLayerGuidance, which the file does not"
    ):
        arguments_of(pipe("dog", seed=1, guider=skipping).recipes[0])
    recipe = pipe("dog", seed=1).recipes[0]
    for change, words in (
        ({"scheduler": "Path"}, "scheduler Path is none that this pipeline runs"),
        ({"guider": "BaseGuidance"}, "guider BaseGuidance is none that this pipeline runs"),
        ({"inputs": (InputRecord(name="ip_adapter", hash="a" * 64),)}, r"needs ip_adapter \(SHA-256 aaaa"),
        ({"unrecorded": ("callback_on_step_end",)}, "needs callback_on_step_end, which the file does not"),
    ):  # fmt: skip
        other = dataclasses.replace(recipe, **change)
        with pytest.raises(CannotReplay, match=words):
            arguments_of(other)
            open_for(other, model=str(saved_folder))
    with pytest.raises(
        CannotReplay, match=r"^the recipe's model postcards \(SHA-256 [0-9a-f]{12}\.\.\.\) is not"
    ):
        open_for(recipe)
