"""Batches are a function of (seed, step): whoever asks, from a cache or live, in one process or in two."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny
from tests.tiny_finetune import NumberPictures
from training.finetune_batches import BatchSource, ClassPictures, LatentStore, TextStore

CLASS = ClassPictures(latents=np.ones((3, 8, 8, 8), np.float16), prompt="a dog")


def source(folder: Path, *, vary: bool = False, keep: bool = True, **changes: Any) -> BatchSource:
    pictures, vae, tokenizer = NumberPictures(9), tiny.make_vae(), tiny.make_tokenizer()
    texts = TextStore(tokenizer, tiny.make_text_encoder(tokenizer))
    if keep:
        texts.keep((text for i in range(9) for text in pictures.captions(i)), folder=folder)
    latents = LatentStore(pictures, vae, folder=folder, vary=vary)
    plain = BatchSource(
        pictures=pictures, latents=latents, texts=texts, seed=3, batch_size=4, as_ids=False, empty_share=0.3
    )
    return replace(plain, **changes)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("vary", [False, True], ids=["cached", "live"])
@pytest.mark.parametrize("as_ids", [False, True], ids=["states", "ids"])
def test_two_processes_fill_the_rows_of_one(tmp_path: Path, vary: bool, as_ids: bool):
    made = source(tmp_path, vary=vary, as_ids=as_ids, class_pictures=CLASS, noise_offset=0.1)
    for step in (0, 5):
        whole = made.batch_at(step)
        halves = [made.batch_at(step, own=slice(rank, None, 2)) for rank in (0, 1)]
        for name, value in whole.items():
            for rank, half in enumerate(halves):
                assert torch.equal(value[rank::2], half[name][rank::2]), name


def test_a_batch_is_the_same_for_a_fresh_source_and_another_for_another_step(tmp_path: Path):
    first = source(tmp_path / "a", class_pictures=CLASS)
    again = source(tmp_path / "b", class_pictures=CLASS)
    assert equal(first.batch_at(7), again.batch_at(7))
    assert equal(first.batch_at(7), source(tmp_path / "a", class_pictures=CLASS).batch_at(7))
    one, other = first.batch_at(7), first.batch_at(8)
    assert not any(
        one[n].shape == other[n].shape and torch.equal(one[n], other[n]) for n in ("noise", "uniform")
    )
    assert not torch.equal(one["noise"], replace(first, seed=4).batch_at(7)["noise"])


def test_every_row_has_its_own_noise_and_its_own_level(tmp_path: Path):
    batch = source(tmp_path).batch_at(0)
    flat = batch["noise"].flatten(1)
    assert all(not torch.equal(flat[i], flat[j]) for i in range(4) for j in range(i))
    assert sorted((batch["uniform"][:, 0] * 4).long().tolist()) == [0, 1, 2, 3]


def test_what_is_kept_on_disk_is_what_is_encoded_live(tmp_path: Path):
    kept, live = source(tmp_path, empty_share=0.0), source(tmp_path, keep=False, empty_share=0.0)
    torch.testing.assert_close(kept.batch_at(1)["texts"], live.batch_at(1)["texts"], atol=2e-3, rtol=2e-3)
    index = kept.pictures.batch_at(seed=3, step=1, batch_size=4)[0]
    alone = LatentStore(kept.pictures, tiny.make_vae(), folder=tmp_path, vary=True)
    torch.testing.assert_close(kept.latents.row(index), alone.row(index), atol=2e-3, rtol=2e-3)
    assert kept.latents.row(index).shape[0] == 2 * kept.latents.shape(index)[0]


def test_views_that_vary_are_drawn_anew_each_step(tmp_path: Path):
    live = source(tmp_path, vary=True)
    draws = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    rows = [live.latents.row(0, draws=one) for one in draws]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])


def test_captions_drop_out_at_the_share_that_is_asked(tmp_path: Path):
    made = source(tmp_path, as_ids=True)
    empty = made.texts.ids([""])[0]
    rows = torch.cat([made.batch_at(step)["texts"] for step in range(100)])
    dropped = (rows == empty).all(dim=1).float().mean()
    assert float(dropped) == pytest.approx(0.3, abs=0.08)


def test_a_cache_of_other_weights_is_not_read(tmp_path: Path):
    pictures, vae = NumberPictures(4), tiny.make_vae()
    before = LatentStore(pictures, vae, folder=tmp_path, vary=False).row(0)
    tiny.randomize(vae, 9)
    after = LatentStore(pictures, vae, folder=tmp_path, vary=False).row(0)
    assert not torch.allclose(before, after)


def test_a_long_text_is_known_to_be_cut():
    tokenizer = tiny.make_tokenizer()
    texts = TextStore(tokenizer, tiny.make_text_encoder(tokenizer))
    assert not texts.is_cut("a dog") and texts.is_cut("dog " * 80)
    assert texts.ids(["dog " * 80]).shape == (1, 77)


def test_the_global_random_state_is_left_alone(tmp_path: Path):
    made = source(tmp_path, vary=True)
    torch_state, plain_state = torch.random.get_rng_state(), random.getstate()
    made.batch_at(0)
    assert torch.equal(torch.random.get_rng_state(), torch_state) and random.getstate() == plain_state


def test_a_damaged_row_and_another_contents_file_are_refused_by_name(tmp_path: Path):
    pictures, vae = NumberPictures(9), tiny.make_vae()
    store = LatentStore(pictures, vae, folder=tmp_path, vary=False)
    (file, *_) = sorted(tmp_path.glob("latents-*.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file.name}: row \d+ is damaged; delete the file"):
        for index in range(len(pictures)):
            LatentStore(pictures, vae, folder=tmp_path, vary=False).row(index)
    label = file.with_suffix(".json")
    label.write_text(label.read_text().replace(store.key, "0" * len(store.key)))
    with pytest.raises(ValueError, match=file.name):
        LatentStore(pictures, vae, folder=tmp_path, vary=False)
