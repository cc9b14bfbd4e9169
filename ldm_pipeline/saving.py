"""Finished pictures with their recipes -> picture files that appear whole or not at all, and replace nothing.

It does not know how a picture is drawn; how a recipe lies in a file is `picture_files.py`'s matter.
"""

import io
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ldm_pipeline.picture_files import (
    FORMATS,
    Metadata,
    PictureFormat,
    check_format,
    check_metadata,
    save_options,
)
from ldm_pipeline.pipeline import LatentDiffusionPipelineOutput
from ldm_pipeline.recipe import PictureRecipe

LONGEST_STEM_BYTES = 80
MOST_FILES_OF_ONE_NAME = 10_000
ENDINGS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


class SavingError(OSError):
    """A picture could not be written; `saved` holds the files that were, `unsaved` the other pictures."""

    def __init__(self, message: str, *, saved: list[Path], unsaved: list[Image.Image]):
        super().__init__(message)
        self.saved = saved
        self.unsaved = unsaved


def save_pictures(
    output: LatentDiffusionPipelineOutput,
    folder: str | os.PathLike[str],
    *,
    metadata: Metadata = "full",
    format: PictureFormat = "png",
) -> list[Path]:
    """Writes the pictures of one call into `folder` with their recipes; returns the files.

    Files are named after prompt and seed; a name that is taken is never reused, `-2`, `-3` ... follows.

    Args:
        output: What the pipeline returned, with PIL pictures.
        folder: Where to save; made where it is missing.
        metadata: What the files tell. "full": everything, prompts too. "public": that the picture is
            generated, with which model, seed and settings; no prompt, names of LoRAs, regions, input
            pictures or machine, neither in the file nor in its name. "none": that it is generated.
        format: "png", "webp" (lossless too) or "jpeg" (quality 95).

    Raises:
        ValueError: when the output holds arrays instead of PIL pictures, or a recipe has no room in a JPEG.
        SavingError: on a full disk, a folder that cannot be written, and the like; files saved before stay.
    """
    check_metadata(metadata)
    check_format(format)
    pictures = [picture for picture in output.images if isinstance(picture, Image.Image)]
    if output.recipes is None or len(pictures) != len(output.images):
        raise ValueError(
            "output holds no PIL pictures or no recipes: draw with output_type='pil' to save pictures"
        )
    return write_pictures(pictures, folder, recipes=output.recipes, metadata=metadata, format=format)


def write_pictures(
    pictures: Sequence[Image.Image],
    folder: str | os.PathLike[str],
    *,
    recipes: Sequence[PictureRecipe],
    metadata: Metadata = "full",
    format: PictureFormat = "png",
) -> list[Path]:
    """Writes one file per picture, each with its recipe, under names that were free; returns them in order.

    Each file is written beside its place, flushed and then linked, so that a killed process leaves no half.
    """
    folder = Path(folder)
    saved: list[Path] = []
    for index, (picture, recipe) in enumerate(zip(pictures, recipes, strict=True)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            content = picture_bytes(picture, recipe, metadata=metadata, format=format)
            saved.append(_write_new_file(folder, file_stem(recipe, metadata), ENDINGS[format], content))
        except OSError as error:
            done = ", ".join(path.name for path in saved) or "none"
            message = (
                f"cannot save picture {index + 1} of {len(pictures)} in {folder}: {error.strerror or error}; "
                f"saved: {done}; not saved: {len(pictures) - index}; make room or choose another folder"
            )
            raise SavingError(message, saved=saved, unsaved=list(pictures[index:])) from error
    return saved


def file_stem(recipe: PictureRecipe, metadata: Metadata = "full") -> str:
    """A file name without its ending: letters, digits and dashes of the prompt, then the seed.

    A file that is to hold no prompt is not named after it, and one that is to hold nothing has no seed.
    """
    prompt = recipe.prompt if metadata == "full" else ""
    words = re.sub(r"[\W_]+", "-", prompt.lower()).strip("-").encode()[:LONGEST_STEM_BYTES]
    stem = (
        words.decode(errors="ignore").strip("-") or "picture"
    )  # names are limited in bytes; a letter takes up to four
    return stem if recipe.seed is None or metadata == "none" else f"{stem}-{recipe.seed}"


def picture_bytes(
    picture: Image.Image,
    recipe: PictureRecipe,
    *,
    metadata: Metadata = "full",
    format: PictureFormat = "png",
) -> bytes:
    """The file's content: the pixels, and of the recipe what `metadata` says."""
    buffer, kind = io.BytesIO(), format.upper()
    options = FORMATS[kind] | save_options(recipe, format=kind, metadata=metadata)
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def _write_new_file(folder: Path, stem: str, ending: str, content: bytes) -> Path:
    """Writes `content` under the first free name; os.link, unlike os.replace, refuses a taken one."""
    handle, temporary_name = tempfile.mkstemp(dir=folder, prefix=".unfinished-", suffix=ending)
    temporary = Path(temporary_name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp's files are the owner's alone
        for number in range(1, MOST_FILES_OF_ONE_NAME):
            place = folder / (f"{stem}{ending}" if number == 1 else f"{stem}-{number}{ending}")
            try:
                os.link(temporary, place)
                return place
            except FileExistsError:
                continue
        raise FileExistsError(17, f"{MOST_FILES_OF_ONE_NAME} files named {stem} exist")
    finally:
        temporary.unlink(missing_ok=True)
