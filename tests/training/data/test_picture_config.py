"""Settings of a picture set are checked where they are made."""

from pathlib import Path
from typing import Any

import pytest

from training.data.picture_config import PictureSetConfig, SourceConfig, color_of

SOURCE = SourceConfig(path=Path("pictures"))


def config(**changes: Any) -> PictureSetConfig:
    return PictureSetConfig(**{"sources": (SOURCE,), "resolution": 64, **changes})


def test_plain_settings_are_taken():
    assert config().factor == 8 and config(background="random").background == "random"
    assert SourceConfig(path=Path("a"), repeats=3, template="a {name}").repeats == 3


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"sources": ()}, r"sources=\(\): is empty"),
        ({"resolution": 65}, "resolution=65: must be a multiple of factor=8"),
        ({"held_out": 1.0}, "held_out=1.0: is a share; choose from 0 to below 1"),
        ({"held_out": -0.1}, "held_out=-0.1: is a share"),
        ({"keep_first": -1}, "keep_first=-1: must be at least 0"),
        ({"largest_enlargement": 0.5}, "largest_enlargement=0.5: must be at least 1"),
        ({"largest_aspect": 0.5}, "largest_aspect=0.5: choose from 1 to 4"),
        ({"background": "wite"}, "background='wite': is no color; write a name such as white"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        config(**changes)


@pytest.mark.parametrize(
    "changes, words",
    [({"repeats": 0}, "repeats=0: must be at least 1"), ({"template": "{0}"}, "is no plain field")],
)
def test_bad_sources_are_refused(changes: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        SourceConfig(path=Path("a"), **changes)


def test_colors_have_names_or_numbers():
    assert color_of("white") == (255, 255, 255) and color_of("#ff8000") == (255, 128, 0)
