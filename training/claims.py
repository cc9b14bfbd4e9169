"""The code of what a caption claims or a picture shows: one class number per field of the scene's record.

Knows nothing of words, pixels or networks: record heads take `FIELDS` as data, and so may a saved judge.
"""

import numpy as np
from jaxtyping import Int64

from training.scenes.claims import Claims
from training.scenes.world import CITIES, COLORS, GARMENTS, KINDS, SIDES, STYLES, TIMES, WEATHERS

NOT_CLAIMED = -1
"""The code of a field about which nothing is claimed: losses and scores leave it out."""
ABSENT, PRESENT = 0, 1
"""Codes of the `.present` fields, which are always claimed: what is not named counts as absent."""

_COLORS = tuple(COLORS)
_PRESENCE = ("no", "yes")


def _fields() -> tuple[tuple[str, tuple[str, ...]], ...]:
    fields = [("city", CITIES), ("weather", WEATHERS), ("time", TIMES), ("style", STYLES)]
    for kind in KINDS.values():
        counts = tuple(str(count) for count in range(1, kind.max_count + 1))
        fields += [
            (f"{kind.name}.present", _PRESENCE),
            (f"{kind.name}.color", _COLORS),
            (f"{kind.name}.count", counts),
            (f"{kind.name}.side", SIDES),
        ]
        if kind.dressable:
            for garment in GARMENTS:
                fields += [
                    (f"{kind.name}.{garment}.present", _PRESENCE),
                    (f"{kind.name}.{garment}.color", _COLORS),
                ]
    return tuple(fields)


FIELDS: tuple[tuple[str, tuple[str, ...]], ...] = _fields()
"""(field name, names of its classes), in the order of the code: all that a record head or a judge needs."""
FIELD_INDEX: dict[str, int] = {name: index for index, (name, _) in enumerate(FIELDS)}
"""Field name -> position in the code, e.g. to mark a thing that is too small to see as `NOT_CLAIMED`."""


def field_names() -> tuple[str, ...]:
    """Names of the fields in the order of the code, e.g. `city`, `dog.color`, `dog.beret.present`."""
    return tuple(name for name, _ in FIELDS)


def class_counts() -> tuple[int, ...]:
    """Number of classes of each field in the order of the code."""
    return tuple(len(classes) for _, classes in FIELDS)


def question_kind(field: str) -> str:
    """ "dog.color" -> "color", "dog.scarf.color" -> "garment color", "city" -> "city"."""
    parts = field.split(".")
    return f"garment {parts[2]}" if len(parts) == 3 else parts[-1]


def encode_claims(claims: Claims) -> Int64[np.ndarray, "fields"]:  # noqa: F821
    """The class number of each field, or `NOT_CLAIMED`; a `.present` field is always `ABSENT` or `PRESENT`.

    The empty caption's code therefore says that nothing is named and leaves the rest open. "More than one"
    without a number leaves the count open. To encode what a picture shows, claim all of it, and then set the
    fields that cannot be seen to `NOT_CLAIMED`.

    Raises:
        ValueError: a value is no class of its field, or two groups of one kind are claimed.
    """
    codes = np.full(len(FIELDS), NOT_CLAIMED, dtype=np.int64)
    for name, index in FIELD_INDEX.items():
        if name.endswith(".present"):
            codes[index] = ABSENT

    def claim(name: str, value: str | int | None) -> None:
        if value is not None:
            codes[FIELD_INDEX[name]] = _class_number(name, str(value))

    for name in ("city", "weather", "time", "style"):
        claim(name, getattr(claims, name))
    for thing in claims.things:
        present = FIELD_INDEX.get(f"{thing.kind}.present")
        if present is None:
            raise ValueError(f"things: kind {thing.kind!r} is unknown; choose from {', '.join(KINDS)}.")
        if codes[present] == PRESENT:
            raise ValueError(f"things: {thing.kind!r} is claimed twice; merge it into one group of its kind.")
        codes[present] = PRESENT
        claim(f"{thing.kind}.color", thing.color)
        claim(f"{thing.kind}.count", thing.count)
        claim(f"{thing.kind}.side", thing.side)
        for garment in thing.garments:
            name = f"{thing.kind}.{garment.kind}"
            if f"{name}.present" not in FIELD_INDEX:
                raise ValueError(
                    f"garments: a {thing.kind} wears no {garment.kind!r}; remove it from the claims."
                )
            codes[FIELD_INDEX[f"{name}.present"]] = PRESENT
            claim(f"{name}.color", garment.color)
    return codes


def decode_claims(codes: Int64[np.ndarray, "fields"]) -> dict[str, str]:  # noqa: F821
    """The claimed fields with the names of their classes: the inverse of `encode_claims`, for reading."""
    return {
        name: classes[code]
        for (name, classes), code in zip(FIELDS, codes.tolist(), strict=True)
        if code != NOT_CLAIMED
    }


def _class_number(name: str, value: str) -> int:
    classes = FIELDS[FIELD_INDEX[name]][1]
    if value not in classes:
        raise ValueError(f"{name}: {value!r} is unknown; choose from {', '.join(classes)}.")
    return classes.index(value)
