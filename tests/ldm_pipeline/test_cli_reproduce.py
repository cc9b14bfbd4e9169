"""`ldm reproduce` and `ldm generate --from`: Python -> PNG -> command line -> PNG ends bit for bit."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from ldm_pipeline import LatentDiffusionPipeline, read_recipe, save_pictures
from ldm_pipeline.cli_generate import left_out
from ldm_pipeline.recipe import pixels_hash
from tests import tiny


@pytest.fixture(scope="module")
def file(saved_folder: Path, tmp_path_factory) -> Path:
    pipe = LatentDiffusionPipeline.from_pretrained(saved_folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.use_scheduler("unipc")
    drawn = pipe("red car", negative_prompt="umbrella", seed=7, num_inference_steps=3, guidance_rescale=0.5)
    return save_pictures(drawn, tmp_path_factory.mktemp("file"))[0]


def test_python_to_png_to_command_line_to_png_is_bit_exact(run_ldm, file: Path, saved_folder: Path):
    status, lines, errors = run_ldm("reproduce", str(file), "--model", str(saved_folder), "--out", "again")
    assert (status, errors) == (0, []) and lines == [f"{file.name}: bit-exact", f"again/{file.name}"]
    status, lines, _ = run_ldm(
        "generate", "--from", f"again/{file.name}", "--model", str(saved_folder), "--out", "from"
    )
    assert status == 0
    with Image.open(lines[0]) as last, Image.open(file) as first:
        assert last.tobytes() == first.tobytes()
    assert read_recipe(lines[0]) == read_recipe(file)


def test_flags_change_what_the_recipe_says_and_nothing_else(run_ldm, file: Path, saved_folder: Path):
    like = ("generate", "--from", str(file), "--model", str(saved_folder), "--out", ".")
    status, (path,), _ = run_ldm(*like, "--seed", "8")
    old, new = read_recipe(file), read_recipe(path)
    assert status == 0 and (new.seed, new.prompt) == (8, "red car") and new.scheduler == old.scheduler
    assert new.request.guidance_rescale == 0.5 and new.pixels_hash != old.pixels_hash
    _, (path,), _ = run_ldm(*like, "dog", "--negative-prompt", "rain", "--steps", "2", "--scheduler", "dpm++")
    new = read_recipe(path)
    assert (new.seed, new.prompt, new.negative_prompt) == (7, "dog", "rain")
    assert (new.request.num_inference_steps, new.scheduler) == (2, "DPMSolverMultistepScheduler")
    _, paths, _ = run_ldm(*like, "-n", "2")
    assert [read_recipe(path).seed for path in paths] == [7, 8]
    assert pixels_hash(Image.open(paths[0])) == old.pixels_hash


def test_a_picture_made_of_a_picture_needs_it(run_ldm, file: Path, saved_folder: Path):
    model = ("--model", str(saved_folder))
    _, (path,), _ = run_ldm(
        "generate", "dog", "--image", str(file), "--strength", "0.8", "--seed", "1", "--out", ".", *model
    )
    status, _, (error,) = run_ldm("reproduce", path, *model)
    assert status == 2 and error.startswith("ldm: error: the recipe needs image (SHA-256 ")
    assert run_ldm("reproduce", path, "--image", str(file), *model)[:2] == (0, [f"{path}: bit-exact"])
    status, _, (error,) = run_ldm("generate", "--from", path, *model)
    assert status == 2 and "the recipe needs image" in error
    assert run_ldm("generate", "--from", path, "--image", path, "--out", ".", *model)[0] == 0


def test_the_exit_status_tells_equal_from_different(run_ldm, file: Path, saved_folder: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(saved_folder, other)
    pipe = LatentDiffusionPipeline.from_pretrained(saved_folder)
    pipe.unet.conv_out.bias.data += 0.001
    pipe.unet.save_pretrained(other / "unet")
    status, (line,), _ = run_ldm("reproduce", str(file), "--model", str(other), "--tolerance", "255")
    assert status == 1 and ": equal within " in line and "; other than then: model_hash " in line
    status, (line,), _ = run_ldm("reproduce", str(file), "--model", str(other), "--tolerance", "0")
    assert status == 2 and ": different, by up to " in line


def test_a_public_recipe_gives_its_settings_to_a_new_prompt(run_ldm, file: Path, saved_folder: Path):
    model = ("--model", str(saved_folder))
    _, (path,), _ = run_ldm("generate", "--from", str(file), "--metadata", "public", "--out", ".", *model)
    status, _, (error,) = run_ldm("reproduce", path, *model)
    assert status == 2 and "public and leaves out prompt, negative_prompt" in error
    _, (path,), _ = run_ldm("generate", "dog", "--from", path, "--out", ".", *model)
    new, old = read_recipe(path), read_recipe(file)
    assert (new.prompt, new.negative_prompt, new.seed, new.scheduler) == ("dog", "", 7, old.scheduler)
    assert new.request.guidance_rescale == 0.5


def test_another_tools_settings_start_a_picture(run_ldm, saved_folder: Path, tmp_path: Path):
    told = PngImagePlugin.PngInfo()
    settings = "Steps: 3, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 2.5, Seed: 11, Size: 64x72"
    told.add_text("parameters", f"(red:1.3) car, <lora:neon:0.8>\nNegative prompt: umbrella\n{settings}")
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs.png", pnginfo=told)
    status, (path,), errors = run_ldm(
        "generate", "--from", "theirs.png", "--model", str(saved_folder), "--out", "."
    )
    recipe = read_recipe(path)
    assert status == 0 and errors == ["ldm: warning: --from leaves out <lora:neon:0.8>"]
    assert (recipe.prompt, recipe.negative_prompt, recipe.seed) == ("(red:1.3) car", "umbrella", 11)
    assert recipe.request.prompt_syntax == "a1111"
    request = recipe.request
    assert (request.num_inference_steps, request.guidance_scale) == (3, 2.5)
    assert (request.width, request.height, recipe.scheduler) == (64, 72, "DPMSolverMultistepScheduler")
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert run_ldm("generate", "--from", "plain.png")[0] == 2


def test_another_lora_takes_the_place_of_the_recipes(run_ldm, file: Path, saved_folder: Path, tmp_path: Path):
    lora, model = tiny.write_lora(tmp_path), ("--model", str(saved_folder))
    _, (path,), _ = run_ldm("generate", "--from", str(file), "--lora", str(lora), "--out", ".", *model)
    recipe = read_recipe(path)
    assert [one.name for one in recipe.loras] == [lora.name] and recipe.seed == 7
    assert recipe.pixels_hash != read_recipe(file).pixels_hash
    assert run_ldm("reproduce", path, "--lora", str(lora), *model)[:2] == (0, [f"{path}: bit-exact"])
    status, _, (error,) = run_ldm("reproduce", str(file), "--lora", str(lora), *model)
    assert status == 2 and f"{lora.name} is none of the recipe's LoRAs (0): leave it out" in error


def test_hidden_packages_come_back():
    with left_out(["this", "json"]):
        assert sys.modules["this"] is None and sys.modules["json"] is not None
        with pytest.raises(ImportError):
            importlib.import_module("this")
    assert "this" not in sys.modules and importlib.util.find_spec("this") is not None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["reproduce", "missing.png"], "'missing.png' is not a file: check the path"),
        (["reproduce", "FILE", "--image", "missing.png"], "'missing.png' is not a file: check the path"),
        (
            ["reproduce", "FILE", "--tolerance", "300"],
            "tolerance=300 is not allowed: use a whole number from 0 to 255",
        ),
        (["reproduce", "FILE"], "is not a bundled one: give it with --model, as a folder or file"),
        (["generate"], "prompt is missing: say what to draw, in quotes, or give --from FILE"),
        (["generate", "--from", "missing.png"], "missing.png"),
    ],
)
def test_bad_input_is_one_line(run_ldm, file: Path, words: list[str], told: str):
    status, lines, errors = run_ldm(*[str(file) if word == "FILE" else word for word in words])
    assert (status, lines, len(errors)) == (2, [], 1) and told in errors[0]
