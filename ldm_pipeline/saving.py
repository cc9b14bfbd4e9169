"""Finished pictures with their recipes -> PNG files that appear whole or not at all, and replace nothing.

It does not know how a picture is drawn; how a recipe lies in a file is `recipe.py`'s matter.
"""

import dataclasses
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from ldm_pipeline.folder import model_hash
from ldm_pipeline.pipeline import LatentDiffusionPipeline, LatentDiffusionPipelineOutput
from ldm_pipeline.recipe import (
    PictureRecipe,
    json_value,
    library_versions,
    pixels_hash,
    plain_name,
    png_metadata,
)
from ldm_pipeline.request import GenerationRequest

LONGEST_STEM_BYTES = 80
MOST_FILES_OF_ONE_NAME = 10_000


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
    pipeline: LatentDiffusionPipeline,
    image: Image.Image | None = None,
    mask_image: Image.Image | None = None,
    lora: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Writes the pictures of one call into `folder` as PNG files that carry their recipes; returns the files.

    Files are named after prompt and seed; a name that is taken is never reused, `-2`, `-3` ... follows.

    Args:
        output: What the pipeline returned, with PIL pictures.
        folder: Where to save; made where it is missing.
        pipeline: The pipeline that drew them, for model, scheduler and device in the recipe.
        image: The picture that the call started from: its hash goes into the recipe. None for pictures that
            started from noise.
        mask_image: The mask of an inpainting call; None for others.
        lora: The LoRA file that the pipeline was loaded with, if any.

    Raises:
        ValueError: when the output holds arrays instead of PIL pictures, or the picture or mask that the call
            started from is missing.
        SavingError: on a full disk, a folder that cannot be written, and the like; files saved before stay.
    """
    pictures = [picture for picture in output.images if isinstance(picture, Image.Image)]
    if output.request is None or len(pictures) != len(output.images):
        raise ValueError(
            "output holds no PIL pictures or no request: draw with output_type='pil' to save pictures"
        )
    start = output.request.start
    for name, given, wanted in (
        ("image", image, start != "noise"),
        ("mask_image", mask_image, start == "masked picture"),
    ):
        if wanted and given is None:
            raise ValueError(
                f"{name} is missing for pictures that started from a {start}: give the call's own"
            )
    shared = recipe_of_pipeline(
        pipeline, output.request, image=image, mask_image=mask_image, lora=Path(lora) if lora else None
    )
    recipes = [
        dataclasses.replace(shared, picture=index, pixels_hash=pixels_hash(picture))
        for index, picture in enumerate(pictures)
    ]
    return write_pictures(pictures, folder, recipes=recipes)


def recipe_of_pipeline(
    pipeline: LatentDiffusionPipeline,
    request: GenerationRequest,
    *,
    image: Image.Image | None = None,
    mask_image: Image.Image | None = None,
    lora: Path | None = None,
) -> PictureRecipe:
    """What the recipes of one call share: request, weights, scheduler, inputs, device, versions."""
    source = Path(pipeline.name_or_path or "")
    scheduler = pipeline.scheduler
    return PictureRecipe(
        request=request,
        model=plain_name(source.name),
        model_hash=_weights_hash(source),
        lora=plain_name(lora.name) if lora else "",
        lora_hash=_weights_hash(lora) if lora else "",
        scheduler=type(scheduler).__name__,
        scheduler_config=json_value({k: v for k, v in scheduler.config.items() if not k.startswith("_")}),
        image_hash=pixels_hash(image) if image is not None else "",
        mask_hash=pixels_hash(mask_image) if mask_image is not None else "",
        device=pipeline.device.type,
        dtype=str(pipeline.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        versions=library_versions(),
    )


def write_pictures(
    pictures: Sequence[Image.Image],
    folder: str | os.PathLike[str],
    *,
    recipes: Sequence[PictureRecipe],
) -> list[Path]:
    """Writes one PNG per picture, each with its recipe, under names that were free; returns them in order.

    Each file is written beside its place, flushed and then linked, so that a killed process leaves no half.
    """
    folder = Path(folder)
    saved: list[Path] = []
    for index, (picture, recipe) in enumerate(zip(pictures, recipes, strict=True)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            saved.append(_write_new_file(folder, file_stem(recipe), png_bytes(picture, recipe)))
        except OSError as error:
            done = ", ".join(path.name for path in saved) or "none"
            message = (
                f"cannot save picture {index + 1} of {len(pictures)} in {folder}: {error.strerror or error}; "
                f"saved: {done}; not saved: {len(pictures) - index}; make room or choose another folder"
            )
            raise SavingError(message, saved=saved, unsaved=list(pictures[index:])) from error
    return saved


def file_stem(recipe: PictureRecipe) -> str:
    """A file name without its ending: letters, digits and dashes of the prompt, then the seed."""
    words = re.sub(r"[\W_]+", "-", recipe.prompt.lower()).strip("-").encode()[:LONGEST_STEM_BYTES]
    stem = (
        words.decode(errors="ignore").strip("-") or "picture"
    )  # names are limited in bytes; a letter takes up to four
    return stem if recipe.seed is None else f"{stem}-{recipe.seed}"


def png_bytes(picture: Image.Image, recipe: PictureRecipe) -> bytes:
    """The PNG file's content: the pixels and the recipe."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=png_metadata(recipe))
    return buffer.getvalue()


def _write_new_file(folder: Path, stem: str, content: bytes) -> Path:
    """Writes `content` under the first free name; os.link, unlike os.replace, refuses a taken one."""
    handle, temporary_name = tempfile.mkstemp(dir=folder, prefix=".unfinished-", suffix=".png")
    temporary = Path(temporary_name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp's files are the owner's alone
        for number in range(1, MOST_FILES_OF_ONE_NAME):
            place = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
            try:
                os.link(temporary, place)
                return place
            except FileExistsError:
                continue
        raise FileExistsError(17, f"{MOST_FILES_OF_ONE_NAME} files named {stem} exist")
    finally:
        temporary.unlink(missing_ok=True)


def _weights_hash(source: Path) -> str:
    """SHA-256 of a pipeline folder's or a single file's weights; "" for a pipeline made of parts."""
    if source.is_file():
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return model_hash(source) if (source / "model_index.json").is_file() else ""
