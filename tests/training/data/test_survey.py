"""Which samples are used and how, and which are left out with what reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.odd_pictures import drawing, encoded
from training.data.picture_config import PictureSetConfig, SourceConfig
from training.data.survey import Survey, survey_of


@pytest.fixture
def survey(folder: Path) -> Callable[..., Survey]:
    def of(*sources: SourceConfig, **changes: Any) -> Survey:
        config = PictureSetConfig(
            **{"sources": sources or (SourceConfig(path=folder),), "resolution": 64, **changes}
        )
        return survey_of(config, cache=None)

    return of


def left_out(survey: Survey) -> dict[str, str]:
    return {one.name: one.reason for one in survey.left_out}


def test_whole_pictures_are_used_in_the_bucket_of_their_shape(survey: Callable[..., Survey]):
    found = survey()
    assert len(found.uses) == 20 and found.left_out == ()
    shapes = {use.sample.size: found.sizes[use.fit.bucket] for use in found.uses}
    assert shapes[(96, 96)] == (64, 64) and shapes[(72, 128)][0] < shapes[(72, 128)][1]
    assert found.uses[3].captions == ("owl 3, red, blue, green",)


def test_what_does_not_fit_is_left_out_with_its_reason(folder: Path, survey: Callable[..., Survey]):
    for name, size in {"tiny": (20, 20), "long": (600, 64), "wide": (208, 64)}.items():
        (folder / f"{name}.png").write_bytes(encoded(drawing(*size, number=99)))
    (folder / "copy.webp").write_bytes(encoded(drawing(128, 72, number=1), "WEBP", lossless=True))
    found = left_out(survey())
    remedy = "allow crops, or a larger aspect"
    assert found == {
        "copy.webp": "duplicate: the same pixels as 01.png",
        "long.png": f"aspect: 600 x 64 pixels would lose 77% in the nearest bucket, 88 x 40; {remedy}",
        "tiny.png": "tiny: 20 x 20 pixels would be enlarged 3.2 times to 64 x 64, at most 2 is allowed",
        "wide.png": f"aspect: 208 x 64 pixels would lose 32% in the nearest bucket, 88 x 40; {remedy}",
    }
    assert set(left_out(survey(crop=True))) == {"copy.webp", "long.png", "tiny.png"}
    assert set(left_out(survey(crop=True, largest_enlargement=4.0))) == {"copy.webp", "long.png"}
    assert "wide.png" not in left_out(survey(largest_aspect=4.0))


def test_a_source_may_give_only_some_of_its_samples(folder: Path, survey: Callable[..., Survey]):
    for name in ("03", "11"):
        (folder / f"{name}.json").write_text('{"style": "woodcut", "size": 3}')
    (folder / "05.json").write_text("{")
    found = survey(SourceConfig(path=folder, where=("style=woodcut",)))
    assert [use.sample.name for use in found.uses] == ["03.png", "11.png"]
    assert list(left_out(found)) == ["05.png"]  # of which nobody can say what it is
    both = survey(SourceConfig(path=folder, where=("style=woodcut", "style=flat")))
    assert len(both.uses) == 19
    with pytest.raises(ValueError, match="no sample has the field 'stile'; there are: .*style"):
        survey(SourceConfig(path=folder, where=("stile=flat",)))
    with pytest.raises(ValueError, match="where=style=mono: no sample has this value; there are 'flat', 'w"):
        survey(SourceConfig(path=folder, where=("style=mono",)))


def test_a_template_asks_every_sample_for_its_fields(folder: Path, survey: Callable[..., Survey]):
    (folder / "03.json").write_text("{}")
    found = survey(SourceConfig(path=folder, template="{style}: {text}"))
    assert found.uses[0].captions == ("flat: owl 0, red, blue, green",)
    assert left_out(found) == {"03.png": "caption: it has no field 'style', which the template asks for"}
    with pytest.raises(ValueError, match="there is no field 'stile'; there are: license, style, text"):
        survey(SourceConfig(path=folder, template="{stile}"))


def test_several_sources_are_one_set_with_their_own_settings(folder: Path, survey: Callable[..., Survey]):
    other = folder.parent / "other"
    other.mkdir()
    (other / "00.png").write_bytes(encoded(drawing(96, 96, number=50)))
    (other / "01.png").write_bytes((folder / "01.png").read_bytes())
    found = survey(SourceConfig(path=folder), SourceConfig(path=other, repeats=5, template="an owl"))
    last = found.uses[-1]
    assert (last.sample.name, last.repeats, last.captions) == ("other/00.png", 5, ("an owl",))
    assert left_out(found) == {"other/01.png": "duplicate: the same pixels as pictures/01.png"}


def test_the_held_out_share_follows_the_pixels_alone(folder: Path, survey: Callable[..., Survey]):
    before = {use.sample.name: use.held_out for use in survey(held_out=0.4).uses}
    assert 2 <= sum(before.values()) <= 14
    assert not any(use.held_out for use in survey().uses)
    (folder / "00.png").rename(folder / "zz.png")
    (folder / "07.png").unlink()
    after = {use.sample.name: use.held_out for use in survey(held_out=0.4).uses}
    assert after.pop("zz.png") == before["00.png"]
    assert all(before[name] == held_out for name, held_out in after.items())


def test_of_equal_pictures_one_with_a_caption_is_used(folder: Path, survey: Callable[..., Survey]):
    for name in ("00copy.png", "a.png"):
        (folder / name).write_bytes((folder / "03.png").read_bytes())
    assert left_out(survey()) == {
        "00copy.png": "duplicate: the same pixels as 03.png",
        "a.png": "duplicate: the same pixels as 03.png",
    }
    (folder / "03.txt").unlink()
    assert set(left_out(survey())) == {"03.png", "a.png"}


def test_near_duplicates_are_named_and_used(folder: Path, survey: Callable[..., Survey]):
    (folder / "near.jpg").write_bytes(encoded(drawing(128, 72, number=1), "JPEG", quality=85))
    found = survey()
    names = [tuple(found.uses[i].sample.name for i in pair) for pair in found.near]
    assert names == [("01.png", "near.jpg")]
