"""A folder of drawings in several shapes with captions and fields, and a set opened from it.

Knows nothing of what is tested with them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.odd_pictures import drawing, encoded, with_alpha
from training.data.picture_set import OpenedPictures, PictureSetConfig, SourceConfig, open_picture_set

SHAPES = ((96, 96), (128, 72), (72, 128), (90, 120))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 pictures in four shapes, every fifth half transparent; with captions and the field `style`."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(20):
        picture = drawing(*SHAPES[number % 4], number=number)
        picture = with_alpha(picture) if number % 5 == 0 else picture
        (folder / f"{number:02}.png").write_bytes(encoded(picture))
        (folder / f"{number:02}.txt").write_text(f"owl {number}, red, blue, green\n")
        (folder / f"{number:02}.json").write_text(json.dumps({"style": "flat", "license": "MIT"}))
    return folder


@pytest.fixture
def open_set(folder: Path, tmp_path: Path) -> Callable[..., OpenedPictures]:
    """Opens the folder at 64 pixels, with changed settings where given."""

    def opened(*, template: str | None = None, repeats: int = 1, **changes: Any) -> OpenedPictures:
        source = SourceConfig(path=folder, template=template, repeats=repeats)
        config = PictureSetConfig(**{"sources": (source,), "resolution": 64, **changes})
        return open_picture_set(config, cache=tmp_path / "cache")

    return opened
