"""The byte-pair encoding gives the same numbers in training, in open_clip and in transformers."""

import random
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from ldm_pipeline import tokens
from training.scenes.caption import Sight, draw_caption
from training.scenes.scene import sample_scene
from training.tokenizer import (
    END,
    LENGTH,
    START,
    Bpe,
    open_clip_tokenizer,
    read_tokenizer,
    train_tokenizer,
    write_open_clip_merges,
    write_transformers_tokenizer,
)

ODD = [
    "", " ", "a  b   c", "\n\ttabs\r\n", "don't it's we'll", "O'Reilly's 'S rock'n'roll", "1234 5.67",
    "!!! ??? ...", "no spaces,at(all)", "Zürich, déjà vu", "cafe\u0301", "你好 world", "🚗🐶 car", "“Paris”",
    "ﬁne Ｆｕｌｌ", "<b>&amp;</b>", "a_b-c", "\u00a0wide\u3000space", "\x00\x07", "İstanbul", "\u200b",
    "A" * 500, "x y " * 200, "rainy paris " * 60,
]  # fmt: skip


@pytest.fixture(scope="module")
def captions() -> list[str]:
    scenes = [sample_scene(11, index) for index in range(3000)]
    return [draw_caption(scene, Sight.everything(scene), seed=0).text for scene in scenes]


@pytest.fixture(scope="module")
def bpe(captions: list[str]) -> Bpe:
    return train_tokenizer(captions)


def test_transformers_reads_the_same_numbers_from_the_folder(bpe: Bpe, captions: list[str], tmp_path: Path):
    write_transformers_tokenizer(bpe, tmp_path / "tokenizer")
    names = {path.name for path in (tmp_path / "tokenizer").iterdir()}
    assert names >= {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"}
    texts = captions[:1000] + ODD
    expected = bpe.encode(texts)
    opened = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    opened.save_pretrained(tmp_path / "again")
    for tokenizer in (opened, CLIPTokenizer.from_pretrained(tmp_path / "again")):
        assert (
            tokenizer.model_max_length == LENGTH
            and tokenizer.pad_token_id == tokenizer.eos_token_id == bpe.end
        )
        rows = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        assert torch.equal(rows, expected)
        assert torch.equal(tokens.tokenize(tokenizer, texts, limit=LENGTH).ids, expected)


def test_open_clip_gives_the_same_numbers(bpe: Bpe, captions: list[str], tmp_path: Path):
    write_open_clip_merges(bpe, tmp_path / "merges.txt.gz")
    tokenizer = open_clip_tokenizer(tmp_path / "merges.txt.gz")
    assert tokenizer.encoder.keys() - {"<start_of_text>", "<end_of_text>"} == bpe.numbers.keys() - {
        START,
        END,
    }
    assert (tokenizer.sot_token_id, tokenizer.eot_token_id) == (bpe.end - 1, bpe.end)
    texts = captions[:1000] + ODD
    assert torch.equal(tokenizer(texts), bpe.encode(texts))


def test_a_row_starts_and_ends_with_its_marks_and_is_filled_with_the_end(bpe: Bpe):
    rows = bpe.encode(["", "a dog", "red bus " * 100])
    assert rows.shape == (3, LENGTH) and rows.dtype == torch.int64
    assert (rows[:, 0] == bpe.end - 1).all() and (rows[:, -1] == bpe.end).all()
    assert (rows[0, 1:] == bpe.end).all()
    assert rows[1, 1:3].max() < bpe.end - 1 and (rows[1, 3:] == bpe.end).all()
    assert (rows[2, 1:-1] < bpe.end - 1).all()
    assert bpe.end == bpe.vocabulary_size - 1 == rows.max()
    assert bpe.encode([]).shape == (0, LENGTH)


def test_common_words_are_one_token_and_captions_are_short(bpe: Bpe, captions: list[str]):
    rows = bpe.encode(["paris", "umbrella", "Rainy", "turtleneck", "red car"])
    assert (rows != bpe.end).sum(1).tolist() == [2, 2, 2, 2, 3]
    assert (bpe.encode(captions) != bpe.end).sum(1).max() <= 60


def test_every_text_can_be_read_back(bpe: Bpe):
    for sentence in ("a dog wearing a beret", "zürich 你好 🚗", "it's 42!"):
        (row,) = bpe.encode([sentence])
        found = str(bpe.transformers.decode(row, skip_special_tokens=True))
        assert found.replace(" ", "") == sentence.replace(" ", "")


def test_training_does_not_depend_on_the_order_of_captions(bpe: Bpe, captions: list[str], tmp_path: Path):
    shuffled = list(captions)
    random.Random(0).shuffle(shuffled)
    assert train_tokenizer(iter(shuffled)) == bpe
    assert train_tokenizer(captions[:50]) != bpe
    for name in ("a", "b"):
        write_open_clip_merges(bpe, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_vocabulary_is_as_large_as_asked_at_most(bpe: Bpe, captions: list[str]):
    assert 600 < bpe.vocabulary_size <= 2048
    small = train_tokenizer(captions, vocab_size=600)
    assert small.vocabulary_size == 600 and small.merges == bpe.merges[: 600 - 514]
    assert train_tokenizer(["aaa aaa"]).merges == (("a", "a"), ("aa", "a</w>"))
    with pytest.raises(ValueError, match="vocab_size: 100 is below 514"):
        train_tokenizer(captions, vocab_size=100)


def test_one_string_instead_of_a_list_is_an_error(bpe: Bpe):
    with pytest.raises(ValueError, match="pass a list"):
        bpe.encode("a dog")


def test_an_encoding_is_read_back_from_its_folder(bpe: Bpe, tmp_path: Path):
    write_transformers_tokenizer(bpe, tmp_path)
    assert read_tokenizer(tmp_path) == bpe
