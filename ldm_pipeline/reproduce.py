"""A picture file with a recipe -> the picture again, and how equal it is to the file's.

It does not know how recipes lie in files, nor how pictures are drawn.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from ldm_pipeline.images import open_picture
from ldm_pipeline.picture_files import picture_texts, recipe_in
from ldm_pipeline.recipe import PictureRecipe, pixels_hash
from ldm_pipeline.replay import CannotReplay, arguments_of, open_for

TOLERANCES = {"float32": 2}
HALF_TOLERANCE = 48
"""Steps of 255 that "equal" allows a color by default, by the UNet's number type, and for all others.

Twice what other threads and another instruction set changed at most in 16 pictures of the bundled model
(README, "The same picture every time").
"""
Level = Literal["bit-exact", "equal", "different"]
COMPARED = ("model_hash", "loras", "scheduler", "scheduler_config", "device", "dtypes", "threads")
MAPPINGS = ("environment", "versions")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A fact of the environment that is another one than when the picture was drawn."""

    name: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.name} {self.then} -> {self.now}"


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A picture drawn again, beside the one in the file."""

    picture: Image.Image
    """The new one."""
    recipe: PictureRecipe
    """What made the new one."""
    level: Level
    """"bit-exact": equal bytes; "equal": no color differs by more than the tolerance; else "different".

    Held against the file's pixels, but for lossy files against the hash of those that were drawn, if that is
    equal."""
    largest: int
    """Largest difference of a color, in steps of 255."""
    differing: int
    """Pixels in which any color differs."""
    pixels: int
    tolerance: int
    file_is_as_drawn: bool
    """Whether the file's pixels are still those that were drawn: not in a JPEG, nor in an edited file."""
    drawn_alike: bool
    """Whether the new picture's pixels have the hash that the recipe recorded."""
    changes: tuple[Change, ...]
    """What is other here than there; a picture may be equal all the same."""

    def __str__(self) -> str:
        """The verdict in one line."""
        if self.level == "bit-exact":
            told = "bit-exact"
        else:
            words = "equal within" if self.level == "equal" else "different, by up to"
            told = f"{words} {self.largest}/255 on {self.differing} of {self.pixels} pixels"
        if not self.file_is_as_drawn:
            told += "; the file's pixels are not those that were drawn (a lossy format, or an edit)"
            if self.level != "bit-exact" and self.drawn_alike:
                told += ", which came again bit for bit"
        if self.changes:
            told += "; other than then: " + ", ".join(map(str, self.changes))
        return told


def reproduce(
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    loras: Sequence[Path] = (),
    inputs: Mapping[str, Any] | None = None,
    device: str | None = None,
    tolerance: int | None = None,
) -> Reproduction:
    """Draw a file's picture again and compare.

    Args:
        path: A PNG, JPEG or WebP file that this project saved.
        model: As for `load_pipeline`; None finds a bundled model by the recipe's hash.
        loras: Files of the recipe's LoRAs.
        inputs: What the file does not hold, by the recipe's names, e.g. {"image": picture}.
        device: "cpu", "cuda", ...; None for the recipe's.
        tolerance: Steps of 255, 0 to 255, by which a color may differ in an "equal" picture; None: 2 where
            the recipe's UNet computed in float32, else 48.

    Raises:
        RecipeError: the file carries no recipe, or a damaged one.
        CannotReplay: a model, LoRA or input is missing or another one, named by its hash.
        ValueError: the file is no picture, or an argument is out of range.
    """
    if tolerance is not None and (type(tolerance) is not int or not 0 <= tolerance <= 255):
        raise ValueError(f"tolerance={tolerance!r} is not allowed: use a whole number from 0 to 255")
    texts = picture_texts(path)
    recipe, saved = recipe_in(texts, os.path.basename(os.fspath(path))), open_picture(path)
    if recipe.withheld:
        raise CannotReplay(
            f"the file's recipe is public and leaves out {', '.join(recipe.withheld)}: ask its maker"
        )
    arguments, number = arguments_of(recipe, inputs=inputs)
    pipeline = open_for(recipe, model=model, loras=loras, device=device)
    with as_many_threads(recipe.threads):
        output = pipeline(**arguments)
    picture = output.images[number]
    assert isinstance(picture, Image.Image) and output.recipes is not None
    now = output.recipes[number]
    return compare(picture, now, saved=saved, recipe=recipe, tolerance=tolerance, lossy=not texts.lossless)


def compare(
    picture: Image.Image,
    now: PictureRecipe,
    *,
    saved: Image.Image,
    recipe: PictureRecipe,
    tolerance: int | None = None,
    lossy: bool = False,
) -> Reproduction:
    """Compare a new picture, and what made it, with a saved one and its recipe; `tolerance` as there.

    `lossy` tells that the file cannot hold the pixels that were drawn.
    """
    if tolerance is None:
        tolerance = TOLERANCES.get(recipe.dtype, HALF_TOLERANCE)
    as_drawn = not recipe.pixels_hash or pixels_hash(saved) == recipe.pixels_hash
    if picture.size == saved.size:
        new, old = (np.asarray(one.convert("RGB"), np.int16) for one in (picture, saved))
        differences = np.abs(new - old).max(axis=2)
        largest, differing = int(differences.max()), int((differences > 0).sum())
    else:
        largest, differing = 255, picture.width * picture.height
    drawn_alike = pixels_hash(picture) == recipe.pixels_hash
    level: Level = "equal" if largest <= tolerance else "different"
    if largest == 0 or (lossy and drawn_alike):
        level = "bit-exact"
    return Reproduction(
        picture=picture,
        recipe=now,
        level=level,
        largest=largest,
        differing=differing,
        pixels=picture.width * picture.height,
        tolerance=tolerance,
        file_is_as_drawn=as_drawn,
        drawn_alike=drawn_alike,
        changes=changes(recipe, now),
    )


def changes(then: PictureRecipe, now: PictureRecipe) -> tuple[Change, ...]:
    """List what two recipes of one request tell differently of model, machine and libraries."""
    found: list[Change] = []
    for name in COMPARED:
        old, new = getattr(then, name), getattr(now, name)
        if name == "loras":
            old, new = ([(lora.hash, lora.weight) for lora in one] for one in (old, new))
        if old != new and old not in ("", {}, 0):
            plain = name in ("scheduler_config", "loras")
            found.append(
                Change(
                    name=name,
                    then="as recorded" if plain else _told(old),
                    now="another" if plain else _told(new),
                )
            )
    for name in MAPPINGS:
        old, new = getattr(then, name), getattr(now, name)
        for key in [*old, *(key for key in new if key not in old and old)]:
            if old.get(key) != new.get(key):
                found.append(Change(name=key, then=old.get(key, "-"), now=new.get(key, "-")))
    return tuple(found)


@contextmanager
def as_many_threads(threads: int) -> Iterator[None]:
    """Compute with this many CPU threads, at most this machine's cores; 0: as many as now."""
    before = torch.get_num_threads()
    wanted = min(threads, os.cpu_count() or 1) if threads else before
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return "/".join(f"{value[key]}" for key in sorted(value)) or "-"
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text or "-"
