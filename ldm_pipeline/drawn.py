"""A drawn picture that knows its recipe and writes it into the files that it is saved to.

It does not know how it was drawn. What is made of it (a crop, a resized or converted picture) is a plain
Pillow picture without a recipe; pixels that were changed in place are found out by their hash.
"""

import os
import warnings
from collections.abc import Callable
from typing import IO, Any, Self

from PIL import Image

from ldm_pipeline.picture_files import FORMATS, Metadata, check_metadata, mark_options, save_options
from ldm_pipeline.recipe import PictureRecipe, pixels_hash

WRITES_ITS_OWN = ("pnginfo", "exif", "xmp", "save_all", "append_images")
"""Arguments of Pillow's `save` whose caller decides what stands in the file."""


class DrawnPicture(Image.Image):
    """A Pillow picture with a recipe."""

    _recipe: Callable[[], PictureRecipe]
    _drawn_hash: str
    _source_type: str

    @classmethod
    def of(
        cls,
        picture: Image.Image,
        recipe: Callable[[], PictureRecipe],
        *,
        drawn_hash: str,
        source_type: str,
    ) -> Self:
        """Make one of a plain picture.

        recipe: gives the recipe when it is asked for. drawn_hash: `pixels_hash` of the picture.
        source_type: IPTC's word for how it came to be.
        """
        drawn = cls()
        plain = Image.Image.__getstate__(picture)
        Image.Image.__setstate__(drawn, plain)
        drawn._recipe, drawn._drawn_hash, drawn._source_type = recipe, drawn_hash, source_type
        return drawn

    @property
    def recipe(self) -> PictureRecipe | None:
        """What made the picture; None once its pixels were changed."""
        return self._recipe() if pixels_hash(self) == self._drawn_hash else None

    def save(
        self,
        fp: str | bytes | os.PathLike[str] | os.PathLike[bytes] | IO[bytes],
        format: str | None = None,
        *,
        metadata: Metadata | None = None,
        **params: Any,
    ) -> None:
        """Save as Pillow does, and with the recipe in PNG, JPEG and WebP files.

        metadata: "full" (for None), "public" or "none", as in `save_pictures`. A call with its own `pnginfo`,
            `exif` or `xmp` decides alone what stands in the file, and other formats carry nothing;
            ValueError for `metadata` beside them. A picture whose pixels were changed keeps the mark that it
            is generated and loses its recipe, with a warning.
        """
        if metadata is not None:
            check_metadata(metadata)
        kind = _format_of(fp, format)
        own = [name for name in WRITES_ITS_OWN if params.get(name) is not None]
        if metadata is not None and (own or kind not in FORMATS):
            beside = f"{own[0]}=" if own else f"the format {kind}"
            raise ValueError(f"metadata={metadata!r} does not go together with {beside}: leave one out")
        if not own and kind in FORMATS:
            params |= self._save_options(kind, metadata or "full")
        super().save(fp, format, **params)

    def _save_options(self, format: str, metadata: Metadata) -> dict[str, Any]:
        recipe = None if metadata == "none" else self.recipe
        if recipe is not None:
            return save_options(recipe, format=format, metadata=metadata)
        if metadata != "none":
            warnings.warn(
                "the picture was changed after it was drawn: it is saved without its recipe", stacklevel=3
            )
        return mark_options(self._source_type, format=format)

    def copy(self) -> Self:
        """A copy that knows the recipe too, and loses it once it is changed."""
        return type(self).of(self, self._recipe, drawn_hash=self._drawn_hash, source_type=self._source_type)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """As `copy`."""
        return self.copy()

    def __getstate__(self) -> list[Any]:
        """Pillow's state, the recipe as JSON and the hash: what has to be computed is computed now."""
        return [*super().__getstate__(), self._recipe().to_json(), self._drawn_hash, self._source_type]

    def __setstate__(self, state: list[Any]) -> None:
        """Take on a state."""
        *plain, recipe, self._drawn_hash, self._source_type = state
        super().__setstate__(plain)
        self._recipe = lambda: PictureRecipe.from_json(recipe)

    def __eq__(self, other: object) -> bool:
        """Whether mode, size and pixels are another picture's, whatever its class."""
        if not isinstance(other, Image.Image):
            return NotImplemented
        ours, theirs = (self.mode, self.size), (other.mode, other.size)
        return ours == theirs and self.tobytes() == other.tobytes()

    __hash__ = None  # type: ignore[assignment]  # as Pillow's pictures, which change


def _format_of(fp: Any, format: str | None) -> str:
    """The format that Pillow would save in; "" where it will complain."""
    if format is not None:
        return {"JPG": "JPEG"}.get(format.upper(), format.upper())
    name = fp if isinstance(fp, str | bytes | os.PathLike) else getattr(fp, "name", "")
    try:
        ending = os.path.splitext(os.fsdecode(name))[1].lower()
    except TypeError:
        return ""
    return Image.registered_extensions().get(ending, "")
