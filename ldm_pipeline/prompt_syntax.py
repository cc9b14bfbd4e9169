"""How a prompt is read; in A1111's attention syntax `(red:1.3) car` becomes pieces with a weight each.

Knows nothing of tokens, of encoders, or of what a weight does to a picture.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

PromptSyntax = Literal["plain", "a1111"]
"""Whether a prompt is read as it stands, or as A1111 would."""
LongPrompt = Literal["truncate", "chunk"]
"""What becomes of a prompt longer than the text encoder reads: cut off, or read in chunks, as A1111 does."""
ROUND = 1.1
"""What `(word)` multiplies the weight of its text by; `[word]` divides by the same."""
LARGEST_WEIGHT = 10.0
"""No piece may weigh more, nor less than minus as much: token states far outside what the network knows."""
CHUNK_WORD = "BREAK"


@dataclass(frozen=True, kw_only=True)
class WeightedText:
    """A stretch of a prompt and how strongly it is to be read."""

    text: str
    weight: float = 1.0
    """1 is plain; within -10 and 10."""
    starts_chunk: bool = False
    """Whether the word BREAK stands before it."""


def weighted_pieces(prompt: str) -> tuple[WeightedText, ...]:
    r"""Split a prompt into weighted pieces, neighbors of equal weight joined; "" gives one empty piece.

    `(a)` is times 1.1, `((a))` 1.21, `(a:1.3)` 1.3, `[a]` 1 / 1.1; brackets may lie in each other, and each
    kind is counted by itself, so `(a [b) c]` weighs b by both. A bracket that is never closed acts up to the
    end, one that was never opened is text, and so is a number in square brackets. `\(` is a bracket of the
    text, and so on for `) [ ] \`; before any other sign a backslash is dropped. BREAK starts a new chunk, in
    brackets too. A1111's `[from:to:when]` and `AND` are not read: they stay text.

    ValueError for a number that is none (`1.2.3`), is not finite, or leads to a weight beyond 10.
    """
    pieces: list[WeightedText] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(start: int, factor: float) -> None:
        weights[start:] = [weight * factor for weight in weights[start:]]

    for sign, written in _signs(prompt):
        if sign in opened:
            opened[sign].append(len(pieces))
        elif sign == ":" and opened["("]:
            multiply(opened["("].pop(), _weight(written))
        elif sign == ")" and opened["("]:
            multiply(opened["("].pop(), ROUND)
        elif sign == "]" and opened["["]:
            multiply(opened["["].pop(), 1 / ROUND)
        elif sign == "\\":
            pieces.append(WeightedText(text=written))
        else:
            pieces += _split_at_breaks(written)
        weights += [1.0] * (len(pieces) - len(weights))
    for starts, factor in ((opened["("], ROUND), (opened["["], 1 / ROUND)):
        for start in starts:
            multiply(start, factor)
    return _joined([replace(piece, weight=weight) for piece, weight in zip(pieces, weights, strict=True)])


def plain_text(prompt: str) -> str:
    """Give a prompt's text without the syntax, for whoever looks at its words."""
    pieces = weighted_pieces(prompt)
    return "".join(f" {piece.text}" if piece.starts_chunk else piece.text for piece in pieces).strip()


def _signs(prompt: str) -> Iterator[tuple[str, str]]:
    """Scan a prompt into (kind, as written): a bracket, ":" for `:1.3)`, a backslash, or "" for text."""
    at, text_from = 0, 0
    while at < len(prompt):
        sign, length = prompt[at], 1
        if sign == "\\":
            length = 2 if prompt[at + 1 : at + 2] in tuple("()[]\\") else 1
        elif sign == ":":
            length = _weight_length(prompt, at)
        elif sign not in "()[]":
            at += 1
            continue
        if text_from < at and length:
            yield "", prompt[text_from:at]
        if length:
            written = prompt[at : at + length]
            yield sign, written[1:] if sign == "\\" else written
            text_from = at + length
        at += max(length, 1)
    if text_from < at:
        yield "", prompt[text_from:]


def _weight_length(prompt: str, at: int) -> int:
    """Give the length of `: 1.3 )` if that stands at the colon `at`, else 0."""
    end = prompt.find(")", at)
    word = prompt[at + 1 : end].strip().lower() if end >= 0 else ""
    number = word[1:] if word[:1] in ("+", "-") else word
    # Python's words for numbers that are none are taken for weights, so that they are refused and not drawn.
    numeric = bool(number) and (set(number) <= set("0123456789.") or number in ("nan", "inf", "infinity"))
    return end + 1 - at if numeric else 0


def _weight(written: str) -> float:
    """Read the number of `:1.3)`."""
    word = written[1:-1].strip()
    try:
        weight = float(word)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise ValueError(f"prompt weighs a text with {word!r}, which is no number: write it as in (word:1.3)")
    return weight


def _split_at_breaks(text: str) -> list[WeightedText]:
    """Cut text at the word BREAK and the blanks around it."""
    parts, start = [WeightedText(text="")], 0
    while (at := text.find(CHUNK_WORD, start)) >= 0:
        end = at + len(CHUNK_WORD)
        start = end
        if any(sign.isalnum() or sign == "_" for sign in text[max(at - 1, 0) : at] + text[end : end + 1]):
            continue
        parts[-1] = replace(parts[-1], text=text[:at].rstrip())
        text, start = text[end:].lstrip(), 0
        parts.append(WeightedText(text="", starts_chunk=True))
    parts[-1] = replace(parts[-1], text=text)
    return parts


def _joined(pieces: list[WeightedText]) -> tuple[WeightedText, ...]:
    """Join neighbors of equal weight, and drop the empty ones that start no chunk."""
    joined: list[WeightedText] = []
    for piece in pieces:
        if not abs(piece.weight) <= LARGEST_WEIGHT:
            raise ValueError(
                f"prompt weighs {piece.text!r} with {piece.weight:g}, brackets multiplied:"
                f" use weights from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}"
            )
        last = joined[-1] if joined else None
        if last is not None and not piece.starts_chunk and (piece.weight == last.weight or not piece.text):
            joined[-1] = replace(last, text=last.text + piece.text)
        elif last is not None and not piece.starts_chunk and not last.text:
            joined[-1] = replace(piece, starts_chunk=last.starts_chunk)
        else:
            joined.append(piece)
    return tuple(joined or [WeightedText(text="")])
