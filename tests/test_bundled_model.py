"""The model that comes with the package: its size, its picture in stock diffusers too, its words, its card.

Knows nothing of how good its pictures are: the report beside the weights tells that.
"""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]
from safetensors import safe_open

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.folder import LORA_FILE, MODELS, model_hash
from ldm_pipeline.judge import Recogniser
from ldm_pipeline.loading import load_pipeline
from ldm_pipeline.reproduce import reproduce
from training.data.postcards import PostcardConfig, render_postcards
from training.parts import LEGS
from training.pictures import picture_tensor
from training.recipes import RECIPES, Recipe
from training.recogniser import all_codes, field_accuracy

MODEL, JUDGE, SECOND_JUDGE = MODELS / "postcards", MODELS / "judge", MODELS / "second_judge"
FEW_STEPS = MODELS / "few_steps"
LARGEST_FILE_BYTES, LARGEST_SUM_BYTES = 15_000_000, 60_000_000
FRESH_SEED = 90_210
"""A stream of scenes that neither training nor evaluation draws from."""

pytestmark = [
    pytest.mark.skipif(not (MODEL / "model_index.json").is_file(), reason="no bundled model here"),
    # diffusers' DPM-Solver under numpy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def pipe() -> Any:
    """The bundled model as a call without arguments opens it."""
    opened = LatentDiffusionPipeline.from_pretrained()
    opened.set_progress_bar_config(disable=True)
    return opened


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """The recipe that the model was last trained with."""
    return RECIPES[json.loads((MODEL / LEGS).read_text())[-1]["recipe"]]


def few_steps(pipe: Any, prompt: str, *, seed: int) -> np.ndarray:
    """A picture in [0, 1] of four steps."""
    return pipe(prompt, seed=seed, num_inference_steps=4, output_type="np").images[0]


def test_model_and_judges_are_small_enough_to_be_committed():
    sizes = {
        path.relative_to(MODELS).as_posix(): path.stat().st_size
        for folder in (MODEL, JUDGE, SECOND_JUDGE, FEW_STEPS)
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert {name: size for name, size in sizes.items() if size > LARGEST_FILE_BYTES} == {}
    # Card, report and contact sheets lie at the top of the folder and are no part of the model.
    parts = {name: size for name, size in sizes.items() if name.count("/") > 1 or "postcards" not in name}
    assert 1_000_000 < sum(parts.values()) <= LARGEST_SUM_BYTES


def test_all_its_weights_are_safetensors_in_half_precision():
    assert not [path for pattern in ("*.bin", "*.pt", "*.ckpt") for path in MODELS.rglob(pattern)]
    for path in [path for folder in MODELS.iterdir() for path in folder.rglob("*.safetensors")]:
        with safe_open(path, "pt") as file:
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (no mapping)
        assert kinds == {"F16"}, path.name


def test_stock_diffusers_opens_it_and_draws_the_same_picture(pipe: Any):
    theirs: Any = StableDiffusionPipeline.from_pretrained(MODEL)
    theirs.set_progress_bar_config(disable=True)
    defaults = pipe.generation_defaults
    call = {
        "prompt": "Paris on a rainy day",
        "negative_prompt": "umbrella",
        "num_inference_steps": 5,
        "guidance_scale": defaults.guidance_scale,
        "height": defaults.height,
        "width": defaults.width,
        "output_type": "np",
    }
    expected = theirs(**call, generator=torch.Generator("cpu").manual_seed(7)).images
    ours = {"negative_start": 0.0, "guidance_interval": (0.0, 1.0), "guidance_rescale": 0.0}
    drawn = pipe(**call, **ours, generator=torch.Generator("cpu").manual_seed(7)).images
    np.testing.assert_allclose(drawn, expected, atol=1e-4)


def test_a_call_with_nothing_but_a_prompt_draws_a_postcard(pipe: Any, recipe: Recipe):
    picture = pipe("Paris on a rainy day", seed=7).images[0]
    assert picture.size == (recipe.size, recipe.size) and picture.mode == "RGB"
    pixels = np.asarray(picture).astype(float)
    assert pixels.std() > 10 and pixels.mean() > 10, "neither black nor of one color"


def test_the_same_seed_gives_the_same_bits_and_another_one_another_picture(pipe: Any):
    first, again, other = (few_steps(pipe, "Cairo at sunset", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.abs(first - other).mean() > 0.02


def test_the_prompt_decides_what_is_drawn(pipe: Any):
    day, night = (few_steps(pipe, prompt, seed=3) for prompt in ("Paris on a sunny day", "Paris at night"))
    assert day.mean() > night.mean() + 0.1


def test_a_word_that_it_never_saw_draws_a_warning_and_known_ones_do_not(pipe: Any):
    with pytest.warns(UserWarning, match="frobnitz"):
        few_steps(pipe, "Paris with a frobnitz", seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        few_steps(pipe, "Paris on a rainy day, a red umbrella", seed=0)


def test_it_knows_the_words_of_its_world(pipe: Any, recipe: Recipe):
    assert pipe.known_words is not None and "paris" in pipe.known_words
    world = recipe.world
    named = {*world.weathers, *world.times, *world.colors, *world.kinds}
    assert {name for name in named if not set(name.split()) <= pipe.known_words} == set()


def test_its_card_lists_every_leg_and_names_these_weights():
    card, legs = (MODEL / "README.md").read_text(), json.loads((MODEL / LEGS).read_text())
    assert legs and f"`{model_hash(MODEL)}`" in card
    for number, leg in enumerate(legs, 1):
        assert f"### Leg {number}, {leg['date']}: `{leg['recipe']}`, {leg['unet_samples']:,} samples" in card
        for note in leg["notes"]:
            assert note in card
    assert "Not evaluated" not in card and re.search(r"\| city \| \d", card), "the card tells measured scores"


@pytest.mark.skipif(not (FEW_STEPS / LORA_FILE).is_file(), reason="no bundled LoRA here")
def test_the_bundled_lora_draws_in_four_steps_what_takes_sixteen(pipe: Any, tmp_path: Path):
    assert f"`{model_hash(MODEL)}`" in (FEW_STEPS / "README.md").read_text(), "made for other weights"
    call: dict[str, Any] = {
        "prompt": ["Paris on a rainy day", "Cairo at sunset", "a red bus in London", "Tokyo in the snow"],
        "negative_prompt": ["umbrella", "", "", ""],
        "seed": [1, 2, 3, 4],
    }
    quick = load_pipeline(dtype="float32", lora="few_steps")
    quick.set_progress_bar_config(disable=True)

    def ends(one: Any, steps: int) -> Any:
        return one(**call, num_inference_steps=steps, output_type="latent").images

    many = ends(pipe, 16)
    assert (ends(quick, 4) - many).square().mean() < 0.75 * (ends(pipe, 4) - many).square().mean()
    picture = quick("Paris at night", seed=5).images[0]  # in four steps
    picture.save(tmp_path / "night.png")
    assert quick.generation_defaults.num_inference_steps == 4
    done = reproduce(tmp_path / "night.png")  # its LoRA is found by its hash
    assert done.level == "bit-exact"


@pytest.mark.skipif(not (JUDGE / "config.json").is_file(), reason="no bundled judge here")
def test_the_judge_reads_city_weather_and_time_of_fresh_renders(recipe: Recipe, tmp_path: Path):
    judge = Recogniser.load(JUDGE)
    config = PostcardConfig(world=recipe.world, seed=FRESH_SEED, count=64, size=recipe.size)
    postcards = render_postcards(config, tmp_path)
    pictures = picture_tensor(postcards.images(list(range(len(postcards)))))
    counts = field_accuracy(judge, pictures, all_codes(postcards))
    for field in ("city", "weather", "time"):
        right, told = counts[field]
        assert told >= 32 and right >= 0.9 * told, f"{field}: {right} of {told}"
