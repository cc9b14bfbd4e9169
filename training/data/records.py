"""A scene and what can be seen of it -> the class of every field of its record, as a recogniser reads it.

Knows nothing of captions: a thing that captions keep silent about counts like any other.
"""

import numpy as np
from numpy.typing import NDArray

from training.claims import ABSENT, FIELD_INDEX, FIELDS, NOT_CLAIMED, PRESENT
from training.scenes.claims import Sight
from training.scenes.scene import Scene


def record_codes(scene: Scene, sight: Sight) -> NDArray[np.int64]:
    """int64 [fields] in the order of `claims.FIELDS`; `NOT_CLAIMED` where the picture does not tell.

    A kind is PRESENT if one member of its group can be seen, ABSENT if there is none, left open if hidden.
    Its color, count and garments are left open unless every member shows them.
    """
    codes = np.full(len(FIELDS), NOT_CLAIMED, dtype=np.int64)
    for name in FIELD_INDEX:
        if name.count(".") == 1 and name.endswith(".present"):
            codes[FIELD_INDEX[name]] = ABSENT
    for name in ("city", "weather", "time", "style"):
        if name != "weather" or sight.weather_seen:
            _set(codes, name, getattr(scene, name))
    for group in scene.groups:
        kind = group.kind
        seen = [sight.things_seen[m] for m in group.members]
        codes[FIELD_INDEX[f"{kind}.present"]] = PRESENT if any(seen) else NOT_CLAIMED
        if not all(seen):
            continue
        _set(codes, f"{kind}.count", str(group.count))
        _set(codes, f"{kind}.side", group.side)
        if all(sight.colors_seen[m] for m in group.members):
            _set(codes, f"{kind}.color", group.color)
        _garments(codes, kind, group.garments, [sight.garments_seen[m] for m in group.members])
    return codes


def _garments(codes: NDArray[np.int64], kind: str, garments: tuple, seen: list[tuple[bool, ...]]) -> None:  # type: ignore[type-arg]
    for name in FIELD_INDEX:
        if name.startswith(f"{kind}.") and name.count(".") == 2 and name.endswith(".present"):
            codes[FIELD_INDEX[name]] = ABSENT
    for number, garment in enumerate(garments):
        if all(flags[number] for flags in seen):
            codes[FIELD_INDEX[f"{kind}.{garment.kind}.present"]] = PRESENT
            _set(codes, f"{kind}.{garment.kind}.color", garment.color)
        else:
            codes[FIELD_INDEX[f"{kind}.{garment.kind}.present"]] = NOT_CLAIMED


def _set(codes: NDArray[np.int64], field: str, value: str) -> None:
    index = FIELD_INDEX[field]
    codes[index] = FIELDS[index][1].index(value)
