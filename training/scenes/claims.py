"""What a caption may claim of a scene, what of the scene can be seen, and whether the claims hold.

Knows nothing of how a claim is worded (`phrases.py`) or of which claims a caption makes (`caption.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from training.scenes.scene import Group, Scene


@dataclass(frozen=True)
class Sight:
    """What can be seen of a scene, one entry per thing of `scene.things`."""

    things_seen: tuple[bool, ...]
    colors_seen: tuple[bool, ...]
    garments_seen: tuple[tuple[bool, ...], ...]
    weather_seen: bool = True

    @staticmethod
    def everything(scene: Scene) -> "Sight":
        """The sight of someone who sees all of `scene`."""
        seen = tuple(True for _ in scene.things)
        return Sight(seen, seen, tuple(tuple(True for _ in thing.garments) for thing in scene.things))


def sight_from(visibility: Sequence[Any], *, weather_seen: bool = True) -> Sight:
    """Turn a rendering's visibilities (`seen`, `color_seen`, `garments_seen` per thing) into a Sight."""
    return Sight(
        tuple(bool(thing.seen) for thing in visibility),
        tuple(bool(thing.color_seen) for thing in visibility),
        tuple(tuple(bool(seen) for seen in thing.garments_seen) for thing in visibility),
        weather_seen=bool(weather_seen),
    )


@dataclass(frozen=True)
class GarmentClaim:
    """A garment that a caption names."""

    kind: str
    color: str | None = None


@dataclass(frozen=True, kw_only=True)
class GroupClaim:
    """What a caption says of like things that stand together. `count` None and not `plural`: at least one."""

    kind: str
    color: str | None = None
    count: int | None = None
    plural: bool = False
    """Without a count: more than one."""
    side: str | None = None
    garments: tuple[GarmentClaim, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a caption says of a scene; None and absent things are left unsaid."""

    city: str | None = None
    weather: str | None = None
    time: str | None = None
    style: str | None = None
    things: tuple[GroupClaim, ...] = ()


def is_true(claims: Claims, scene: Scene) -> bool:
    """Whether all of `claims` holds in the scene's record, its unnamed things included.

    Sunny weather without a time is said "sunny", so it is false of a clear night.
    """
    if claims.weather == "sunny" and claims.time is None and scene.time == "night":
        return False
    light = ((claims.city, scene.city), (claims.weather, scene.weather), (claims.time, scene.time))
    if any(claimed not in (None, actual) for claimed, actual in (*light, (claims.style, scene.style))):
        return False
    return any(
        all(_holds(claim, group) for claim, group in zip(claims.things, chosen, strict=True))
        for chosen in permutations(scene.groups, len(claims.things))
    )


def _holds(claim: GroupClaim, group: Group) -> bool:
    pairs = ((claim.color, group.color), (claim.count, group.count), (claim.side, group.side))
    return (
        claim.kind == group.kind
        and all(claimed in (None, actual) for claimed, actual in pairs)
        and not (claim.plural and group.count == 1)
        and all(
            any(g.kind == w.kind and g.color in (None, w.color) for w in group.garments)
            for g in claim.garments
        )
    )
