"""What a call drew with stands in its recipes, as it was at the time of the call.

Pictures are drawn by tiny networks; files are test_picture_files' matter.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.guiders import AdaptiveProjectedGuidance
from PIL import Image

from ldm_pipeline import load_pipeline, read_recipe
from ldm_pipeline.call_record import input_hash, model_name
from ldm_pipeline.drawn import DrawnPicture
from ldm_pipeline.recipe import PictureRecipe, pixels_hash
from ldm_pipeline.weights import tensors_hash
from tests import tiny

STEPS: dict[str, Any] = {"num_inference_steps": 2}


@pytest.fixture
def own():
    """A pipeline that a test may change."""
    return tiny.make_pipeline("epsilon")


def names(recipe: PictureRecipe) -> list[str]:
    return [entry.name for entry in recipe.needs]


def test_every_picture_has_its_recipe(eps_pipe):
    result = eps_pipe(["a red car", "a dog"], num_images_per_prompt=2, seed=5, **STEPS)
    assert [recipe.seed for recipe in result.recipes] == [5, 6, 7, 8]
    assert [picture.recipe for picture in result.images] == list(result.recipes)
    recipe = result.recipes[-1]
    assert (recipe.prompt, recipe.picture, recipe.request) == ("a dog", 3, result.request)
    assert recipe.pixels_hash == pixels_hash(result.images[3])
    assert recipe.dtypes == {"unet": "float32", "vae": "float32", "text_encoder": "float32"}
    assert (recipe.device, recipe.threads) == ("cpu", torch.get_num_threads())
    assert recipe.environment["cpu"] == torch.backends.cpu.get_cpu_capability()
    assert {"machine", "attention"} <= {*recipe.environment} and recipe.versions["torch"] == torch.__version__
    assert recipe.replayable and recipe.generator is None
    assert PictureRecipe.from_json(recipe.to_json()) == recipe
    assert len(result.recipes[1:3]) == 2
    with pytest.raises(IndexError):
        result.recipes[4]


@pytest.mark.parametrize("output_type", ["np", "pt", "latent"])
def test_results_that_are_no_pictures_have_recipes_too(eps_pipe, output_type: str):
    result = eps_pipe("a red car", seed=5, output_type=output_type, **STEPS)
    (recipe,) = result.recipes
    assert (recipe.seed, recipe.pixels_hash) == (5, "")


def test_a_result_may_be_pickled_and_its_pictures_used_again(eps_pipe):
    result = eps_pipe("a red car", seed=5, **STEPS)
    again = pickle.loads(pickle.dumps(result.recipes))
    assert list(again) == list(result.recipes)
    pictures, blocked = eps_pipe("a red car", seed=5, return_dict=False, **STEPS)
    assert blocked is None and isinstance(pictures[0], DrawnPicture)
    assert pictures[0] == result.images[0]
    next_one = eps_pipe("a dog", image=pictures[0], strength=0.5, seed=5, **STEPS)
    assert next_one.recipes[0].hashes_of("image") == (result.recipes[0].pixels_hash,)


def test_facts_are_those_of_the_call(own):
    result = own("a red car", seed=5, **STEPS)
    own.scheduler = DDIMScheduler()
    with torch.no_grad():
        next(own.unet.parameters()).add_(1)
    recipe = result.recipes[0]
    assert recipe.scheduler == "DPMSolverMultistepScheduler"
    assert recipe.scheduler_config["beta_schedule"] == "scaled_linear"
    assert recipe.model_hash == "", "the weights are gone, and no others take their place"
    assert len(own("a red car", seed=5, **STEPS).recipes[0].model_hash) == 64


def test_a_callers_generator_is_recorded_before_it_draws(eps_pipe):
    generator = torch.Generator().manual_seed(3)
    torch.randn(5, generator=generator)
    result = eps_pipe(["a red car", "a dog"], generator=generator, **STEPS)
    recipe = result.recipes[1]
    assert recipe.seed is None and recipe.generator is not None and recipe.generator.shared
    assert len(recipe.to_json()) < 7_000
    again = torch.Generator(recipe.generator.device)
    again.set_state(torch.frombuffer(bytearray(recipe.generator.state_bytes), dtype=torch.uint8))
    repeated = eps_pipe(**recipe.request.to_arguments(), generator=again)
    assert [pixels_hash(one) for one in repeated.images] == [one.pixels_hash for one in result.recipes]
    each = [torch.Generator().manual_seed(i) for i in range(2)]
    one, two = eps_pipe(["a red car", "a dog"], generator=each, **STEPS).recipes
    assert not one.generator.shared and one.generator != two.generator


def test_what_was_given_is_known_by_hash(eps_pipe):
    latents = torch.zeros(1, 8, 8, 8)
    states, _ = eps_pipe.encode_prompt("a dog")
    result = eps_pipe(prompt_embeds=states, negative_prompt_embeds=states * 0, latents=latents, **STEPS)
    recipe = result.recipes[0]
    assert names(recipe) == ["latents", "prompt_embeds", "negative_prompt_embeds"]
    assert recipe.hashes_of("latents") == (tensors_hash({"": latents}),)
    assert not recipe.replayable and recipe.generator is not None, "fresh seeds drew the later noise"
    start, mask = Image.new("RGB", (64, 64), "navy"), Image.new("L", (64, 64), "white")
    recipe = eps_pipe("a car", image=[start], mask_image=mask, seed=1, **STEPS).recipes[0]
    assert [(entry.name, entry.hash) for entry in recipe.needs] == [
        ("image", pixels_hash(start)),
        ("mask_image", pixels_hash(mask.convert("RGB"))),
    ]


def test_a_picture_has_one_hash_however_it_is_given():
    picture = Image.effect_noise((12, 8), 50)
    colored = picture.convert("RGB")
    pixels = np.asarray(colored)
    forms = [picture, colored, pixels, torch.from_numpy(pixels.copy()).permute(2, 0, 1), np.asarray(picture)]
    assert {input_hash(form) for form in forms} == {pixels_hash(colored)}
    assert input_hash(pixels / 255.0) not in ("", pixels_hash(colored))
    assert input_hash("no picture") == ""


def test_regions_guiders_and_what_no_recipe_holds(own):
    mask = Image.new("L", (64, 64), "white")
    recipe = own(
        "a red car",
        regions=[("a dog", (0, 0.5, 1, 1)), ("a cat", mask, 0.5)],
        guider=AdaptiveProjectedGuidance(guidance_scale=3.0),
        callback_on_step_end=lambda pipe, step, timestep, tensors: tensors,
        seed=1,
        **STEPS,
    ).recipes[0]
    dog, cat = recipe.regions
    assert (dog.text, dog.box, dog.weight, dog.mask_hash) == ("a dog", (0.0, 0.5, 1.0, 1.0), 1.0, "")
    assert (cat.text, cat.box, cat.weight, len(cat.mask_hash)) == ("a cat", None, 0.5, 64)
    assert (recipe.guider, recipe.guider_config["guidance_scale"]) == ("AdaptiveProjectedGuidance", 3.0)
    assert names(recipe) == ["mask of region 1", "callback_on_step_end"]
    own.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    own.vae.enable_tiling()
    assert names(own("a red car", seed=1, **STEPS).recipes[0]) == ["FreeU", "VAE tiling"]


def test_loras_stand_in_the_recipe_with_their_weights(saved_folder: Path, tmp_path: Path):
    pipe: Any = load_pipeline(saved_folder, device="cpu", dtype="float32", lora=tiny.write_lora(tmp_path))
    pipe.set_progress_bar_config(disable=True)
    result = pipe("a red car", seed=1, cross_attention_kwargs={"scale": 0.5}, **STEPS)
    pipe.unload_lora_weights()
    recipe = result.recipes[0]
    (lora,) = recipe.loras
    assert (lora.name, lora.weight, lora.uneven) == ("pytorch_lora_weights.safetensors", 1.0, False)
    assert len(lora.hash) == 64 and recipe.lora_scale == 0.5
    assert str(tmp_path) not in recipe.to_json()
    again = pipe("a red car", seed=1, **STEPS).recipes[0]
    assert (again.loras, again.lora_scale) == ((), None)


def test_a_picture_is_saved_with_all_of_it(eps_pipe, tmp_path: Path):
    (picture,) = eps_pipe("a red car", seed=5, **STEPS).images
    picture.save(tmp_path / "a.webp", lossless=True)
    assert read_recipe(tmp_path / "a.webp") == picture.recipe
    with Image.open(tmp_path / "a.webp") as again:
        assert pixels_hash(again) == picture.recipe.pixels_hash
    other = dataclasses.replace(picture.recipe, threads=3)
    assert other != picture.recipe


def test_a_models_name_is_no_path():
    assert model_name("/some/where/postcards/") == "postcards"
    assert model_name("C:\\models\\a.safetensors") == "a.safetensors"
    assert model_name("/cache/models--owner--stable-diffusion/snapshots/0123") == "stable-diffusion"
    assert model_name("owner/name") == "name" and model_name("") == ""
