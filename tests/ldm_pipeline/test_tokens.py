"""Texts become the tokenizer's own numbers, cut or in chunks; lost ends and unknown words are found."""

import logging
from typing import Any

import pytest
import torch

from ldm_pipeline.prompt_syntax import WeightedText
from ldm_pipeline.tokens import chunk_ends, pieces_of, spelled_out, tokenize, unknown_words, words_of
from tests import tiny

LONG = ", ".join(["a red car in london"] * 30)


def test_tokens_equal_those_of_the_tokenizer_with_padding_and_cutting(flow_pipe):
    texts = ["paris in the rain", "", "zebra " * 60]
    ours = tokenize(flow_pipe.tokenizer, texts, limit=77)
    theirs = flow_pipe.tokenizer(
        texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    )
    assert torch.equal(ours.ids, theirs.input_ids)
    assert torch.equal(ours.attention, theirs.attention_mask)


def test_what_does_not_fit_is_quoted(flow_pipe):
    long = "red " * 75 + "umbrella in paris"
    tokens = tokenize(flow_pipe.tokenizer, [long, "paris"], limit=77)
    assert tokens.lost[0].strip() == "umbrella in paris" and tokens.lost[1] == ""


def test_what_is_lost_of_weighted_pieces_is_quoted_without_their_weights(flow_pipe):
    weighted = [WeightedText(text="red " * 75), WeightedText(text=" paris (old)", weight=1.3)]
    assert tokenize(flow_pipe.tokenizer, [weighted], limit=77).lost[0].split() == ["paris", "(", "old", ")"]


def test_weights_stand_beside_their_tokens_in_every_chunk(flow_pipe):
    pieces = [WeightedText(text="red " * 76, weight=1.3), WeightedText(text="cat", starts_chunk=True)]
    tokens = tokenize(flow_pipe.tokenizer, [pieces, "paris"], limit=77, long_prompt="chunk")
    assert tokens.chunks == (3, 1) and tokens.lost == ("", "")
    assert tokens.ids.shape == tokens.attention.shape == tokens.weights.shape == (4, 77)
    assert tokens.attention.sum(dim=1).tolist() == [77, 3, 3, 3]
    weighted = [[i for i, weight in enumerate(row) if weight != 1] for row in tokens.weights.tolist()]
    assert weighted == [[*range(1, 76)], [1], [], []]


def test_a_break_is_read_in_a1111s_syntax_only_and_needs_chunks():
    assert pieces_of("a BREAK b", long_prompt="truncate", prompt_syntax="plain") == (
        WeightedText(text="a BREAK b"),
    )
    parted = pieces_of("a BREAK b", long_prompt="chunk", prompt_syntax="a1111")
    assert [piece.text for piece in parted] == ["a", "b"] and parted[1].starts_chunk
    with pytest.raises(ValueError, match="has the word BREAK.* use long_prompt='chunk'"):
        pieces_of("a BREAK b", long_prompt="truncate", prompt_syntax="a1111")


def test_words_are_lower_case_without_hyphens_and_marks():
    assert words_of("A black-and-white Cat, 2 dogs; it's NIGHT!") == [
        *("a", "black", "and", "white", "cat", "2", "dogs", "it's", "night")
    ]


def test_unknown_words_are_named_once_in_reading_order():
    known = {"a", "cat", "and"}
    assert unknown_words(["A zebra and a cat's piano", "zebra"], known) == ["zebra", "piano"]


def test_a_chunk_ends_after_a_near_comma_or_else_a_word_or_else_where_it_is_full():
    word, comma, part = "red</w>", ",</w>", "re"
    assert chunk_ends([word] * 75, 75) == [75]
    assert chunk_ends([word] * 151, 75) == [75, 150, 151]
    assert chunk_ends([*[word] * 55, comma, *[word] * 30], 75) == [56, 86]
    assert chunk_ends([*[word] * 54, comma, *[word] * 30], 75) == [75, 85]
    assert chunk_ends([*[word] * 60, comma, *[word] * 14, comma, word], 75) == [75, 77]
    assert chunk_ends([*[word] * 73, part, part, part, word], 75) == [73, 77]
    assert chunk_ends([part] * 80, 75) == [75, 80]
    assert chunk_ends([], 75) == [0]


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture):
    """What transformers' logger, which does not hand on to others, says."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.WARNING)  # `ldm` makes it silent, also in tests that ran before
    yield caplog
    logger.setLevel(before)
    logger.removeHandler(caplog.handler)


def test_a_prompt_that_is_read_in_chunks_is_not_called_too_long(complaints):
    pipe = tiny.make_pipeline()  # a fresh tokenizer: one complains only once
    pipe(LONG, negative_prompt=LONG, long_prompt="chunk", seed=7, num_inference_steps=1, output_type="pt")
    assert complaints.text == ""
    pipe.tokenizer(LONG)
    assert "Token indices sequence length is longer" in complaints.text, "the check sees such a message"


def test_learned_words_are_written_out_as_diffusers_does(complaints):
    pipe: Any = tiny.make_pipeline()
    pipe.load_textual_inversion(torch.zeros(3, 32), token="<mine>")
    pipe.load_textual_inversion(torch.zeros(1, 32), token="<one>")
    texts = ["paris", "a <mine> and <mine>, <one>", "<mine>_1 alone", f"{LONG} <mine>", ""]
    complaints.clear()
    found = [spelled_out(pipe.tokenizer, text) for text in texts]
    assert complaints.text == ""
    assert found == [pipe.maybe_convert_prompt(text, pipe.tokenizer) for text in texts]
    assert found[1] == "a <mine> <mine>_1 <mine>_2 and <mine> <mine>_1 <mine>_2, <one>"
