"""A picture set answers by (seed, step, index) alone; its pictures keep their shape."""

import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.odd_pictures import drawing, encoded, snapshot
from training.data.picture_set import (
    OpenedPictures,
    PictureSet,
    PictureSetConfig,
    SourceConfig,
    open_picture_set,
)
from training.pictures import picture_array

OpenSet = Callable[..., OpenedPictures]
EMOJI = Path(__file__).parents[4] / "shared" / "data" / "emoji"


def test_pictures_come_at_the_size_of_their_bucket(open_set: OpenSet):
    pictures = open_set().training
    assert len(pictures) == 20 and pictures.name(3) == "03.png"
    for index in range(20):
        picture = pictures.tensor(index)
        assert picture.shape == (3, *pictures.sizes[pictures.bucket_of(index)])
        assert picture.dtype == torch.float32 and -1 <= picture.min() < picture.max() <= 1
        assert index in pictures.members(pictures.bucket_of(index))
        assert torch.equal(pictures.tensor(index), picture)


def test_nothing_is_squashed(folder: Path, open_set: OpenSet):
    circle = np.zeros((360, 500, 3), np.uint8)
    y, x = np.mgrid[:360, :500]
    circle[(y - 180) ** 2 + (x - 250) ** 2 < 150**2] = 255
    (folder / "99.png").write_bytes(encoded(Image.fromarray(circle)))
    bright = open_set().training.tensor(20)[0] > 0
    assert abs(int(bright.any(0).sum()) - int(bright.any(1).sum())) <= 1


def test_a_picture_of_the_bucket_s_own_size_keeps_its_pixels(folder: Path, open_set: OpenSet):
    (folder / "99.png").write_bytes(encoded(drawing(64, 64, number=7)))
    assert np.array_equal(
        picture_array(open_set().training.tensor(20)), np.asarray(drawing(64, 64, number=7))
    )


def test_the_background_is_the_one_that_was_asked_for(open_set: OpenSet):
    white, red = (open_set(background=color).training for color in ("white", "#ff0000"))
    assert torch.equal(white.tensor(1), red.tensor(1))
    assert white.tensor(0)[:, 30, 4].tolist() == [1, 1, 1] and red.tensor(0)[:, 30, 4].tolist() == [1, -1, -1]


def test_a_random_background_is_drawn_or_the_picture_s_own(open_set: OpenSet):
    pictures = open_set(background="random").training
    own = {tuple(pictures.tensor(index)[:, 30, 4].tolist()) for index in (0, 5, 10, 15)}
    assert len(own) == 4 and torch.equal(pictures.tensor(0), pictures.tensor(0))
    draws = [pictures.tensor(0, draws=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(pictures.tensor(1, draws=torch.Generator().manual_seed(1)), pictures.tensor(1))


def test_crops_are_in_the_middle_or_drawn(folder: Path, open_set: OpenSet):
    ramp = np.zeros((64, 200, 3), np.uint8)
    ramp[..., 0] = np.arange(200)
    (folder / "99.png").write_bytes(encoded(Image.fromarray(ramp)))
    pictures = open_set(crop=True).training
    middle = picture_array(pictures.tensor(20))[..., 0].mean()
    assert abs(middle - 99.5) < 1
    drawn = [pictures.tensor(20, draws=torch.Generator().manual_seed(s)) for s in (1, 1, 2, 3, 4)]
    assert torch.equal(drawn[0], drawn[1])
    assert len({round(float(picture_array(one)[..., 0].mean())) for one in drawn}) == 4
    assert len(open_set().training) == 20


def test_captions_come_from_templates_and_shuffles(open_set: OpenSet):
    pictures = open_set(template="{style} {text}", caption_shuffle=True, keep_first=1).training
    assert pictures.captions(2) == ("flat owl 2, red, blue, green",)
    drawn = {pictures.caption(2, draws=random.Random(seed)) for seed in range(50)}
    assert len(drawn) == 6 and all(text.startswith("flat owl 2, ") for text in drawn)
    assert open_set().training.caption(2, draws=random.Random(0)) == "owl 2, red, blue, green"


def test_batches_show_every_sample_once_an_epoch(open_set: OpenSet):
    pictures = open_set(repeats=2).training
    assert len(pictures) == 20 and pictures.steps_before(1, batch_size=5) == 8
    shown = [pictures.batch_at(seed=1, step=step, batch_size=5) for step in range(8)]
    assert all(len({pictures.bucket_of(i) for i in batch}) == 1 for batch in shown)
    assert sorted(i for batch in shown for i in batch) == sorted([*range(20)] * 2)
    assert pictures.batch_at(seed=1, step=5, batch_size=5) == shown[5]


def test_a_set_goes_to_other_processes_whole(open_set: OpenSet):
    pictures = open_set().training
    copy: PictureSet = pickle.loads(pickle.dumps(pictures))
    assert copy.key == pictures.key and torch.equal(copy.tensor(3), pictures.tensor(3))
    assert copy.batch_at(seed=3, step=9, batch_size=4) == pictures.batch_at(seed=3, step=9, batch_size=4)


def test_the_key_follows_what_decides_the_samples_and_no_path(folder: Path, open_set: OpenSet):
    key = open_set().training.key
    assert open_set().training.key == key
    changes = [{"background": "black"}, {"resolution": 72}, {"caption_shuffle": True}, {"repeats": 2}]
    changes += [{"template": "{style}"}, {"held_out": 0.3}, {"keep_first": 1}, {"crop": True}]
    assert len({key, *(open_set(**one).training.key for one in changes)}) == 9
    moved = folder.rename(folder.parent / "moved")
    config = PictureSetConfig(sources=(SourceConfig(path=moved),), resolution=64)
    assert open_picture_set(config, cache=None).training.key == key
    (moved / "03.txt").write_text("another owl")
    assert open_picture_set(config, cache=None).training.key != key


def test_training_and_held_out_share_nothing(open_set: OpenSet):
    opened = open_set(held_out=0.3)
    names = [{part.name(i) for i in range(len(part))} for part in (opened.training, opened.held_out)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 20 and names[1]
    assert len(open_set().held_out) == 0
    with pytest.raises(ValueError, match="the picture set is empty"):
        open_set().held_out.batch_at(seed=0, step=0, batch_size=1)


def test_strict_stops_and_names_the_first(folder: Path, open_set: OpenSet):
    open_set(strict=True)
    (folder / "bad.png").write_bytes(b"x")
    with pytest.raises(
        ValueError, match=r"strict: 1 of 21 samples cannot be used, the first is bad.png \(form"
    ):
        open_set(strict=True)


def test_a_set_without_a_picture_to_train_on_is_refused(open_set: OpenSet):
    with pytest.raises(
        ValueError, match=r"no picture is left to train on; 20 were left out \(tiny 20\), 0 held"
    ):
        open_set(resolution=512)


def test_a_picture_that_changed_is_refused(folder: Path, open_set: OpenSet):
    pictures = open_set().training
    (folder / "03.png").write_bytes(encoded(drawing(50, 50, number=77)))
    with pytest.raises(ValueError, match=r"03.png changed since its pictures were looked at; start again"):
        pictures.tensor(3)


@pytest.mark.parametrize("index", [-1, 20])
def test_an_index_outside_the_set_is_refused(open_set: OpenSet, index: int):
    with pytest.raises(ValueError, match=f"index={index}: this set holds 20 pictures"):
        open_set().training.tensor(index)


def global_draws() -> tuple[str, list[int], str]:
    return str(random.getstate()), torch.get_rng_state().tolist(), str(np.random.get_state())


def test_nothing_of_the_user_s_changes_and_no_global_draws_are_made(folder: Path, open_set: OpenSet):
    before = snapshot(folder), global_draws()
    pictures = open_set(background="random", crop=True, caption_shuffle=True).training
    pictures.tensor(0, draws=torch.Generator())
    pictures.batch_at(seed=0, step=7, batch_size=4)
    assert before == (snapshot(folder), global_draws())


@pytest.mark.skipif(not EMOJI.is_dir(), reason="the emoji shards are not here")
def test_a_shard_of_real_pictures_is_a_set(tmp_path: Path):
    source = SourceConfig(path=EMOJI / "emoji-000.tar", template="{style} emoji of {name}")
    config = PictureSetConfig(sources=(source,), resolution=128, held_out=0.05, background="random")
    opened = open_picture_set(config, cache=tmp_path)
    assert opened.report.found > 1500 and set(opened.report.reasons) <= {"duplicate"}
    assert opened.training.tensor(5).shape == (3, 128, 128)
    assert " emoji of " in opened.training.captions(5)[0] and opened.report.without_caption == 0
    assert 0.02 < opened.report.held_out / opened.report.found < 0.09
