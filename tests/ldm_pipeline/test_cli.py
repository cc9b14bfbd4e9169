"""`ldm` from words to files, and every bad input as one line with nothing lost.

It runs in this process, on a tiny random pipeline folder; `test_house.py` looks at what `--help` imports.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin

from ldm_pipeline.cli import EXIT_BAD_INPUT, main
from ldm_pipeline.devices import fastest_dtype
from ldm_pipeline.picture_files import read_recipe
from ldm_pipeline.recipe import pixels_hash
from tests import tiny


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.copy()


@pytest.fixture
def ldm(run_ldm, saved_folder: Path):
    """Runs `ldm generate` with the tiny folder; gives exit status, printed lines and error lines."""
    return partial(run_ldm, "generate", "--model", str(saved_folder), "--device", "cpu")


def test_pictures_are_drawn_saved_and_named(ldm, tmp_path: Path):
    status, paths, errors = ldm("paris on the day", "--seed", "7", "-n", "2", "--out", "new/folder")
    assert (status, errors) == (0, [])
    assert paths == ["new/folder/paris-on-the-day-7.png", "new/folder/paris-on-the-day-8.png"]
    assert [opened(tmp_path / path).size for path in paths] == [(64, 64)] * 2
    assert opened(tmp_path / paths[0]).tobytes() != opened(tmp_path / paths[1]).tobytes()


def test_a_picture_does_not_depend_on_its_neighbors_and_nothing_is_overwritten(ldm, tmp_path: Path):
    _, two, _ = ldm("red car", "--seed", "7", "-n", "2", "--out", ".")
    _, one, _ = ldm("red car", "--seed", "8", "--out", ".")
    assert (two, one) == (["red-car-7.png", "red-car-8.png"], ["red-car-8-2.png"])
    assert opened(tmp_path / two[1]).tobytes() == opened(tmp_path / one[0]).tobytes()


def test_the_recipe_in_the_file_repeats_the_picture(ldm, saved_folder: Path, tmp_path: Path):
    flags = (
        "--negative-prompt umbrella --steps 3 --guidance-scale 2.5 --size 64x80 --scheduler unipc --seed 3"
    )
    _, (path,), _ = ldm("red car", *flags.split(), "--out", ".")
    recipe = read_recipe(tmp_path / path)
    assert (recipe.prompt, recipe.negative_prompt, recipe.seed, recipe.model) == (
        "red car",
        "umbrella",
        3,
        "postcards",
    )
    assert (recipe.request.num_inference_steps, recipe.request.guidance_scale) == (3, 2.5)
    assert (recipe.request.width, recipe.request.height, recipe.scheduler) == (
        64,
        80,
        "UniPCMultistepScheduler",
    )
    dtype = str(fastest_dtype(torch.device("cpu"))).removeprefix("torch.")
    assert (recipe.device, recipe.dtype, len(recipe.model_hash)) == ("cpu", dtype, 64)
    assert str(saved_folder.parent) not in recipe.to_json()

    from ldm_pipeline import load_pipeline

    pipeline = load_pipeline(saved_folder, device="cpu", dtype=recipe.dtype, scheduler=recipe.scheduler)
    again = pipeline(**recipe.request.to_arguments()).images[recipe.picture]
    assert again.tobytes() == opened(tmp_path / path).tobytes()


def test_a_picture_and_a_mask_are_starts(ldm, tmp_path: Path):
    Image.new("RGB", (64, 48), "navy").save(tmp_path / "start.png")
    mask = Image.new("L", (64, 48), "black")
    mask.paste("white", (0, 0, 32, 48))
    mask.save(tmp_path / "mask.png")
    status, (path,), _ = ldm(
        "red car", "--image", "start.png", "--strength", "0.5", "--seed", "1", "--out", "."
    )
    assert (status, opened(tmp_path / path).size) == (0, (64, 48))
    status, (path,), _ = ldm(
        "red car", "--image", "start.png", "--mask", "mask.png", "--seed", "2", "--out", "."
    )
    kept = opened(tmp_path / path).crop((32, 0, 64, 48))
    assert status == 0 and kept.tobytes() == Image.new("RGB", (32, 48), "navy").tobytes()
    recipe = read_recipe(tmp_path / path)
    assert recipe.hashes_of("image") == (pixels_hash(opened(tmp_path / "start.png")),)
    assert recipe.hashes_of("mask_image") == (pixels_hash(opened(tmp_path / "mask.png").convert("RGB")),)


def test_a_lora_changes_the_picture_and_stands_in_its_recipe_by_hash(ldm, tmp_path: Path):
    lora = tiny.write_lora(tmp_path / "mine")
    words = ("red car", "--seed", "7", "--out", ".")
    _, (plain,), _ = ldm(*words)
    status, (changed,), errors = ldm(*words, "--lora", str(lora))
    assert (status, errors) == (0, [])
    assert opened(tmp_path / changed).tobytes() != opened(tmp_path / plain).tobytes()
    recipe = read_recipe(tmp_path / changed)
    (record,) = recipe.loras
    assert (record.name, record.weight) == ("pytorch_lora_weights.safetensors", 1.0)
    assert record.hash == hashlib.sha256(lora.read_bytes()).hexdigest()
    assert str(tmp_path) not in recipe.to_json()
    assert read_recipe(tmp_path / plain).loras == ()


def test_files_tell_as_much_as_they_are_told_to(ldm, tmp_path: Path):
    words = ("red car", "--seed", "7", "--out", ".", "--steps", "1")
    _, (public,), _ = ldm(*words, "--metadata", "public", "--format", "webp")
    _, (nothing,), _ = ldm(*words, "--metadata", "none", "--format", "jpeg")
    assert (public, nothing) == ("picture-7.webp", "picture.jpg")
    assert read_recipe(tmp_path / public).seed == 7
    assert b"red car" not in (tmp_path / public).read_bytes() + (tmp_path / nothing).read_bytes()


def test_without_a_seed_each_run_draws_another_picture_and_records_its_seed(ldm, tmp_path: Path):
    (first,), (second,) = (ldm("red car", "--out", ".")[1] for _ in range(2))
    assert first != second
    assert f"red-car-{read_recipe(tmp_path / first).seed}.png" == first


def test_unknown_words_are_named_once(ldm):
    status, paths, errors = ldm("a zeppelin", "--seed", "1", "-n", "2", "--out", ".")
    assert (status, len(paths)) == (0, 2)
    assert [line for line in errors if "zeppelin" in line] == errors and len(errors) == 1
    assert errors[0].startswith("ldm: warning: ")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--seed -1", "seed"),
        ("--seed 4294967296", "4294967295"),
        ("--seed 4294967295 -n 2", "4294967295"),
        ("--seed many", "--seed"),
        ("-n 0", "-n 0"),
        ("--size 60x64", "8"),
        ("--size big", "128x96"),
        ("--size 0", "height"),
        ("--steps 0", "num_inference_steps"),
        ("--guidance-scale nan", "guidance_scale"),
        ("--image start.png --strength 0", "strength"),
        ("--image start.png --strength 1.5", "strength"),
        ("--strength 0.5", "--image"),
        ("--mask start.png", "--image"),
        ("--image missing.png", "missing.png"),
        ("--image text.png", "text.png"),
        ("--image start.png --mask other.png", "mask"),
        ("--lora missing.safetensors", "missing.safetensors"),
        ("--lora text.png", "safetensors"),
        ("--scheduler magic", "dpm++"),
        ("--device abacus", "abacus"),
        ("--dtype float7", "float7"),
        ("--out text.png", "text.png"),
        ("--format gif", "--format"),
        ("--metadata some", "--metadata"),
        ("--no-such-flag", "--no-such-flag"),
        ("--neg umbrella", "--neg"),
        ("unquoted words", "unquoted"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(ldm, tmp_path: Path, flags: str, complaint: str):
    Image.new("RGB", (64, 64)).save(tmp_path / "start.png")
    Image.new("L", (32, 64)).save(tmp_path / "other.png")
    (tmp_path / "text.png").write_text("no picture")
    status, printed, errors = ldm("red car", *flags.split())
    assert (status, printed, len(errors)) == (EXIT_BAD_INPUT, [], 1)
    assert complaint in errors[0] and ": error: " in errors[0]
    assert not list(tmp_path.glob("pictures/*"))
    assert (tmp_path / "text.png").read_text() == "no picture"


def cut_in_half(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "weights",
    [
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ],
)
def test_a_damaged_folder_is_one_line(ldm, saved_folder: Path, tmp_path: Path, weights: str):
    damaged = shutil.copytree(saved_folder, tmp_path / "damaged")
    cut_in_half(damaged / weights)
    status, printed, errors = ldm("red car", "--model", str(damaged))
    assert (status, printed, len(errors)) == (EXIT_BAD_INPUT, [], 1)
    assert errors[0].startswith("ldm: error: ") and "damaged" in errors[0]


def test_a_damaged_lora_is_one_line(ldm, tmp_path: Path):
    lora = tiny.write_lora(tmp_path / "mine")
    cut_in_half(lora)
    status, printed, errors = ldm("red car", "--lora", str(lora))
    assert (status, printed, len(errors)) == (EXIT_BAD_INPUT, [], 1)
    assert errors[0].startswith("ldm: error: ") and lora.name in errors[0]


def test_a_prompt_that_is_no_text_is_one_line(ldm):
    status, _, errors = ldm("paris \udcff")
    assert status == EXIT_BAD_INPUT and len(errors) == 1


def test_inspect_prints_the_recipe(ldm, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    _, (path,), _ = ldm("red \x1b[31m car", "--seed", "5", "--out", ".")
    assert main(["inspect", path]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    record = json.loads(printed)
    assert (record["prompt"], record["seed"], record["model"]) == ("red \x1b[31m car", 5, "postcards")
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    for name in ("plain.png", "missing.png"):
        assert main(["inspect", name]) == EXIT_BAD_INPUT
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("ldm: error: ") and name in line


def test_inspect_prints_another_tools_settings_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a \x1b[31m car\nSteps: 20, Sampler: Euler a, Seed: 7, Hires steps: 3")
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png", pnginfo=info)
    assert main(["inspect", str(tmp_path / "other.png")]) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert (record["tool"], record["seed"], record["steps"], record["sampler"]) == ("A1111", 7, 20, "Euler a")
    (note,) = printed.err.splitlines()
    assert "A1111's settings" in note and note.endswith("not understood: Hires steps")
    assert "\x1b" not in printed.out


def test_packages_that_the_bundled_model_does_not_need_are_not_imported(tmp_path: Path):
    look = (
        "import sys; from ldm_pipeline.cli import main; "
        "status = main(['generate', 'Paris', '--steps', '1', '--out', '.']); "
        "print(status, [name for name in ('scipy', 'torchvision') if sys.modules.get(name)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
