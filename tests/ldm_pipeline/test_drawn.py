"""A drawn picture behaves as any Pillow picture, carries its recipe into files, and never lies about pixels.

The pictures are plain colors; test_call_record looks at pictures that were really drawn.
"""

import copy
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, PngImagePlugin

from ldm_pipeline.drawn import DrawnPicture
from ldm_pipeline.picture_files import read_recipe
from ldm_pipeline.recipe import PictureRecipe, pixels_hash
from ldm_pipeline.recipe_parts import RecipeError
from ldm_pipeline.request import GenerationRequest
from ldm_pipeline.xmp import GENERATED, read_packet


def drawn(color: str = "red") -> DrawnPicture:
    plain = Image.new("RGB", (16, 8), color)
    content = pixels_hash(plain)
    recipe = PictureRecipe(request=GenerationRequest(prompts=("Paris",), seeds=(7,)), pixels_hash=content)
    return DrawnPicture.of(plain, lambda: recipe, drawn_hash=content, source_type=GENERATED)


def test_it_is_a_picture_like_any_other():
    picture, plain = drawn(), Image.new("RGB", (16, 8), "red")
    assert isinstance(picture, Image.Image)
    assert picture == plain and plain == picture and picture != drawn("blue") and picture != "red"
    assert np.array_equal(np.asarray(picture), np.asarray(plain))
    assert picture.recipe is not None and picture.recipe.seed == 7


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jpeg", "a.webp"])
def test_saving_carries_the_recipe(name: str, tmp_path: Path):
    picture = drawn()
    picture.save(tmp_path / name)
    assert read_recipe(tmp_path / name) == picture.recipe
    picture.save(str(tmp_path / name), metadata="public")
    assert read_recipe(tmp_path / name).withheld == ("prompt",)
    picture.save(tmp_path / name, metadata="none")
    with pytest.raises(RecipeError, match="no recipe"):
        read_recipe(tmp_path / name)


def test_saving_into_memory_carries_the_recipe(tmp_path: Path):
    buffer = io.BytesIO()
    drawn().save(buffer, format="jpg" if "JPG" in Image.SAVE else "jpeg")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    assert read_recipe(tmp_path / "a.jpg").prompt == "Paris"
    with open(tmp_path / "b.png", "wb") as file:
        drawn().save(file)
    assert read_recipe(tmp_path / "b.png").prompt == "Paris"


def test_callers_decide_by_their_own_arguments(tmp_path: Path):
    info = PngImagePlugin.PngInfo()
    info.add_text("mine", "alone")
    drawn().save(tmp_path / "a.png", pnginfo=info)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info == {"mine": "alone"}
    drawn().save(tmp_path / "a.bmp")
    others: list[dict[str, Any]] = [{"pnginfo": info}, {"exif": b"x"}, {"format": "BMP"}]
    for keywords in others:
        with pytest.raises(ValueError, match="metadata='public' does not go together") as caught:
            drawn().save(tmp_path / "a.png", metadata="public", **keywords)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="unknown"):
        drawn().save(tmp_path / "a.png", metadata="some")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="unknown file extension"):
        drawn().save(tmp_path / "a.nonsense")


def test_what_is_made_of_it_is_a_plain_picture():
    picture = drawn()
    made = [
        picture.crop((0, 0, 4, 4)),
        picture.resize((4, 4)),
        picture.rotate(45),
        picture.convert("L"),
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        Image.fromarray(np.asarray(picture)),
        Image.blend(picture, drawn("blue"), 0.5),
    ]
    assert [type(one) for one in made] == [Image.Image] * len(made)


@pytest.mark.parametrize("change", ["pixel", "paste", "draw", "thumbnail"])
def test_changed_pixels_lose_the_recipe_and_keep_the_mark(change: str, tmp_path: Path):
    picture = drawn()
    if change == "pixel":
        picture.putpixel((3, 3), (254, 0, 0))
    elif change == "paste":
        picture.paste("blue", (0, 0, 2, 2))
    elif change == "draw":
        ImageDraw.Draw(picture).line((0, 0, 4, 4), fill="green")
    else:
        picture.thumbnail((8, 8))
    assert picture.recipe is None
    with pytest.warns(UserWarning, match="without its recipe"):
        picture.save(tmp_path / "a.png")
    with pytest.raises(RecipeError, match="no recipe"):
        read_recipe(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as again:
        assert read_packet(again.info["xmp"]).source_type == GENERATED
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture.save(tmp_path / "a.png", metadata="none")


def test_copies_and_pickles_know_the_recipe():
    picture = drawn()
    for again in (
        picture.copy(),
        copy.copy(picture),
        copy.deepcopy([picture])[0],
        pickle.loads(pickle.dumps(picture)),
    ):
        assert again == picture and again is not picture and again.recipe == picture.recipe
        again.putpixel((0, 0), (0, 0, 0))
        assert again.recipe is None and picture.recipe is not None
