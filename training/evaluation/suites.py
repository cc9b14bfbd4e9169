"""The tasks of PostcardBench: short prompts that each ask for one thing, with the real render they come from.

Knows nothing of models or judges. Everything is a pure function of (world, size, count).
"""

import random
from collections.abc import Callable
from dataclasses import replace

from training.evaluation.prompts import (
    OTHER_SCENES,
    BenchPrompt,
    complete,
    prompt_of,
    renders,
    wholly_seen,
)
from training.scenes.claims import Claims, GarmentClaim, GroupClaim, Sight
from training.scenes.scene import Group, Scene
from training.scenes.world import (
    HELD_OUT_CITY_KINDS,
    HELD_OUT_CITY_WEATHERS,
    HELD_OUT_KIND_COLORS,
    KINDS,
    World,
)

Asks = Callable[[Scene, Sight, random.Random], Claims | None]
"""What a task asks for of a scene, or None where the scene has it not, or not to be seen."""


def suite_prompts(
    name: str, world: World, *, size: int, count: int, others: bool = False
) -> list[BenchPrompt]:
    """`count` prompts of a task; more of them only add to the list.

    Args:
        name: one of `SUITES`.
        others: prompts of the same kind from another stream of scenes, which no score is taken on.
    Raises:
        ValueError: an unknown task, or scenes of `world` hardly ever show what it asks for.
    """
    if name not in SUITES:
        raise ValueError(f"task={name!r}: is unknown; choose from {', '.join(SUITES)}.")
    asks = SUITES[name]
    if name == "held_out":
        world = replace(world, hold_out=False)
    prompts: list[BenchPrompt] = []

    def might(scene: Scene) -> bool:
        """By the record alone, so that no picture is drawn in vain."""
        return asks(scene, Sight.everything(scene), _draws(name, scene)) is not None

    stream = SUITE_SEEDS[name] + (OTHER_SCENES if others else 0)
    for scene, sight, image in renders(stream, world, might, size=size, count=count):
        claims = asks(scene, sight, _draws(name, scene))
        if claims is None:
            continue
        prompts.append(prompt_of(scene, sight, image, claims))
        if len(prompts) == count:
            break
    return complete(prompts, count, f"scenes for the task {name!r}")


def _draws(name: str, scene: Scene) -> random.Random:
    return random.Random(f"postcardbench/{name}/{scene.seed}/{scene.index}")


def _city(scene: Scene, sight: Sight, draws: random.Random) -> Claims | None:
    return Claims(city=scene.city)


def _light(scene: Scene, sight: Sight, draws: random.Random) -> Claims | None:
    """Weather and time at once."""
    return Claims(weather=scene.weather, time=scene.time) if sight.weather_seen else None


def _of_one_group(change: Callable[[Group], GroupClaim], *, alone: bool) -> Asks:
    """A group of things in a city; `alone`: of one thing."""

    def asks(scene: Scene, sight: Sight, draws: random.Random) -> Claims | None:
        groups = [g for g in _named(scene, sight) if g.count == 1 or not alone]
        if not groups:
            return None
        return Claims(city=scene.city, things=(change(groups[int(draws.random() * len(groups))]),))

    return asks


def _bound(scene: Scene, sight: Sight, draws: random.Random) -> Claims | None:
    """Two kinds of things in two colors, or an animal and the garment that it wears."""
    groups = _named(scene, sight)
    dressed = [group for group in groups if _seen_garments(group, sight)]
    pair = len(groups) == 2 and groups[0].color != groups[1].color
    if dressed and (not pair or draws.random() < 0.5):
        group = dressed[int(draws.random() * len(dressed))]
        (garment, *_) = _seen_garments(group, sight)
        return Claims(things=(GroupClaim(kind=group.kind, color=group.color, garments=(garment,)),))
    if not pair:
        return None
    return Claims(things=tuple(GroupClaim(kind=group.kind, color=group.color) for group in groups))


def _held_out(scene: Scene, sight: Sight, draws: random.Random) -> Claims | None:
    """A pair that no training picture shows: a kind in a color, or a city with a weather or a kind."""
    found: list[Claims] = []
    if (scene.city, scene.weather) in HELD_OUT_CITY_WEATHERS and sight.weather_seen:
        found.append(Claims(city=scene.city, weather=scene.weather, time=scene.time))
    for group in _named(scene, sight):
        if (group.kind, group.color) in HELD_OUT_KIND_COLORS:
            found.append(Claims(things=(GroupClaim(kind=group.kind, color=group.color),)))
        if (scene.city, group.kind) in HELD_OUT_CITY_KINDS:
            found.append(Claims(city=scene.city, things=(GroupClaim(kind=group.kind),)))
    return found[int(draws.random() * len(found))] if found else None


def _named(scene: Scene, sight: Sight) -> list[Group]:
    return [group for group in scene.groups if group.named and wholly_seen(group, sight)]


def _seen_garments(group: Group, sight: Sight) -> list[GarmentClaim]:
    if not KINDS[group.kind].dressable:
        return []
    return [
        GarmentClaim(garment.kind, garment.color)
        for number, garment in enumerate(group.garments)
        if all(sight.garments_seen[member][number] for member in group.members)
    ]


SUITES: dict[str, Asks] = {
    "city": _city,
    "light": _light,
    "thing": _of_one_group(lambda g: GroupClaim(kind=g.kind), alone=True),
    "color": _of_one_group(lambda g: GroupClaim(kind=g.kind, color=g.color), alone=True),
    "count": _of_one_group(lambda g: GroupClaim(kind=g.kind, count=g.count), alone=False),
    "side": _of_one_group(lambda g: GroupClaim(kind=g.kind, side=g.side), alone=True),
    "bound": _bound,
    "held_out": _held_out,
}
"""Task -> what it asks for."""
SUITE_SEEDS = {name: 10 + number for number, name in enumerate(SUITES)}
"""Streams of scenes, one a task, from which no training draws."""
