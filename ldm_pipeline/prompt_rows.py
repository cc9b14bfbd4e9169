"""Rows of prompts: a text, a weighted sum of texts, or several negative texts; read, checked, written as one.

Knows nothing of tokens, of encoders or of the other settings.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

PromptRow = str | tuple[tuple[str, float], ...]
"""A text, or a weighted sum of texts (arXiv 2206.01714) as (text, weight) pairs."""
NegativeRow = str | tuple[str, ...]
"""A text, or several of equal weight."""
PromptInput = str | Sequence[str | Sequence[Any]]
"""What a call takes: one text, or a list of rows."""
LARGEST_WEIGHT = 100.0


def texts(name: str, given: PromptInput | None) -> tuple[Any, ...] | None:
    """Give one row, or several, as a tuple of rows; ValueError for an empty list."""
    if given is None:
        return None
    several = (given,) if isinstance(given, str) else tuples(given)
    if not several:
        raise ValueError(f"{name} is an empty list: give at least one text")
    return several


def tuples(value: Any) -> Any:
    """Turn lists, and lists in lists, into tuples."""
    return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value


def check_prompt(row: object) -> None:
    """Check one row of prompts; ValueError unless it is a text, or a sum of (text, weight) pairs."""
    if isinstance(row, str):
        return
    for term in row if isinstance(row, tuple) and row else (row,):
        if not (isinstance(term, tuple) and len(term) == 2 and isinstance(term[0], str)):
            raise ValueError(f"prompts holds {row!r}: a row is a text, or a list of (text, weight) pairs")
        weight = term[1]
        number = isinstance(weight, int | float) and not isinstance(weight, bool) and math.isfinite(weight)
        if not number or abs(weight) > LARGEST_WEIGHT:
            raise ValueError(
                f"prompts weighs {term[0]!r} with {weight!r}: use a number of at most {LARGEST_WEIGHT:g}"
            )
    if isinstance(row, tuple) and sum(weight for _, weight in row) <= 0:
        raise ValueError(f"prompts holds {row!r}: the weights of a row must have a positive sum")


def check_negative(row: object) -> None:
    """Check one row of negative prompts; ValueError unless it is a text, or several."""
    several = row if isinstance(row, tuple) and row else (row,)
    if not all(isinstance(text, str) for text in several):
        raise ValueError(f"negative_prompts holds {row!r}: a row is a text, or a list of texts")


def row_text(row: PromptRow | NegativeRow) -> str:
    """Write a row as one text: a sum with A1111's AND (`a cat :1 AND a dog :0.5`), negatives with commas."""
    if isinstance(row, str):
        return row
    terms = [entry if isinstance(entry, str) else f"{entry[0]} :{entry[1]:g}" for entry in row]
    return (", " if isinstance(row[0], str) else " AND ").join(terms)


def row_texts(rows: Sequence[PromptRow | NegativeRow]) -> list[str]:
    """List the single texts of rows, in order."""
    entries = [entry for row in rows for entry in ((row,) if isinstance(row, str) else row)]
    return [entry if isinstance(entry, str) else entry[0] for entry in entries]


def with_texts(row: PromptRow | NegativeRow, change: Callable[[str], str]) -> PromptRow | NegativeRow:
    """Give a row with each of its texts changed."""
    if isinstance(row, str):
        return change(row)
    return tuple(change(entry) if isinstance(entry, str) else (change(entry[0]), entry[1]) for entry in row)  # type: ignore[return-value]
