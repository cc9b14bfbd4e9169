"""Recipes come back from every format, other readers find what they expect, "public" and "none" keep quiet.

The pictures are plain colors; sd-parsers and Pillow stand for other readers.
"""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import sd_parsers
from PIL import Image

from ldm_pipeline.picture_files import (
    CHUNK,
    FORMATS,
    Metadata,
    check_format,
    check_metadata,
    mark_options,
    read_recipe,
    save_options,
)
from ldm_pipeline.recipe import PictureRecipe
from ldm_pipeline.recipe_parts import InputRecord, LoraRecord, RecipeError, RegionRecord
from ldm_pipeline.request import GenerationRequest
from ldm_pipeline.xmp import EDITED, GENERATED, read_packet

SECRETS = ("Paris", "☃", "umbrella", "ink", "a dog", "cdcd", "1212")
RECIPE = PictureRecipe(
    request=GenerationRequest(
        prompts=('Paris ☃ "quoted" <b>&\nSteps: 99',), negative_prompts=("umbrella",), seeds=(7,)
    ),
    model="postcards",
    model_hash="ab" * 32,
    scheduler="DDIMScheduler",
    loras=(LoraRecord(name="ink.safetensors", hash="cd" * 32),),
    regions=(RegionRecord(text="a dog", box=(0.0, 0.0, 1.0, 1.0)),),
    inputs=(InputRecord(name="latents", hash="12" * 32),),
)


def saved(path: Path, recipe: PictureRecipe = RECIPE, *, metadata: str = "full", format: str = "PNG") -> Path:
    options = FORMATS[format] | save_options(recipe, format=format, metadata=cast(Metadata, metadata))
    Image.new("RGB", (16, 8), "red").save(path, format=format, **options)
    return path


def mark(path: Path) -> str:
    with Image.open(path) as picture:
        return read_packet(picture.info["xmp"]).source_type


def forms(text: str) -> list[bytes]:
    return [text.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be")]


@pytest.mark.parametrize("format", FORMATS)
def test_a_recipe_comes_back_and_the_mark_stands_beside_it(format: str, tmp_path: Path):
    path = saved(tmp_path / "a", format=format)
    assert read_recipe(path) == RECIPE
    assert mark(path) == GENERATED
    edited = replace(RECIPE.request, start="picture", strength=0.5)
    assert mark(saved(tmp_path / "b", replace(RECIPE, request=edited), format=format)) == EDITED


@pytest.mark.parametrize("format", FORMATS)
def test_another_reader_finds_the_settings(format: str, tmp_path: Path):
    told = sd_parsers.ParserManager().parse(saved(tmp_path / "a", format=format))
    assert told is not None
    (sampler,) = told.samplers
    assert (sampler.name, sampler.parameters["seed"], sampler.parameters["steps"]) == ("DDIM", "7", "50")
    assert sampler.model is not None and (sampler.model.name, sampler.model.hash) == ("postcards", "ab" * 5)
    assert told.full_prompt.startswith("Paris ☃") and told.full_negative_prompt == "umbrella"


def test_a_text_that_latin_1_can_hold_is_plain_in_png(tmp_path: Path):
    plain = replace(RECIPE, request=replace(RECIPE.request, prompts=("Été",)))
    assert b"tEXtparameters\0" in saved(tmp_path / "a", plain).read_bytes()
    assert b"iTXtparameters\0" in saved(tmp_path / "b").read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_public_and_none_say_nothing_of_what_was_asked_for(format: str, tmp_path: Path):
    full = saved(tmp_path / "full", format=format).read_bytes()
    assert all(any(form in full for form in forms(secret)) for secret in SECRETS)
    for metadata in ("public", "none"):
        path = saved(tmp_path / metadata, metadata=metadata, format=format)
        content = path.read_bytes()
        assert not [secret for secret in SECRETS if any(form in content for form in forms(secret))]
        assert mark(path) == GENERATED
    public = read_recipe(tmp_path / "public")
    assert (public.seed, public.model_hash, public.scheduler) == (7, "ab" * 32, "DDIMScheduler")
    assert "prompt" in public.withheld
    with pytest.raises(RecipeError, match="none carries no recipe"):
        read_recipe(tmp_path / "none")
    with Image.open(tmp_path / "none") as picture:
        assert {*picture.info} & {CHUNK, "parameters", "exif", "comment"} == set()


def test_many_prompts_are_packed_and_too_many_refused_in_one_line(tmp_path: Path):
    def batch(count: int, text: str) -> PictureRecipe:
        prompts = tuple(f"{text} {number}" for number in range(count))
        request = GenerationRequest(prompts=prompts, seeds=tuple(range(count)))
        return PictureRecipe(request=request, picture=count - 1)

    for format in FORMATS:
        assert read_recipe(saved(tmp_path / "a", batch(900, "Paris in rain"), format=format)).seed == 899
    long = batch(1, "☃" * 40_000)
    with pytest.raises(RecipeError, match="JPEG file has room for 65502: save as PNG") as caught:
        saved(tmp_path / "b", long, format="JPEG")
    assert "\n" not in str(caught.value)
    assert read_recipe(saved(tmp_path / "b", long, format="WEBP")) == long


def test_the_record_that_counts_is_ours(tmp_path: Path):
    options = save_options(RECIPE, format="PNG")
    options["pnginfo"].add_text("parameters", "a lie\nSteps: 1, Sampler: Euler, Seed: 1")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", **options)
    assert read_recipe(tmp_path / "a.png") == RECIPE


def test_a_mark_alone_holds_nothing_else():
    for format in FORMATS:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, format=format, **mark_options(EDITED, format=format))
        with Image.open(buffer) as picture:
            assert read_packet(picture.info["xmp"]).source_type == EDITED
            assert "exif" not in picture.info


def test_a_file_without_a_recipe_is_one_line(tmp_path: Path):
    for name in ("plain.png", "picture.jpg", "picture.webp"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "text.png").write_text("no picture")
    for name in ("plain.png", "picture.jpg", "picture.webp", "text.png"):
        with pytest.raises(RecipeError, match=name) as caught:
            read_recipe(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        read_recipe(tmp_path / "missing.png")


@pytest.mark.parametrize("check", [check_metadata, check_format])
def test_words_that_nobody_knows_are_one_line(check: Any):
    check({check_metadata: "public", check_format: "webp"}[check])
    for word in ("all", "", None, "PNG"):
        with pytest.raises(ValueError, match=repr(word)):
            check(word)
