"""Texts become the token states that transformers computes, and what is lost is reported."""

import pytest
import torch

from ldm_pipeline.text import condition, encode, tokenize, unknown_words, words_of

CPU = torch.device("cpu")


def states_of(pipe, texts, **settings):
    plain = {"negatives": None, "needs_null": False, "per_row": 1, "clip_skip": None}
    return condition(
        pipe.tokenizer,
        pipe.text_encoder,
        prompts=texts,
        device=CPU,
        dtype=torch.float32,
        **{**plain, **settings},
    )


def test_tokens_equal_those_of_the_tokenizer_with_padding_and_cutting(flow_pipe):
    texts = ["paris in the rain", "", "zebra " * 60]
    ours = tokenize(flow_pipe.tokenizer, texts, limit=77)
    theirs = flow_pipe.tokenizer(
        texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    )
    assert torch.equal(ours.ids, theirs.input_ids)
    assert torch.equal(ours.attention, theirs.attention_mask)


@torch.no_grad()
def test_what_does_not_fit_is_quoted(flow_pipe):
    long = "red " * 75 + "umbrella in paris"
    tokens = tokenize(flow_pipe.tokenizer, [long, "paris"], limit=77)
    assert tokens.lost[0].strip() == "umbrella in paris" and tokens.lost[1] == ""


@torch.no_grad()
def test_clip_skip_zero_equals_the_last_layer_and_one_does_not(flow_pipe):
    tokens = tokenize(flow_pipe.tokenizer, ["paris in the rain"], limit=77)
    plain, zero, one = (
        encode(flow_pipe.text_encoder, tokens, clip_skip=skip, device=CPU) for skip in (None, 0, 1)
    )
    torch.testing.assert_close(zero, plain)
    assert (one - plain).abs().max() > 0.01
    with pytest.raises(ValueError, match="clip_skip=3 leaves no layer: use at most 2"):
        encode(flow_pipe.text_encoder, tokens, clip_skip=3, device=CPU)


@torch.no_grad()
def test_clip_skip_is_applied_to_the_negative_prompt_too(flow_pipe):
    skipped, _ = states_of(flow_pipe, ["paris"], negatives=["paris"], clip_skip=1)
    assert skipped.negative is not None
    assert torch.equal(skipped.prompt, skipped.negative)


@torch.no_grad()
def test_rows_are_spread_prompt_major_and_the_null_is_the_encoded_empty_text(flow_pipe):
    found, lost = states_of(
        flow_pipe, ["paris", "london"], negatives=["rain", ""], needs_null=True, per_row=2
    )
    assert found.negative is not None and found.null is not None and lost == []
    assert found.prompt.shape == (4, 77, 32)
    assert torch.equal(found.prompt[0], found.prompt[1])
    assert not torch.equal(found.prompt[1], found.prompt[2])
    assert torch.equal(found.null[0], found.negative[2]) and found.null.abs().sum() > 0


def test_words_are_lower_case_without_hyphens_and_marks():
    assert words_of("A black-and-white Cat, 2 dogs; it's NIGHT!") == [
        *("a", "black", "and", "white", "cat", "2", "dogs", "it's", "night")
    ]


def test_unknown_words_are_named_once_in_reading_order():
    known = {"a", "cat", "and"}
    assert unknown_words(["A zebra and a cat's piano", "zebra"], known) == ["zebra", "piano"]
