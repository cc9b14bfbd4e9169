"""A picture's recipe <-> the texts of its PNG, JPEG or WebP file.

It does not know how pictures are drawn or where files are put.

| | counts | for other tools | mark |
| --- | --- | --- | --- |
| PNG | iTXt `ldm_recipe` | tEXt or iTXt `parameters` | XMP, IPTC's DigitalSourceType |
| JPEG, WebP | a property of the XMP packet | EXIF's UserComment, as A1111 writes it | the same packet |

"full" writes all three, "public" the same of `PictureRecipe.public()`, which holds no texts, and "none" the
mark alone: it tells that the picture was generated or edited with a model, as laws and platforms ask, and
nothing about what was asked for.
"""

import os
from typing import Any, Literal, get_args

from PIL import Image, PngImagePlugin

from ldm_pipeline.containers import EXIF_POINTER, USER_COMMENT, XMP_KEYWORD, PictureTexts, read_texts
from ldm_pipeline.parameters import parameters_text
from ldm_pipeline.recipe import PictureRecipe
from ldm_pipeline.recipe_parts import RecipeError, short
from ldm_pipeline.xmp import EDITED, GENERATED, Provenance, read_packet, write_packet

Metadata = Literal["full", "public", "none"]
PictureFormat = Literal["png", "jpeg", "webp"]
CHUNK = "ldm_recipe"
LARGEST_IN_JPEG = 65_502
"""Bytes of an XMP packet, or of EXIF data, that a JPEG file has room for."""
FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
"""Pillow's formats that carry a recipe, and how they are saved where nobody says otherwise."""


def check_metadata(metadata: object) -> None:
    """ValueError in one line unless `metadata` is one of the three words."""
    if metadata not in get_args(Metadata):
        known = ", ".join(map(repr, get_args(Metadata)))
        raise ValueError(f"metadata={metadata!r} is unknown: use one of {known}")


def check_format(picture_format: object) -> None:
    """ValueError in one line unless `format` is one of the three words."""
    if picture_format not in get_args(PictureFormat):
        known = ", ".join(map(repr, get_args(PictureFormat)))
        raise ValueError(f"format={picture_format!r} is unknown: use one of {known}")


def source_type(start: str) -> str:
    """IPTC's word for how a picture came to be: made by a model, or made of a picture by a model."""
    return GENERATED if start == "noise" else EDITED


def mark_options(term: str, *, format: str) -> dict[str, Any]:
    """Give what Pillow's `save` takes to mark a file of `format` with IPTC's word, and with nothing else."""
    packet = write_packet(Provenance(source_type=term))
    if format != "PNG":
        return {"xmp": packet}
    info = PngImagePlugin.PngInfo()
    info.add_itxt(XMP_KEYWORD, packet.decode())
    return {"pnginfo": info}


def save_options(recipe: PictureRecipe, *, format: str, metadata: Metadata = "full") -> dict[str, Any]:
    """Give what Pillow's `save` takes to write a recipe into a file of `format` ("PNG", "JPEG", "WEBP").

    RecipeError where a JPEG file has no room for it.
    """
    check_metadata(metadata)
    options = mark_options(source_type(recipe.request.start), format=format)
    if metadata == "none":
        return options
    written = recipe.public() if metadata == "public" else recipe
    if format == "PNG":
        options["pnginfo"].add_itxt(CHUNK, written.to_json())
        options["pnginfo"].add_text("parameters", parameters_text(written))
        return options
    provenance = Provenance(source_type=source_type(recipe.request.start), recipe=written.to_json())
    exif = Image.Exif()
    exif.get_ifd(EXIF_POINTER)[USER_COMMENT] = b"UNICODE\0" + parameters_text(written).encode("utf-16-be")
    options = {"xmp": write_packet(provenance), "exif": exif.tobytes()}
    longest = max(map(len, options.values()))
    if format == "JPEG" and longest > LARGEST_IN_JPEG:
        raise RecipeError(
            f"the recipe has {longest} bytes, but a JPEG file has room for {LARGEST_IN_JPEG}: save as PNG or"
            " WebP, or with metadata='public'"
        )
    return options


def read_recipe(path: str | os.PathLike[str]) -> PictureRecipe:
    """Reads the recipe from a PNG, JPEG or WebP file; the pixels are not decoded.

    Raises:
        RecipeError: when the file is no such picture, carries no recipe, or one that breaks the schema.
        OSError: when the file cannot be read.
    """
    return recipe_in(picture_texts(path), os.path.basename(os.fspath(path)))


def picture_texts(path: str | os.PathLike[str]) -> PictureTexts:
    """Reads a picture file's texts as `containers.read_texts` does, with RecipeErrors."""
    try:
        return read_texts(path)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def carries_recipe(texts: PictureTexts) -> bool:
    """Whether a file says that it carries a recipe of ours, damaged or not."""
    return CHUNK in texts.texts or b"x-ldm-pipeline" in texts.xmp


def recipe_in(texts: PictureTexts, name: str) -> PictureRecipe:
    """Reads the recipe out of a file's texts; RecipeError as for `read_recipe`."""
    text = texts.texts.get(CHUNK, "")
    if not text and texts.xmp:
        try:
            text = read_packet(texts.xmp).recipe
        except ValueError as error:
            texts.damage.append(str(error))
    if not text:
        damage = f" (damaged: {short(texts.damage[0])})" if texts.damage else ""
        raise RecipeError(f"{name} carries no recipe{damage}; only files saved by this project do")
    try:
        return PictureRecipe.from_json(text)
    except RecipeError as error:
        raise RecipeError(f"{name}: {error}") from None
