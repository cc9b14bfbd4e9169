"""Codes of what a pixel of a rendered scene belongs to: nothing, a thing, or the part of it that has a color.

Knows nothing of drawing (`render.py`) or of how coarsely a set of pictures keeps the codes.
"""

from training.scenes.world import COLORS, GARMENTS, KINDS

SUBJECTS: tuple[str, ...] = tuple(KINDS) + tuple(
    f"{kind.name}.{garment}" for kind in KINDS.values() if kind.dressable for garment in GARMENTS
)
"""What colors belong to: "dog", "dog.scarf" ..., as in the names of a judge's fields."""
NOTHING = 0
"""Code of backdrop and weather."""
_COLORS = tuple(COLORS)
_PER_SUBJECT = 1 + len(_COLORS)
CODES = 1 + len(SUBJECTS) * _PER_SUBJECT
"""Codes are 0 ... CODES - 1; they fit into a byte."""


def part_code(subject: str, color: str | None) -> int:
    """`color` is None for the parts of a thing that never have its color: wheels, windows, a face."""
    return 1 + SUBJECTS.index(subject) * _PER_SUBJECT + (0 if color is None else 1 + _COLORS.index(color))


def has_color(code: int) -> bool:
    """Whether it is of a part that has its thing's or garment's own color."""
    return code != NOTHING and (code - 1) % _PER_SUBJECT > 0


def is_garment(code: int) -> bool:
    """Whether it is of something worn."""
    return code > len(KINDS) * _PER_SUBJECT
