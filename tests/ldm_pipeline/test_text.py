"""Texts become the token states that transformers computes, and what is lost is reported."""

import pytest
import torch

from ldm_pipeline.text import condition, encode, weigh
from ldm_pipeline.tokens import tokenize

LONG = "a red car in the rain, " * 15
"""120 tokens, eight a phrase: two chunks, of nine phrases and of six."""
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
    assert torch.equal(found.null.states[0], found.negative[2]) and found.null.states.abs().sum() > 0


MODES = [
    {"long_prompt": long_prompt, "prompt_syntax": prompt_syntax}
    for long_prompt in ("truncate", "chunk")
    for prompt_syntax in ("plain", "a1111")
]


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(mode.values()))
def test_a_short_prompt_has_the_same_bits_in_every_mode(flow_pipe, mode):
    texts = ["a red car, in the rain", "", "red " * 75]
    found, lost = states_of(flow_pipe, texts, **mode)
    inputs = flow_pipe.tokenizer(texts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    assert torch.equal(found.prompt, flow_pipe.text_encoder(inputs).last_hidden_state)
    assert lost == [] and found.prompts[0].attention is None and found.prompts[0].weight is None


@torch.no_grad()
def test_the_chunks_of_a_long_prompt_are_encoded_each_between_marks_and_put_together(flow_pipe):
    found, lost = states_of(flow_pipe, [LONG], long_prompt="chunk")
    first, second = ("a red car in the rain, " * 9, "a red car in the rain, " * 6)
    parts, _ = states_of(flow_pipe, [first, second])
    assert found.prompt.shape == (1, 154, 32) and lost == []
    torch.testing.assert_close(found.prompt, parts.prompt.reshape(1, 154, 32))


@torch.no_grad()
def test_break_starts_a_chunk_and_is_refused_where_there_are_none(flow_pipe):
    chunked = {"long_prompt": "chunk", "prompt_syntax": "a1111"}
    found, _ = states_of(flow_pipe, ["a cat BREAK a dog"], **chunked)
    parts, _ = states_of(flow_pipe, ["a cat", "a dog"])
    torch.testing.assert_close(found.prompt, parts.prompt.reshape(1, 154, 32))
    plain, _ = states_of(flow_pipe, ["a cat BREAK a dog"], long_prompt="chunk")
    assert plain.prompt.shape[1] == 77
    ended, _ = states_of(flow_pipe, ["a cat BREAK"], **chunked)
    assert torch.equal(ended.prompt, states_of(flow_pipe, ["a cat"])[0].prompt)
    with pytest.raises(ValueError, match="has the word BREAK.* use long_prompt='chunk'"):
        states_of(flow_pipe, ["a cat BREAK a dog"], prompt_syntax="a1111")


@torch.no_grad()
def test_weighted_tokens_are_multiplied_and_the_mean_of_the_chunk_is_restored(flow_pipe):
    found, _ = states_of(flow_pipe, ["a (red:1.3) car"], prompt_syntax="a1111")
    plain = states_of(flow_pipe, ["a red car"])[0].prompt
    expected = plain.clone()
    expected[:, 2] *= 1.3
    expected *= plain.mean() / expected.mean()
    torch.testing.assert_close(found.prompt, expected)
    torch.testing.assert_close(found.prompt.mean(), plain.mean())
    assert (found.prompt - plain)[:, 2].abs().max() > 0.1


@torch.no_grad()
def test_weights_touch_their_own_chunk_and_text_only(flow_pipe):
    texts = [LONG, f"(red:1.3) {LONG}", "a cat"]
    settings = {"long_prompt": "chunk", "prompt_syntax": "a1111"}
    weighted = states_of(flow_pipe, texts, **settings)[0].prompt
    plain = states_of(flow_pipe, [LONG, f"red {LONG}", "a cat"], **settings)[0].prompt
    assert torch.equal(weighted[0], plain[0]) and torch.equal(weighted[2], plain[2])
    assert not torch.allclose(weighted[1, :77], plain[1, :77])
    assert torch.equal(weighted[1, 77:], plain[1, 77:])


def test_weights_that_undo_the_mean_are_refused():
    states = torch.tensor([[[1.0], [2.0], [3.0]]])
    torch.testing.assert_close(
        weigh(states, torch.tensor([[1.0, 1.0, 2.0]])), torch.tensor([[[1.0], [2.0], [6.0]]]) * 2 / 3
    )
    for weight in (-1.0, -3.0):
        with pytest.raises(ValueError, match=f"weights down to {weight:g} and up to 1, .* nearer to 1"):
            weigh(states, torch.tensor([[1.0, 1.0, weight]]))


@torch.no_grad()
def test_what_is_lost_of_a_weighted_prompt_is_quoted_without_syntax(flow_pipe):
    text = "red " * 75 + "(umbrella:1.3) in [paris]"
    _, lost = states_of(flow_pipe, [text], prompt_syntax="a1111")
    assert [end.strip() for end in lost] == ["umbrella in paris"]


@torch.no_grad()
def test_a_shorter_text_is_padded_and_its_padding_is_marked(flow_pipe):
    found, _ = states_of(
        flow_pipe, [LONG, "paris"], negatives=["rain", "rain"], per_row=2, long_prompt="chunk"
    )
    (branch,) = found.prompts
    assert branch.attention is not None and found.negatives[0].attention is None
    assert branch.attention.sum(dim=1).tolist() == [154, 154, 77, 77]
    assert branch.states[2:, 77:].abs().max() == 0
    torch.testing.assert_close(branch.states[2:3, :77], states_of(flow_pipe, ["paris"])[0].prompt)


@torch.no_grad()
def test_rows_of_several_texts_become_branches_with_weights(flow_pipe):
    prompts = [[("a cat", 0.75), ("a dog", 0.5)], "paris"]
    found, _ = states_of(flow_pipe, prompts, negatives=["rain", ["night", "city", "day"]], per_row=2)
    single, _ = states_of(flow_pipe, ["a dog", "city"])
    first, second = found.prompts
    assert first.weight is not None and second.weight is not None
    assert first.weight.tolist() == [0.75, 0.75, 1, 1] and second.weight.tolist() == [0.5, 0.5, 0, 0]
    torch.testing.assert_close(second.states[1], single.prompt[0])
    weights = [branch.weight for branch in found.negatives]
    assert weights[0] is None and [w.tolist() for w in weights[1:] if w is not None] == [[0, 0, 1, 1]] * 2
    torch.testing.assert_close(found.negatives[1].states[3], single.prompt[1])
    with pytest.raises(ValueError, match="has 2 texts here: give one text per row"):
        assert found.prompt is None


@pytest.mark.parametrize("weights", [(1, -1), (0, 0), (0.5, -2)])
def test_a_sum_without_weight_is_refused(flow_pipe, weights):
    row = list(zip(("a cat", "a dog"), weights, strict=True))
    with pytest.raises(ValueError, match="sum of 0 or less: give it a positive sum"):
        states_of(flow_pipe, [row])


@torch.no_grad()
def test_token_states_are_taken_as_they_are(flow_pipe):
    given = torch.rand(2, 154, 32, generator=torch.Generator().manual_seed(0))
    found, lost = states_of(flow_pipe, given, negatives=given[:, :77], per_row=2)
    assert torch.equal(found.prompt[::2], given) and lost == []
    assert found.negative is not None and torch.equal(found.negative[1::2], given[:, :77])
