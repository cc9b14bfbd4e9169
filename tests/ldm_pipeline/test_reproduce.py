"""A verdict tells bit-exact, equal and different pictures apart, and what is other than it was."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from ldm_pipeline import LatentDiffusionPipeline, save_pictures
from ldm_pipeline.images import open_picture
from ldm_pipeline.picture_files import read_recipe
from ldm_pipeline.replay import CannotReplay
from ldm_pipeline.reproduce import as_many_threads, changes, compare, reproduce


@pytest.fixture(scope="module")
def drawn(saved_folder: Path):
    pipe: Any = LatentDiffusionPipeline.from_pretrained(saved_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe(["red car", "dog in the rain"], negative_prompt="umbrella", seed=7)


@pytest.fixture(scope="module")
def files(drawn, tmp_path_factory) -> list[Path]:
    return save_pictures(drawn, tmp_path_factory.mktemp("saved"))


def test_a_saved_picture_comes_again_bit_for_bit(files: list[Path], saved_folder: Path):
    for file in files:
        done = reproduce(file, model=str(saved_folder))
        assert (done.level, done.largest, done.differing, done.changes) == ("bit-exact", 0, 0, ())
        assert done.picture.tobytes() == open_picture(file).tobytes() and str(done) == "bit-exact"
        old, new = read_recipe(file), done.recipe
        assert (new.seed, new.prompt, new.pixels_hash) == (old.seed, old.prompt, old.pixels_hash)


def test_a_lossy_copy_is_still_drawn_again_bit_for_bit(drawn, saved_folder: Path, tmp_path: Path):
    drawn.images[0].save(tmp_path / "copy.jpg", quality=40)
    done = reproduce(tmp_path / "copy.jpg", model=str(saved_folder))
    assert done.level == "bit-exact" and not done.file_is_as_drawn and done.differing > 0
    assert "the file's pixels are not those that were drawn" in str(done)


def test_other_settings_are_told_from_equal_ones(files: list[Path], saved_folder: Path, drawn):
    other: Any = LatentDiffusionPipeline.from_pretrained(saved_folder, dtype=torch.bfloat16)
    other.set_progress_bar_config(disable=True)
    half = other("red car", negative_prompt="umbrella", seed=7)
    recipe, saved = read_recipe(files[0]), open_picture(files[0])
    done = compare(half.images[0], half.recipes[0], saved=saved, recipe=recipe, tolerance=255)
    assert done.level == "equal" and done.largest > 0 and 0 < done.differing <= done.pixels == 64 * 64
    assert [str(change) for change in done.changes] == [
        "dtypes float32/float32/float32 -> bfloat16/bfloat16/bfloat16"
    ]
    done = compare(half.images[0], half.recipes[0], saved=saved, recipe=recipe, tolerance=0)
    assert done.level == "different"
    assert str(done).startswith(
        f"different, by up to {done.largest}/255 on {done.differing} of 4096 pixels; "
    )


@pytest.mark.parametrize(("step", "level"), [(0, "bit-exact"), (3, "equal"), (4, "different")])
def test_the_tolerance_is_a_bound_on_every_color(drawn, files: list[Path], step: int, level: str):
    recipe, saved = read_recipe(files[0]), open_picture(files[0])
    pixels = np.asarray(saved, np.int16).copy()
    red = pixels[10, 20, 0]
    pixels[10, 20, 0] = red + step if red < 128 else red - step
    moved = Image.fromarray(pixels.astype(np.uint8))
    done = compare(moved, drawn.recipes[0], saved=saved, recipe=recipe, tolerance=3)
    assert (done.level, done.largest, done.differing) == (level, step, int(step > 0))


@pytest.mark.parametrize(("kind", "most"), [("float32", 2), ("bfloat16", 48), ("float16", 48)])
def test_the_default_tolerance_is_the_promise(drawn, files: list[Path], kind: str, most: int):
    recipe = dataclasses.replace(read_recipe(files[0]), dtypes={"unet": kind}, pixels_hash="")
    saved = open_picture(files[0])
    for step, level in ((most, "equal"), (most + 1, "different")):
        pixels = np.asarray(saved, np.int16).copy()
        pixels[3, 5, 1] += step if pixels[3, 5, 1] < 128 else -step
        moved = Image.fromarray(pixels.astype(np.uint8))
        assert compare(moved, drawn.recipes[0], saved=saved, recipe=recipe).level == level


def test_another_size_is_different(drawn, files: list[Path]):
    larger = drawn.images[0].resize((128, 64))
    done = compare(larger, drawn.recipes[0], saved=open_picture(files[0]), recipe=read_recipe(files[0]))
    assert (done.level, done.differing) == ("different", 128 * 64)


def test_an_edited_file_is_told(files: list[Path], saved_folder: Path, tmp_path: Path, drawn):
    with Image.open(files[0]) as opened:
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("ldm_recipe", opened.info["ldm_recipe"])
        edited = opened.convert("RGB")
    edited.paste((255, 0, 0), (0, 0, 8, 8))
    edited.save(tmp_path / "edited.png", pnginfo=texts)
    done = reproduce(tmp_path / "edited.png", model=str(saved_folder))
    assert done.level == "different" and done.drawn_alike and not done.file_is_as_drawn
    assert done.differing == 64 and str(done).endswith(", which came again bit for bit")


@pytest.mark.parametrize(("options", "alike"), [({}, False), ({"lossless": True}, True)])
def test_webp_is_lossy_or_not(drawn, saved_folder: Path, tmp_path: Path, options, alike: bool):
    drawn.images[0].save(tmp_path / "picture.webp", **options)
    done = reproduce(tmp_path / "picture.webp", model=str(saved_folder))
    assert done.level == "bit-exact" and done.file_is_as_drawn == alike == (done.differing == 0)


def test_what_changed_is_listed_by_name(drawn):
    then = drawn.recipes[0]
    now = dataclasses.replace(
        then,
        model_hash="b" * 64,
        threads=then.threads + 1,
        scheduler_config={**then.scheduler_config, "solver_order": 3},
        versions={**then.versions, "torch": "9.9"},
        environment={**then.environment, "cpu": "NONE"},
    )
    told = {change.name: (change.then, change.now) for change in changes(then, now)}
    assert told.keys() == {"model_hash", "threads", "scheduler_config", "torch", "cpu"}
    assert told["torch"] == (then.versions["torch"], "9.9")
    assert told["model_hash"] == (f"{then.model_hash[:12]}...", "bbbbbbbbbbbb...")
    assert changes(then, then) == ()
    assert changes(dataclasses.replace(then, versions={}, environment={}, threads=0), now) == tuple(
        change for change in changes(then, now) if change.name in ("model_hash", "scheduler_config")
    )


def test_a_public_recipe_and_bad_arguments_are_refused(
    drawn, files: list[Path], saved_folder: Path, tmp_path: Path
):
    drawn.images[0].save(tmp_path / "public.png", metadata="public")
    with pytest.raises(
        CannotReplay, match="^the file's recipe is public and leaves out prompt, negative_prompt"
    ):
        reproduce(tmp_path / "public.png", model=str(saved_folder))
    for tolerance in (-1, 256, 1.5, True):
        with pytest.raises(
            ValueError, match=r"^tolerance=.* is not allowed: use a whole number from 0 to 255$"
        ):
            reproduce(files[0], tolerance=tolerance)  # type: ignore[arg-type]
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    with pytest.raises(ValueError, match="^plain.png carries no recipe"):
        reproduce(tmp_path / "plain.png")


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with as_many_threads(1):
        assert torch.get_num_threads() == 1
    with as_many_threads(0):
        assert torch.get_num_threads() == before
    with as_many_threads(100_000):
        assert torch.get_num_threads() < 100_000
    assert torch.get_num_threads() == before
