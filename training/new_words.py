"""Textual inversion: a new word for tokenizer and text encoder, whose vectors are all that learns.

Knows nothing of pictures. Source: arXiv 2208.01618.
"""

# transformers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

WEIGHTS = "learned_embeds.safetensors"


@dataclass(frozen=True, kw_only=True)
class WordConfig:
    """The word that is learned."""

    word: str = "<new>"
    """How prompts and captions write it; no word that the tokenizer has already."""
    start: str = ""
    """A known word near it, whose vectors it starts from; empty: the mean of all words."""
    vectors: int = 1
    """How many tokens it takes; more can hold more."""

    def __post_init__(self) -> None:
        if self.vectors < 1:
            raise ValueError(f"word.vectors={self.vectors}: must be at least 1.")
        if not self.word or any(letter.isspace() for letter in self.word):
            raise ValueError(f"word.word={self.word!r}: must be one word without blanks, such as <toy>.")

    @property
    def tokens(self) -> list[str]:
        """The tokens' names, as diffusers' `load_textual_inversion` numbers them."""
        return [self.word, *(f"{self.word}_{number}" for number in range(1, self.vectors))]

    def spelled_out(self, text: str) -> str:
        """`text` with the word as all of its tokens."""
        return text.replace(self.word, " ".join(self.tokens))


class WordEmbedding(nn.Module):
    """A text encoder's token table, frozen, with new rows behind it that learn: ids to vectors."""

    def __init__(self, known: nn.Embedding, *, first_id: int, start: Tensor):
        super().__init__()
        self.known = known.requires_grad_(False)
        self.first_id = first_id
        self.vectors = nn.Parameter(start.detach().clone())

    @property
    def weight(self) -> Tensor:
        return self.known.weight

    def forward(self, ids: Tensor) -> Tensor:
        new = ids >= self.first_id
        old_rows = self.known(ids.clamp(max=self.first_id - 1))
        new_rows = self.vectors[(ids - self.first_id).clamp(min=0)]
        return torch.where(new[..., None], new_rows.to(old_rows.dtype), old_rows)


def add_word(tokenizer: Any, text_encoder: CLIPTextModel, config: WordConfig) -> WordEmbedding:
    """Teach both a new word, in place; the encoder is frozen but for the word's vectors.

    Raises:
        ValueError: the tokenizer knows the word already, or does not know the one to start from.
    """
    table = text_encoder.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    known = tokenizer.get_vocab()
    for token in config.tokens:
        if token in known:
            raise ValueError(f"word.word={config.word}: the tokenizer knows {token!r}; choose another word.")
    if config.start:
        ids = tokenizer(config.start, add_special_tokens=False).input_ids
        start = table.weight[ids].mean(dim=0)
    else:
        start = table.weight.mean(dim=0)
    first = len(tokenizer)
    if first < table.num_embeddings:
        raise ValueError(
            f"the tokenizer has {first} words and the text encoder {table.num_embeddings}: "
            "textual inversion needs as many; choose another base, or the recipe lora."
        )
    tokenizer.add_tokens(config.tokens)
    text_encoder.requires_grad_(False)
    embedding = WordEmbedding(table, first_id=first, start=start.repeat(config.vectors, 1))
    text_encoder.set_input_embeddings(embedding)
    return embedding


def write_word(folder: Path, config: WordConfig, embedding: WordEmbedding) -> Path:
    """Write the vectors as diffusers' `load_textual_inversion` opens them; gives the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({config.word: embedding.vectors.detach().cpu().contiguous()}, folder / WEIGHTS)
    return folder / WEIGHTS
