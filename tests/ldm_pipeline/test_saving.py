"""Files appear whole, under names that were free, and a full disk loses nothing that was saved before.

The pictures are plain colors but for one test; how they are drawn is not tested here.
"""

import random
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ldm_pipeline.picture_files import Metadata, PictureFormat, read_recipe
from ldm_pipeline.recipe import PictureRecipe, pixels_hash
from ldm_pipeline.request import GenerationRequest
from ldm_pipeline.saving import SavingError, file_stem, save_pictures, write_pictures


def recipe(prompt: str = "Paris on a rainy day", seed: int = 7) -> PictureRecipe:
    return PictureRecipe(request=GenerationRequest(prompts=(prompt,), seeds=(seed,)))


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.copy()


def test_a_file_is_named_after_its_prompt_and_seed(tmp_path: Path):
    pictures = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    paths = write_pictures(pictures, tmp_path / "new" / "folder", recipes=[recipe(), recipe(seed=8)])
    assert [path.name for path in paths] == ["paris-on-a-rainy-day-7.png", "paris-on-a-rainy-day-8.png"]
    assert [read_recipe(path).seed for path in paths] == [7, 8]
    assert [opened(path).getpixel((0, 0)) for path in paths] == [(255, 0, 0), (0, 0, 255)]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == [path.name for path in paths]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in paths)


def test_no_file_is_ever_overwritten(tmp_path: Path):
    red = Image.new("RGB", (8, 8), "red")
    (tmp_path / "paris-on-a-rainy-day-7.png").write_text("mine")
    (tmp_path / "paris-on-a-rainy-day-7-2.png").symlink_to(tmp_path / "nowhere")
    names = [write_pictures([red], tmp_path, recipes=[recipe()])[0].name for _ in range(2)]
    assert names == ["paris-on-a-rainy-day-7-3.png", "paris-on-a-rainy-day-7-4.png"]
    assert (tmp_path / "paris-on-a-rainy-day-7.png").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("prompt", "stem"),
    [
        ("../../etc/passwd", "etc-passwd-7"),
        ("", "picture-7"),
        ("☃ !", "picture-7"),
        ("Été à Köln", "été-à-köln-7"),
        ("a.b/c\\d:e\0f", "a-b-c-d-e-f-7"),
        ("x" * 1000, "x" * 80 + "-7"),
        ("雨" * 1000, "雨" * 26 + "-7"),
    ],
    ids=lambda text: text[:12].replace("\0", "0"),
)
def test_any_prompt_makes_a_plain_file_name(prompt: str, stem: str, tmp_path: Path):
    assert file_stem(recipe(prompt)) == stem
    (path,) = write_pictures([Image.new("RGB", (8, 8))], tmp_path, recipes=[recipe(prompt)])
    assert path.parent == tmp_path and read_recipe(path).prompt == prompt


@pytest.fixture
def files_of_8000_bytes() -> Iterator[None]:
    """The system refuses to write more than 8,000 bytes into a file, much as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("files_of_8000_bytes")
def test_a_full_disk_says_what_is_saved_and_what_is_not(tmp_path: Path):
    small = Image.new("RGB", (8, 8))
    large = Image.frombytes("RGB", (64, 64), random.Random(0).randbytes(64 * 64 * 3))
    with pytest.raises(SavingError) as caught:
        write_pictures([small, large, small], tmp_path, recipes=[recipe("a", seed) for seed in range(3)])
    assert str(caught.value).startswith(f"cannot save picture 2 of 3 in {tmp_path}: ")
    assert "saved: a-0.png; not saved: 2" in str(caught.value)
    assert (caught.value.saved, caught.value.unsaved) == ([tmp_path / "a-0.png"], [large, small])
    assert [path.name for path in tmp_path.iterdir()] == ["a-0.png"]
    assert read_recipe(tmp_path / "a-0.png").seed == 0


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SavingError, match="cannot save picture 1 of 1") as caught:
        write_pictures([Image.new("RGB", (8, 8))], tmp_path / "file", recipes=[recipe()])
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_calls_pictures_are_saved_with_what_they_started_from(flow_pipe, tmp_path: Path):
    start, mask = Image.new("RGB", (64, 64), "navy"), Image.new("RGB", (64, 64), "white")
    output = flow_pipe("a car", image=start, mask_image=mask, num_inference_steps=2, seed=1)
    (path,) = save_pictures(output, tmp_path)
    recipe = read_recipe(path)
    assert recipe == output.recipes[0]
    assert recipe.hashes_of("image") == (pixels_hash(start),)
    assert recipe.hashes_of("mask_image") == (pixels_hash(mask),)


def test_arrays_are_not_saved(flow_pipe, tmp_path: Path):
    output = flow_pipe("a car", num_inference_steps=2, seed=1, output_type="np")
    with pytest.raises(ValueError, match="no PIL pictures") as caught:
        save_pictures(output, tmp_path / "new")
    assert "\n" not in str(caught.value) and not (tmp_path / "new").exists()


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_formats_and_metadata(format: PictureFormat, flow_pipe, tmp_path: Path):
    output = flow_pipe("a car", num_inference_steps=2, seed=1)
    ending = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}[format]
    words: list[Metadata] = ["full", "public", "none"]
    paths = [save_pictures(output, tmp_path, format=format, metadata=word)[0] for word in words]
    assert [path.name for path in paths] == [
        f"{stem}{ending}" for stem in ("a-car-1", "picture-1", "picture")
    ]
    assert [b"a car" in path.read_bytes() for path in paths] == [True, False, False]
    assert read_recipe(paths[0]) == output.recipes[0]
    assert read_recipe(paths[1]) == output.recipes[0].public()
    for path in paths:
        assert opened(path).size == (64, 64)
        assert format == "jpeg" or opened(path).tobytes() == output.images[0].tobytes()


@pytest.mark.parametrize("keywords", [{"format": "gif"}, {"metadata": "some"}], ids=str)
def test_unknown_words_are_one_line(keywords: dict[str, Any], flow_pipe, tmp_path: Path):
    output = flow_pipe("a car", num_inference_steps=1, seed=1)
    with pytest.raises(ValueError, match="unknown: use one of") as caught:
        save_pictures(output, tmp_path / "new", **keywords)
    assert "\n" not in str(caught.value) and not (tmp_path / "new").exists()
