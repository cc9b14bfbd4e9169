"""Token states of a set's captions: the encoder's own, made once, the empty caption among them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.tiny import make_text_encoder, make_tokenizer
from training.data.picture_set import OpenedPictures
from training.data.text_cache import text_cache

OpenSet = Callable[..., OpenedPictures]


@torch.no_grad()
def test_states_are_the_encoder_s_own(open_set: OpenSet, tmp_path: Path):
    opened, tokenizer, encoder = (
        open_set(held_out=0.3),
        make_tokenizer(),
        make_text_encoder(make_tokenizer()).eval(),
    )
    sets = [opened.training, opened.held_out]
    cache = text_cache(sets, tokenizer, encoder, tmp_path, more=["a cat"], dtype=torch.float32)
    texts = ["", "a cat", sets[0].captions(0)[0], sets[1].captions(0)[0]]
    ids = tokenizer(
        texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    ).input_ids
    assert torch.allclose(cache.read(texts), encoder(ids).last_hidden_state, atol=1e-5)
    again = text_cache(sets, tokenizer, encoder, tmp_path, more=["a cat"], dtype=torch.float32)
    assert (
        torch.equal(again.read(texts), cache.read(texts)) and len(list(tmp_path.glob("captions-*.npy"))) == 1
    )


def test_other_captions_or_weights_make_another_file(folder: Path, open_set: OpenSet, tmp_path: Path):
    tokenizer, encoder = make_tokenizer(), make_text_encoder(make_tokenizer()).eval()
    for count in (1, 2, 3):
        text_cache([open_set().training], tokenizer, encoder, tmp_path / "texts")
        assert len(list((tmp_path / "texts").glob("captions-*.npy"))) == count
        if count == 1:
            (folder / "02.txt").write_text("a dog")
        else:
            with torch.no_grad():
                next(encoder.parameters()).mul_(1.5)


def test_a_text_that_is_not_there_and_shuffled_tags_are_refused(open_set: OpenSet, tmp_path: Path):
    tokenizer, encoder = make_tokenizer(), make_text_encoder(make_tokenizer()).eval()
    with pytest.raises(ValueError, match="texts: 'a dog' is not in the cache"):
        text_cache([open_set().training], tokenizer, encoder, tmp_path).read(["a dog"])
    with pytest.raises(ValueError, match="caption_shuffle=True: makes every caption a new one"):
        text_cache([open_set(caption_shuffle=True).training], tokenizer, encoder, tmp_path)
