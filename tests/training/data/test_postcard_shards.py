"""Postcards as shards: what the shards hold is what the set holds, whole or absent, always the same bytes."""

from pathlib import Path

import numpy as np
import pytest

from training.data import postcard_shards
from training.data.picture_set import PictureSetConfig, SourceConfig, open_picture_set
from training.data.postcard_shards import write_postcard_shards
from training.data.postcards import Postcards
from training.scenes.caption import draw_caption


def test_shards_give_back_the_pictures_and_true_captions(postcards: Postcards, tmp_path: Path):
    (path,) = write_postcard_shards(postcards, tmp_path / "shards")
    config = PictureSetConfig(sources=(SourceConfig(path=path.parent),), resolution=64)
    opened = open_picture_set(config, cache=None).training
    assert len(opened) == len(postcards) == 64
    for index in (0, 13, 63):
        pixels = ((opened.tensor(index) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(pixels, postcards.images([index])[0])
        scene, sight = postcards.scene(index), postcards.sight(index)
        drawn = {draw_caption(scene, sight, seed=9000 + n).text for n in range(6)} - {""}
        assert set(opened.captions(index)) == drawn and len(drawn) > 1


def test_only_what_is_missing_is_written_again_with_the_same_bytes(
    postcards: Postcards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(postcard_shards, "SHARD_PICTURES", 24)
    first, second, third = write_postcard_shards(postcards, tmp_path)
    whole, kept = second.read_bytes(), first.stat().st_mtime_ns
    second.unlink()
    assert write_postcard_shards(postcards, tmp_path) == [first, second, third]
    assert second.read_bytes() == whole and first.stat().st_mtime_ns == kept
    monkeypatch.setattr(postcard_shards, "SHARD_PICTURES", 64)
    with pytest.raises(ValueError, match="which is not of this set; choose another folder"):
        write_postcard_shards(postcards, tmp_path)


def test_a_broken_write_leaves_no_shard(
    postcards: Postcards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(postcard_shards, "_add", full)
    with pytest.raises(OSError, match="No space"):
        write_postcard_shards(postcards, tmp_path)
    assert list(tmp_path.iterdir()) == []
