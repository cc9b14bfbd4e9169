"""A learned word: its vectors alone learn, and the file opens in diffusers."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from tests import tiny
from training.new_words import WEIGHTS, WordConfig, WordEmbedding, add_word, write_word


def taught(config: WordConfig) -> tuple[Any, Any, WordEmbedding]:
    tokenizer = tiny.make_tokenizer()
    encoder = tiny.make_text_encoder(tokenizer)
    return tokenizer, encoder, add_word(tokenizer, encoder, config)


def ids_of(tokenizer: Any, text: str) -> torch.Tensor:
    return tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids


def test_only_the_words_vectors_learn_and_other_texts_stay():
    plain = tiny.make_text_encoder(tiny.make_tokenizer())
    config = WordConfig(word="<toy>", start="dog", vectors=2)
    tokenizer, encoder, embedding = taught(config)
    learning = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert [name.rsplit(".", 1)[-1] for name in learning] == ["vectors"]
    ids = ids_of(tokenizer, "a red dog in paris")
    torch.testing.assert_close(encoder(ids).last_hidden_state, plain(ids).last_hidden_state)
    encoder(ids_of(tokenizer, config.spelled_out("a <toy>"))).last_hidden_state.sum().backward()
    assert embedding.vectors.grad is not None and bool((embedding.vectors.grad.abs().sum(dim=1) > 0).all())


def test_a_word_starts_from_the_one_that_is_named():
    tokenizer, encoder, embedding = taught(WordConfig(word="<toy>", start="dog"))
    [dog] = tokenizer("dog", add_special_tokens=False).input_ids
    assert torch.equal(embedding.vectors[0], embedding.weight[dog])
    ids = ids_of(tokenizer, "a <toy>")
    same = ids_of(tokenizer, "a dog")
    torch.testing.assert_close(encoder(ids).last_hidden_state[:, 2], encoder(same).last_hidden_state[:, 2])


@pytest.mark.parametrize("vectors", [1, 2])
def test_diffusers_opens_the_file_and_reads_prompts_alike(tmp_path: Path, vectors: int):
    config = WordConfig(word="<toy>", vectors=vectors)
    tokenizer, encoder, embedding = taught(config)
    with torch.no_grad():
        embedding.vectors.add_(
            torch.randn(embedding.vectors.shape, generator=torch.Generator().manual_seed(0))
        )
    write_word(tmp_path, config, embedding)
    pipeline: Any = StableDiffusionPipeline(**tiny.make_components())
    pipeline.load_textual_inversion(tmp_path, weight_name=WEIGHTS, local_files_only=True)
    wanted = encoder(ids_of(tokenizer, config.spelled_out("a <toy> in paris"))).last_hidden_state
    found, _ = pipeline.encode_prompt("a <toy> in paris", "cpu", 1, False)
    torch.testing.assert_close(wanted, found)


def test_words_that_cannot_be_learned_are_refused():
    with pytest.raises(ValueError, match="must be one word without blanks"):
        WordConfig(word="a b")
    with pytest.raises(ValueError, match="word.vectors=0: must be at least 1"):
        WordConfig(vectors=0)
    with pytest.raises(ValueError, match="the tokenizer knows 'dog</w>'"):
        taught(WordConfig(word="dog</w>"))
