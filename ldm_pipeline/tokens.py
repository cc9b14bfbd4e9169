"""Texts to token numbers and their weights, in rows of one length; also what was cut off and unknown words.

Knows nothing of the network that reads tokens; it reports losses as values and leaves the telling to others.
"""

import re
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ldm_pipeline.prompt_syntax import LongPrompt, PromptSyntax, WeightedText, weighted_pieces

COMMA_REACH = 20
"""A chunk ends at a comma, or at least at a word's end, if one stands among its last 20 tokens (A1111's)."""
# A fast tokenizer keeps its padding and truncation as state: two threads at once raise "Already borrowed".
_tokenizing = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Texts as token numbers, in rows of one length, with the ends that did not fit."""

    ids: Int[Tensor, "chunks tokens"]
    """int64 (chunks tokens), text by text."""
    attention: Int[Tensor, "chunks tokens"]
    """int64 (chunks tokens), 1 up to each chunk's end token."""
    weights: Float[Tensor, "chunks tokens"]
    """float32 (chunks tokens), 1 for end marks and padding."""
    chunks: tuple[int, ...]
    """Per text how many rows are its own."""
    lost: tuple[str, ...]
    """Per text what was cut off; "" where nothing was."""


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words as `known_words.txt` counts them: letters and digits, no hyphens."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)?", text.lower())


def unknown_words(texts: Sequence[str], known: Collection[str]) -> list[str]:
    """List the words of `texts` that are not in `known`, each once, in reading order."""
    seen = dict.fromkeys(word for text in texts for word in words_of(text))
    return [word for word in seen if word not in known and re.split("['’]", word)[0] not in known]


def pieces_of(text: str, *, long_prompt: LongPrompt, prompt_syntax: PromptSyntax) -> tuple[WeightedText, ...]:
    """Read a text's weights and breaks, where its syntax has any; ValueError for a BREAK without chunks."""
    if prompt_syntax == "plain":
        return (WeightedText(text=text),)
    pieces = weighted_pieces(text)
    if long_prompt == "truncate" and any(piece.starts_chunk for piece in pieces):
        raise ValueError("prompt has the word BREAK, which starts a chunk: use long_prompt='chunk'")
    return pieces


def spelled_out(tokenizer: Any, text: str) -> str:
    """Write out learned words of several vectors, `<cat>` as `<cat> <cat>_1 ...`, for any length of text.

    As diffusers' `maybe_convert_prompt`, whose tokenizer call complains of texts that are read in chunks.
    """
    learned = tokenizer.added_tokens_encoder
    with _tokenizing:
        ids = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
        found = set(tokenizer.convert_ids_to_tokens(ids))
    for word in sorted(found & learned.keys()):
        parts = [word]
        while (part := f"{word}_{len(parts)}") in learned:
            parts.append(part)
        text = text.replace(word, " ".join(parts))
    return text


def tokenize(
    tokenizer: Any,
    texts: Sequence[str | Sequence[WeightedText]],
    *,
    limit: int,
    long_prompt: LongPrompt = "truncate",
) -> Tokens:
    """Turn texts into rows of `limit` token numbers, filled up with the tokenizer's own pad.

    What does not fit is cut, or goes into further rows. The pieces of a weighted text are tokenized one by
    one, as A1111 does.
    """
    rows: list[_Run] = []
    chunks: list[int] = []
    lost: list[str] = []
    with _tokenizing:
        for text in texts:
            runs = _runs(tokenizer, [WeightedText(text=text)] if isinstance(text, str) else text)
            if long_prompt == "chunk":
                parts = [part for run in runs for part in run.parts(tokenizer, limit - 2)]
                lost.append("")
            else:
                (run,) = runs
                parts = [run[: limit - 2]]
                lost.append(tokenizer.decode(run.ids[limit - 2 :]) if len(run.ids) > limit - 2 else "")
            rows += parts
            chunks.append(len(parts))
    start, end, filler = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    empty = [limit - 2 - len(row.ids) for row in rows]
    ids = [[start, *row.ids, end, *[filler] * free] for row, free in zip(rows, empty, strict=True)]
    weights = [[1.0, *row.weights, 1.0, *[1.0] * free] for row, free in zip(rows, empty, strict=True)]
    return Tokens(
        ids=torch.tensor(ids),
        attention=torch.tensor([[1] * (limit - free) + [0] * free for free in empty]),
        weights=torch.tensor(weights),
        chunks=tuple(chunks),
        lost=tuple(lost),
    )


@dataclass(frozen=True)
class _Run:
    """Token numbers without marks between two BREAKs, and their weights."""

    ids: list[int]
    weights: list[float]

    def __getitem__(self, part: slice) -> "_Run":
        return _Run(self.ids[part], self.weights[part])

    def parts(self, tokenizer: Any, size: int) -> "list[_Run]":
        """Cut into parts of at most `size` tokens; an empty run is one empty part."""
        names = tokenizer.convert_ids_to_tokens(self.ids)
        ends = chunk_ends(names, size)
        return [self[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _runs(tokenizer: Any, pieces: Sequence[WeightedText]) -> list[_Run]:
    """Tokenize the pieces of a text; a BREAK at the very end starts nothing, as in A1111."""
    runs = [_Run([], [])]
    for piece in pieces:
        ids = tokenizer(
            piece.text, add_special_tokens=False, truncation=False, padding=False, verbose=False
        ).input_ids
        if piece.starts_chunk:
            runs.append(_Run([], []))
        runs[-1] = _Run([*runs[-1].ids, *ids], [*runs[-1].weights, *[piece.weight] * len(ids)])
    return runs if runs[-1].ids or len(runs) == 1 else runs[:-1]


def chunk_ends(names: Sequence[str], size: int) -> list[int]:
    """Say where to cut tokens, given by name, so that no chunk has more than `size`.

    After the last comma among a full chunk's last 20 tokens, or else after the last word that ends there,
    or else where it is full.
    """
    ends, start = [], 0
    while (full := start + size) < len(names):
        near = range(full, max(full - COMMA_REACH, start), -1)
        commas = [end for end in near if names[end - 1] == ",</w>"]
        words = [end for end in near if names[end - 1].endswith("</w>")]
        # A comma that just missed the chunk: the phrase before it is whole.
        start = full if names[full] == ",</w>" else [*commas, *words, full][0]
        ends.append(start)
    return [*ends, len(names)]
