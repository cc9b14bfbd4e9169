"""Trains a byte-pair encoding as CLIP's on captions, and writes it for open_clip and for transformers.

Knows nothing of what captions say or of the network that reads the numbers.
"""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTokenizer

LENGTH = 77
"""Tokens of a text, both end marks and the padding included."""
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
HEADER = "#version: 0.2"


@dataclass(frozen=True)
class Bpe:
    """A byte-pair encoding: lower-cased text, bytes as letters, `</w>` at the end of each word.

    Numbers: 256 bytes, the same at a word's end, one per merge, start, end (the highest, as open_clip's
    pooling needs). `encode` is what training uses; texts are padded with the end token, as transformers does
    and open_clip does not (it writes 0).
    """

    merges: tuple[tuple[str, str], ...]
    """Pairs of parts in the order in which they are joined."""

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Every token's number."""
        letters = _letters()
        merged = [first + second for first, second in self.merges]
        tokens = [*letters, *(letter + WORD_END for letter in letters), *merged, START, END]
        return {token: number for number, token in enumerate(tokens)}

    @property
    def vocabulary_size(self) -> int:
        return len(self.numbers)

    @property
    def end(self) -> int:
        """The number of the end token, which also fills the row."""
        return self.numbers[END]

    @cached_property
    def transformers(self) -> CLIPTokenizer:
        """The same encoding as transformers' tokenizer."""
        merges: Any = list(self.merges)  # annotated as strings, handed on to a library that wants pairs
        return CLIPTokenizer(vocab=self.numbers, merges=merges, model_max_length=LENGTH)

    def encode(self, texts: Sequence[str]) -> Int64[Tensor, "texts 77"]:
        """Give each text's row of numbers; what is too long is cut and still ends with the end token."""
        if isinstance(texts, str):
            raise ValueError(f"texts: {texts!r} is one string; pass a list of strings.")
        if not texts:
            return torch.empty(0, LENGTH, dtype=torch.int64)
        rows = self.transformers(list(texts), padding="max_length", truncation=True, max_length=LENGTH)
        return torch.tensor(rows["input_ids"], dtype=torch.int64)


def train_tokenizer(captions: Iterable[str], *, vocab_size: int = 2048) -> Bpe:
    """Join the commonest pair of parts again and again (Sennrich et al., https://arxiv.org/abs/1508.07909).

    The same captions in any order give the same encoding; ties go to the pair that is first in the alphabet.
    It ends at `vocab_size` tokens (514 at least, or ValueError), or earlier when no pair occurs twice.
    """
    smallest = 2 * len(_letters()) + 2
    if vocab_size < smallest:
        raise ValueError(f"vocab_size: {vocab_size} is below {smallest} (bytes and end marks); use more.")
    counted = sorted(_count_words(captions).items())
    words = [[*word[:-1], word[-1] + WORD_END] for word, _ in counted]
    counts = [count for _, count in counted]
    pair_counts: Counter[tuple[str, str]] = Counter()
    places: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for place, (word, count) in enumerate(zip(words, counts, strict=True)):
        for pair in pairwise(word):
            pair_counts[pair] += count
            places[pair].add(place)
    merges: list[tuple[str, str]] = []
    while len(merges) < vocab_size - smallest and pair_counts:
        best = min(pair_counts, key=lambda pair: (-pair_counts[pair], pair))
        if pair_counts[best] < 2:
            break
        merges.append(best)
        for place in places.pop(best):
            for pair in pairwise(words[place]):
                pair_counts[pair] -= counts[place]
            words[place] = _join(words[place], best)
            for pair in pairwise(words[place]):
                pair_counts[pair] += counts[place]
                places[pair].add(place)
        pair_counts = +pair_counts
    return Bpe(tuple(merges))


def _join(word: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for part in word:
        # A part that was just joined is longer than the pair's first, so "aaa" becomes "aa", "a".
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _count_words(captions: Iterable[str]) -> Counter[str]:
    """Words, numerals and runs of signs as CLIP splits them, their bytes as letters."""
    backend: Any = Bpe(()).transformers.backend_tokenizer
    texts = Counter(captions)
    words: Counter[str] = Counter()
    for text, count in texts.items():
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text)):
            words[word] += count
    return words


def _letters() -> list[str]:
    """One letter per byte, in CLIP's order: printable bytes first, by code point."""
    return sorted(ByteLevel.alphabet())


def write_open_clip_merges(bpe: Bpe, path: Path) -> None:
    """Write the gzip file that `open_clip.tokenizer.SimpleTokenizer(bpe_path=...)` reads."""
    lines = [HEADER, *(" ".join(pair) for pair in bpe.merges)]
    # No line break at the end: open_clip would count an empty merge and shift the end marks' numbers.
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


def open_clip_tokenizer(path: Path) -> Any:
    """Open a merges file as open_clip's tokenizer, made equal to `Bpe.encode`: its cleaning and its padding.

    open_clip repairs text with ftfy and HTML entities and pads with 0; transformers does neither. Only texts
    that spell out an end mark, and rare letters that the libraries' Unicode tables disagree on, differ.
    """
    from open_clip.tokenizer import SimpleTokenizer

    class PaddedTokenizer(SimpleTokenizer):
        def __call__(self, texts: str | list[str], context_length: int | None = None) -> Any:
            rows = super().__call__(texts, context_length)
            after_end = (rows == self.eot_token_id).cumsum(dim=1) > 0
            return rows.masked_fill(after_end, self.eot_token_id)

    normalizer: Any = Bpe(()).transformers.backend_tokenizer.normalizer
    tokenizer: Any = PaddedTokenizer(bpe_path=str(path))
    tokenizer.clean_fn = lambda text: normalizer.normalize_str(text).strip()
    return tokenizer


def write_transformers_tokenizer(bpe: Bpe, folder: Path) -> None:
    """Write the folder that `transformers.CLIPTokenizer.from_pretrained` opens, new or old."""
    folder.mkdir(parents=True, exist_ok=True)
    bpe.transformers.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(bpe.numbers, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = [HEADER, *(" ".join(pair) for pair in bpe.merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_tokenizer(folder: Path) -> Bpe:
    """Read an encoding back from the folder that `write_transformers_tokenizer` wrote."""
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    pairs = [line.split(" ") for line in lines[1:] if line]
    return Bpe(tuple((first, second) for first, second in pairs))
