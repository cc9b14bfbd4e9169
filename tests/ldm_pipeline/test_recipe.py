"""A recipe survives the way through a PNG file, and a foreign file ends in one line.

It draws nothing: the pictures are plain colors.
"""

# pyright: reportPrivateImportUsage=false

import inspect
import json
import random
from pathlib import Path
from typing import Any

import diffusers
import pytest
from PIL import Image, PngImagePlugin

from ldm_pipeline import folder, schedulers
from ldm_pipeline.recipe import (
    CHUNK,
    SCHEMA,
    PictureRecipe,
    RecipeError,
    json_value,
    parameters_text,
    pixels_hash,
    plain_name,
    png_metadata,
    read_recipe,
    sampler_name,
    schedule_type,
)
from ldm_pipeline.request import GenerationRequest
from tests import tiny

REQUEST = GenerationRequest(
    prompts=("Paris on a rainy day", 'Rom im Schnee ☃, "quoted"\nSteps: 99'),
    negative_prompts=("umbrella", "été"),
    num_images_per_prompt=2,
    seeds=(7, 8, 9, 2**32 - 1),
    num_inference_steps=14,
    guidance_scale=4.0,
    width=128,
    height=96,
)
RECIPE = PictureRecipe(
    request=REQUEST,
    picture=3,
    model="postcards",
    model_hash="ab" * 32,
    scheduler="DPMSolverMultistepScheduler",
    scheduler_config={"flow_shift": 1.0, "lambda_min_clipped": "-inf", "trained_betas": None},
    device="cpu",
    dtype="float32",
    threads=2,
    versions={"torch": "2.15.0", "ldm-pipeline": "0.1.0"},
    pixels_hash="01" * 32,
)


def write_png(path: Path, text: str, *, compressed: bool = False) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(CHUNK, text, zip=compressed)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def changed(**fields: object) -> str:
    return json.dumps(json.loads(RECIPE.to_json()) | fields)


def test_a_recipe_comes_back_from_its_file_unchanged(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=png_metadata(RECIPE))
    assert read_recipe(tmp_path / "a.png") == RECIPE


def test_a_recipe_knows_its_own_prompt_and_seed():
    assert (RECIPE.prompt, RECIPE.negative_prompt, RECIPE.seed) == (
        *('Rom im Schnee ☃, "quoted"\nSteps: 99', "été"),
        2**32 - 1,
    )
    record = json.loads(RECIPE.to_json())
    assert (record["schema"], record["seed"], record["prompt"]) == (SCHEMA, RECIPE.seed, RECIPE.prompt)


def test_equal_recipes_are_equal_text():
    again = PictureRecipe(**{name: getattr(RECIPE, name) for name in reversed(RECIPE.__dataclass_fields__)})
    assert again.to_json() == RECIPE.to_json()
    assert "\n" not in RECIPE.to_json()


def test_other_tools_read_the_parameters(tmp_path: Path):
    first = PictureRecipe(
        request=REQUEST,
        picture=0,
        model="postcards",
        model_hash="ab" * 32,
        scheduler="UniPCMultistepScheduler",
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=png_metadata(first))
    with Image.open(tmp_path / "a.png") as picture:
        lines = picture.info["parameters"].split("\n")
    assert lines == [
        "Paris on a rainy day",
        "Negative prompt: umbrella",
        "Steps: 14, Sampler: UniPC, Schedule type: Automatic, CFG scale: 4, Seed: 7, Size: 128x96, "
        "Model hash: ababababab, Model: postcards, Version: ldm-pipeline",
    ]
    assert parameters_text(PictureRecipe(request=GenerationRequest(prompts=("a",)))).startswith(
        "a\nSteps: 50"
    )


def recipe_of(scheduler: Any, **settings: Any) -> PictureRecipe:
    """As `saving.py` makes it of a pipeline's scheduler."""
    config = {name: value for name, value in scheduler.config.items() if not name.startswith("_")}
    return PictureRecipe(
        request=GenerationRequest(**settings),
        scheduler=type(scheduler).__name__,
        scheduler_config=json_value(config),
    )


LEVELS = {"karras": "Karras", "exponential": "Exponential", "beta": "Beta", "sgm uniform": "SGM Uniform"}
CALLED = {
    "dpm++ 2m": ("DPM++ 2M", "Uniform"),
    "dpm++ 2m sde": ("DPM++ 2M SDE", "Uniform"),
    "dpm++ 3m sde": ("DPM++ 3M SDE", "Uniform"),
    "dpm++ sde": ("DPM++ SDE", "Uniform"),
    "dpm2": ("DPM2", "Uniform"),
    "dpm2 a": ("DPM2 a", "Uniform"),
    "dpm++ 2s": ("DPM++ 2S", "Automatic"),
    "euler": ("Euler", "Automatic"),
    "euler a": ("Euler a", "Automatic"),
    "heun": ("Heun", "Automatic"),
    "lms": ("LMS", "Automatic"),
    "unipc": ("UniPC", "Automatic"),
    "ddim": ("DDIM", "Automatic"),
    "plms": ("PLMS", "Automatic"),
    "lcm": ("LCM", "Automatic"),
}


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")  # numpy 2
@pytest.mark.parametrize("words", CALLED)
@pytest.mark.parametrize("level", ["normal", *LEVELS])
def test_a_scheduler_made_by_a1111s_words_is_called_by_them(words: str, level: str):
    if words == "lms" or level == "beta":
        pytest.importorskip("scipy")
    if words == "dpm++ sde":
        pytest.importorskip("torchsde")
    name, plain = CALLED[words]
    try:
        made = schedulers.make_scheduler(f"{words} {level}", tiny.make_scheduler("epsilon"), flow=False)
    except ValueError as error:
        assert "knows no use_" in str(error)
        return
    recipe = recipe_of(made, prompts=("a",))
    if words == "dpm++ 2s" and level == "sgm uniform":
        level = "normal"  # its class reads no timestep_spacing
    assert (sampler_name(recipe), schedule_type(recipe)) == (name, LEVELS.get(level, plain))
    line = parameters_text(recipe).split("\n")[-1]
    assert line.startswith(
        f"Steps: 50, Sampler: {name}, Schedule type: {LEVELS.get(level, plain)}, CFG scale:"
    )


@pytest.mark.parametrize("name", folder.SCHEDULER_NAMES)
def test_a_schedule_type_is_told_only_where_the_scheduler_reads_the_option(name: str):
    cls = getattr(diffusers.schedulers, f"{name}Scheduler")
    for option, value, told in (
        ("use_karras_sigmas", True, "Karras"),
        ("use_beta_sigmas", True, "Beta"),
        ("timestep_spacing", "trailing", "SGM Uniform"),
    ):
        recipe = PictureRecipe(
            request=GenerationRequest(), scheduler=cls.__name__, scheduler_config={option: value}
        )
        reads = option in inspect.signature(cls.__init__).parameters
        if not name.startswith("EDM"):  # whose levels are Karras' without any option
            assert (schedule_type(recipe) == told) == reads, option


@pytest.mark.parametrize(
    ("class_name", "config", "name"),
    [
        ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 3}, None),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver"}, None),
        ("DPMSolverMultistepScheduler", {"algorithm_type": ["dpmsolver++"]}, None),
        ("DPMSolverMultistepScheduler", {"solver_type": "heun"}, None),
        (
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
            "DPM++ 2M SDE Heun",
        ),
        ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}, None),
        ("PNDMScheduler", {"skip_prk_steps": False}, None),
        ("SASolverScheduler", {}, None),
        ("FlowMatchHeunDiscreteScheduler", {}, "Heun"),
    ],
)
def test_a_scheduler_without_a_name_in_a1111_is_called_by_its_class(class_name, config, name):
    recipe = PictureRecipe(request=GenerationRequest(), scheduler=class_name, scheduler_config=config)
    assert sampler_name(recipe) == (name or class_name)


def test_noise_levels_that_have_no_name_are_not_named():
    flow = tiny.make_scheduler("flow_prediction")
    assert schedule_type(recipe_of(flow)) == "Uniform"
    assert schedule_type(recipe_of(flow, timesteps=(900, 500))) is None
    assert schedule_type(recipe_of(diffusers.EulerDiscreteScheduler(), sigmas=(5.0, 1.0))) is None
    assert schedule_type(recipe_of(diffusers.DPMSolverMultistepScheduler(use_lu_lambdas=True))) is None
    assert (
        schedule_type(recipe_of(diffusers.EDMEulerScheduler(sigma_schedule="exponential"))) == "Exponential"
    )
    assert schedule_type(recipe_of(diffusers.EDMEulerScheduler())) == "Karras"
    assert schedule_type(PictureRecipe(request=GenerationRequest())) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("[]", "schema is list"),
        ("{}", "schema is None"),
        ("[" * 100_000, "not JSON"),
        ('{"schema": NaN}', "not JSON"),
        (changed(schema="ldm_recipe/99"), "ldm_recipe/99"),
        (changed(run="rm -rf"), "field run is unknown"),
        (changed(request=None), "no request"),
        (changed(request={"shell": 1}), "shell"),
        (changed(request={"seeds": [-1]}), "seed"),
        (changed(request={"num_inference_steps": 10**9}), "num_inference_steps"),
        (changed(request={"num_images_per_prompt": "2"}), "num_images_per_prompt"),
        (changed(picture=-1), "picture"),
        (changed(picture="0"), "picture"),
        (changed(threads=1.5), "threads"),
        (changed(model="../../models/other"), "model"),
        (changed(lora="https://example.org/x.safetensors"), "lora"),
        (changed(model_hash="xyz"), "model_hash"),
        (changed(versions={"torch": ["2"]}), "versions"),
        (changed(scheduler_config=[1]), "scheduler_config"),
    ],
    ids=lambda value: value[:24],
)
def test_a_damaged_recipe_is_one_line(tmp_path: Path, text: str, complaint: str):
    with pytest.raises(RecipeError) as caught:
        read_recipe(write_png(tmp_path / "a.png", text))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_recipe_that_is_too_long_or_a_bomb_is_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match="characters"):
        PictureRecipe.from_json("x" * 2_000_000)
    with pytest.raises(RecipeError, match="cannot|can be read"):
        read_recipe(write_png(tmp_path / "a.png", " " * 50_000_000, compressed=True))


def test_a_file_without_a_recipe_is_one_line(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.jpg")
    (tmp_path / "text.png").write_text("no picture")
    for name in ("plain.png", "picture.jpg", "text.png"):
        with pytest.raises(RecipeError, match=name):
            read_recipe(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_recipe(tmp_path / "missing.png")


def test_bytes_at_random_end_in_a_recipe_or_in_one_line(tmp_path: Path):
    dice = random.Random(5)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=png_metadata(RECIPE))
    whole = (tmp_path / "a.png").read_bytes()
    refused = 0
    for _ in range(300):
        broken = bytearray(whole[: dice.randrange(8, len(whole))] if dice.random() < 0.3 else whole)
        for _ in range(dice.randrange(1, 6)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        (tmp_path / "b.png").write_bytes(broken)
        try:
            assert isinstance(read_recipe(tmp_path / "b.png"), PictureRecipe)
        except RecipeError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 200


def test_names_and_hashes_say_nothing_of_this_machine():
    assert plain_name("/some/where/postcards/") == "postcards"
    assert plain_name("C:\\models\\a.safetensors") == "a.safetensors"
    red, blue = Image.new("RGB", (4, 2), "red"), Image.new("RGB", (4, 2), "blue")
    assert pixels_hash(red) == pixels_hash(red.copy()) != pixels_hash(blue)
    assert pixels_hash(red) != pixels_hash(Image.new("RGB", (2, 4), "red"))
    assert json_value({"a": (1, float("inf")), "b": None}) == {"a": [1, "inf"], "b": None}
