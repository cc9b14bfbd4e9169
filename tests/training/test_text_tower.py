"""The text tower: built from a seed, causal, and equal to its export.

It does not know of the losses that train it.
"""

from pathlib import Path

import pytest
import torch
from open_clip.model import CLIP
from transformers import CLIPTextModel, CLIPTokenizer

from training.text_tower import (
    build_clip,
    embed_text,
    encode_text_states,
    end_positions,
    export_text_encoder,
    without_padding,
)
from training.tokenizer import (
    open_clip_tokenizer,
    train_tokenizer,
    write_open_clip_merges,
    write_transformers_tokenizer,
)

BOS, EOS, VOCAB = 90, 91, 100
"""The end token is not the highest id on purpose: nothing may rely on that."""


def tiny_clip(seed: int = 0) -> CLIP:
    clip = build_clip(
        vocab_size=VOCAB, eos_token_id=EOS, seed=seed, width=32, layers=2, heads=2, vision_width=8
    )
    with torch.no_grad():
        draws = torch.Generator().manual_seed(seed)
        for parameter in clip.parameters():  # biases too, which start at zero and would hide a wrong mapping
            parameter += 0.1 * torch.randn(parameter.shape, generator=draws)
    return clip.eval()


@torch.no_grad()
def states_in_open_clip(clip: CLIP, ids: torch.Tensor) -> torch.Tensor:
    """All token states after the last norm while open_clip's own `encode_text` runs: none of our code."""
    seen: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        seen.append(output)

    hook = clip.get_submodule("ln_final").register_forward_hook(keep)
    try:
        clip.encode_text(ids)
    finally:
        hook.remove()
    (states,) = seen
    return states


def padded_ids(*, pad: int = EOS) -> torch.Tensor:
    """The empty string, short texts, one with ids above the end token, and one that fills the context."""
    texts = [[], [5], [7, 95, 99, 8], list(range(10, 40)), [3 + i % 80 for i in range(75)]]
    rows = [[BOS, *text, EOS] for text in texts]
    return torch.tensor([row + [pad] * (77 - len(row)) for row in rows])


@pytest.mark.parametrize("pad", [EOS, 0])
@torch.no_grad()
def test_the_export_gives_all_77_token_states_of_open_clip(pad: int):
    clip, ids = tiny_clip(), padded_ids(pad=pad)
    encoder = export_text_encoder(clip, bos_token_id=BOS, pad_token_id=pad)
    output = encoder(ids)
    states = states_in_open_clip(clip, ids)
    assert states.shape == (5, 77, 32)
    torch.testing.assert_close(output.last_hidden_state, states, atol=1e-5, rtol=0)
    pooled = states[torch.arange(5), end_positions(clip, ids)]
    torch.testing.assert_close(output.pooler_output, pooled, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("pad", [EOS, 0])
def test_the_states_that_losses_see_are_open_clips(pad: int):
    clip, ids = tiny_clip(), padded_ids(pad=pad)
    torch.testing.assert_close(
        encode_text_states(clip, ids), states_in_open_clip(clip, ids), atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_the_export_is_equal_after_saving_and_opening(tmp_path: Path):
    clip, ids = tiny_clip(), padded_ids()
    export_text_encoder(clip, bos_token_id=BOS, pad_token_id=EOS).save_pretrained(tmp_path)
    opened = CLIPTextModel.from_pretrained(tmp_path)
    torch.testing.assert_close(
        opened(ids).last_hidden_state, states_in_open_clip(clip, ids), atol=1e-5, rtol=0
    )
    config = opened.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (BOS, EOS, EOS)
    assert config.hidden_act == "gelu"


@torch.no_grad()
def test_raw_strings_give_equal_states_through_open_clip_and_through_a_saved_folder(tmp_path: Path):
    bpe = train_tokenizer(["paris on a rainy day", "a dog wearing a beret", "two red cars at night"] * 3)
    texts = [
        "",
        "Paris on a rainy day",
        "a dog, wearing a BERET!",
        "never seen: \u00e9t\u00e9 42",
        "umbrella " * 99,
    ]
    write_open_clip_merges(bpe, tmp_path / "merges.txt.gz")
    write_transformers_tokenizer(bpe, tmp_path / "tokenizer")
    clip = build_clip(vocab_size=bpe.vocabulary_size, eos_token_id=bpe.end, seed=0, vision_width=8).eval()
    encoder = export_text_encoder(clip, bos_token_id=bpe.end - 1, pad_token_id=bpe.end)
    encoder.save_pretrained(tmp_path / "text_encoder")

    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    rows = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    theirs = CLIPTextModel.from_pretrained(tmp_path / "text_encoder")(rows.input_ids).last_hidden_state
    ids = open_clip_tokenizer(tmp_path / "merges.txt.gz")(texts)
    in_open_clip = states_in_open_clip(clip, ids)
    assert in_open_clip.shape == (5, 77, 192)
    torch.testing.assert_close(theirs, in_open_clip, atol=1e-5, rtol=0)
    torch.testing.assert_close(encode_text_states(clip, ids), in_open_clip, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_export_owns_its_weights():
    clip, ids = tiny_clip(), padded_ids()
    encoder = export_text_encoder(clip, bos_token_id=BOS, pad_token_id=EOS)
    before = encoder(ids).last_hidden_state
    for parameter in clip.parameters():
        parameter.zero_()
    torch.testing.assert_close(encoder(ids).last_hidden_state, before)


@torch.no_grad()
def test_embeddings_equal_open_clips_own():
    clip, ids = tiny_clip(), padded_ids()
    embedded = embed_text(clip, encode_text_states(clip, ids), ids=ids)
    torch.testing.assert_close(embedded, clip.encode_text(ids), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_cutting_the_padding_changes_no_embedding():
    clip, ids = tiny_clip(), padded_ids()[:4]
    cut = without_padding(clip, ids)
    assert cut.shape == (4, 32)
    embedded = embed_text(clip, encode_text_states(clip, cut), ids=cut)
    torch.testing.assert_close(embedded, clip.encode_text(ids), atol=1e-5, rtol=1e-5)
    assert torch.equal(without_padding(clip, padded_ids()), padded_ids()), "a full context loses nothing"


@torch.no_grad()
def test_pads_see_the_text_but_the_text_does_not_see_the_pads():
    clip, ids = tiny_clip(), padded_ids()
    states = encode_text_states(clip, ids)
    other = encode_text_states(clip, padded_ids(pad=0))
    end = int(end_positions(clip, ids)[2])
    torch.testing.assert_close(states[2, : end + 1], other[2, : end + 1])
    assert not torch.allclose(states[1, -1], states[2, -1], atol=1e-3)


def test_weights_are_a_function_of_the_seed_and_leave_the_global_stream_alone():
    before = torch.get_rng_state()
    first, again, other = (
        build_clip(vocab_size=VOCAB, eos_token_id=EOS, seed=seed, width=32, layers=1, heads=2, vision_width=8)
        for seed in (1, 1, 2)
    )
    export_text_encoder(first, bos_token_id=BOS, pad_token_id=EOS)
    assert torch.equal(torch.get_rng_state(), before)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert not torch.equal(
        first.get_parameter("token_embedding.weight"), other.get_parameter("token_embedding.weight")
    )


def test_every_weight_is_a_parameter_so_that_a_checkpoint_of_parameters_is_complete():
    clip = tiny_clip()
    assert set(clip.state_dict()) == {name for name, _ in clip.named_parameters()}


def test_the_default_text_tower_has_three_million_parameters():
    clip = build_clip(vocab_size=2048, eos_token_id=2047, seed=0, vision_width=8)
    encoder = export_text_encoder(clip, bos_token_id=2046, pad_token_id=2047)
    assert 3.0e6 < sum(parameter.numel() for parameter in encoder.parameters()) < 4.0e6


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"eos_token_id": 2}, "eos_token_id: 2 "),
        ({"eos_token_id": VOCAB}, "eos_token_id: 100 "),
        ({"width": 33}, "width: 33 "),
        ({"image_size": 60}, "image_size: 60 "),
        ({"vision_width": 12}, "vision_width: 12 "),
    ],
)
def test_a_shape_that_cannot_work_is_refused_by_name(change: dict[str, int], named: str):
    arguments = {"width": 32, "heads": 2, "layers": 1, "vision_width": 8, "eos_token_id": EOS} | change
    with pytest.raises(ValueError, match=named):
        build_clip(vocab_size=VOCAB, seed=0, **arguments)


@pytest.mark.parametrize("wrong", ["bos_token_id", "pad_token_id"])
def test_an_export_with_an_unknown_token_is_refused(wrong: str):
    arguments = {"bos_token_id": BOS, "pad_token_id": EOS} | {wrong: -1}
    with pytest.raises(ValueError, match=f"{wrong}: -1 is no token id; give one from 0 to 99"):
        export_text_encoder(tiny_clip(), **arguments)
