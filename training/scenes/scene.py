"""A scene's record: what is where, drawn from (seed, index) and identical on every machine.

Knows nothing of pixels or words. All positions are integers in per mille of the picture, x from the left and
y from the top, so that no floating-point rounding can tell two machines apart.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from training.scenes.world import (
    COLORS,
    CORRELATIONS,
    FULL_WORLD,
    GARMENTS,
    HELD_OUT_CITY_KINDS,
    HELD_OUT_CITY_WEATHERS,
    HELD_OUT_KIND_COLORS,
    KINDS,
    SIDES,
    WATER_CITIES,
    World,
)

T = TypeVar("T")

COUNT_WEIGHTS = (0.58, 0.21, 0.13, 0.08)
HIDDEN_UMBRELLA_SIDES = ("umbrella_on_left", "umbrella_in_center", "umbrella_on_right")
"""Their rates in CORRELATIONS, in the order of SIDES."""
OUTFITS = (("beret",), ("scarf",), ("turtleneck",), ("beret", "scarf"), ("beret", "turtleneck"))
"""What animals wear, each as often as the others; CORRELATIONS gives the resulting rates."""
SIDE_CENTERS = {"left": 200, "center": 500, "right": 800}
REGION_WIDTH = 380
HORIZON = 680
"""Per mille from the top at which the ground meets the landmark."""
PROMENADE = 800
"""In water cities: per mille from the top at which the water ends and the promenade begins."""


@dataclass(frozen=True)
class Garment:
    """Something an animal wears."""

    kind: str
    color: str


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One drawn thing. `x` is its middle, `y` its lower edge, `height` its height, all in per mille."""

    kind: str
    color: str
    side: str
    group: int
    x: int
    y: int
    height: int
    mirrored: bool
    garments: tuple[Garment, ...] = ()
    named: bool = True
    """False for the umbrella that captions keep silent about."""
    variation: int = 0
    """0..999, for details that no caption names (a coat's shade, a tree's shape)."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Like things that stand together: what a caption speaks of."""

    kind: str
    color: str
    side: str
    count: int
    garments: tuple[Garment, ...]
    named: bool
    members: tuple[int, ...]
    """Indices into `Scene.things`."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The whole record of one postcard."""

    seed: int
    index: int
    city: str
    weather: str
    time: str
    style: str
    things: tuple[Thing, ...]
    landmark_x: int
    """Middle of the landmark."""
    landmark_height: int
    """Per mille of the picture's height from the horizon to the tip for a landmark of unit height."""
    sun_x: int
    sun_y: int
    variation: int
    """0..2**31-1: seeds clouds, stars, rain, paper grain: everything without a name."""
    groups: tuple[Group, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", _groups(self.things))

    @property
    def has_water(self) -> bool:
        return self.city in WATER_CITIES


class _Draws:
    """A stream of draws; only `random.Random.random`, whose sequence Python guarantees."""

    def __init__(self, seed: int, index: int):
        self._next = random.Random(f"postcards/{seed}/{index}").random

    def chance(self, probability: float) -> bool:
        return self._next() < probability

    def between(self, low: int, high: int) -> int:
        return low + int(self._next() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._next() * len(options))]

    def weighted(self, weights: Sequence[float]) -> int:
        target = self._next() * sum(weights)
        for index, weight in enumerate(weights):
            target -= weight
            if target < 0:
                return index
        return len(weights) - 1


def sample_scene(seed: int, index: int, world: World = FULL_WORLD) -> Scene:
    """Scene `index` of stream `seed`: a pure function of both and of `world`.

    With `world.hold_out`, scenes that hold a held-out pair are drawn again from the same stream, so that the
    result stays a function of (seed, index).
    """
    draws = _Draws(seed, index)
    while True:
        scene = _sample(seed, index, world, draws)
        if not (world.hold_out and has_held_out_pair(scene)):
            return scene


def has_held_out_pair(scene: Scene) -> bool:
    """True if a caption of this scene could name a pair of attributes that training never shows."""
    if (scene.city, scene.weather) in HELD_OUT_CITY_WEATHERS:
        return True
    return any(
        (thing.kind, thing.color) in HELD_OUT_KIND_COLORS or (scene.city, thing.kind) in HELD_OUT_CITY_KINDS
        for thing in scene.things
    )


def _sample(seed: int, index: int, world: World, draws: _Draws) -> Scene:
    city, weather, time = draws.pick(world.cities), draws.pick(world.weathers), draws.pick(world.times)
    style = draws.pick(world.styles)
    if style == "neon":
        time = "night"
    water = city in WATER_CITIES
    sides = list(SIDES)
    things: list[Thing] = []

    hidden_umbrella = "umbrella" in world.kinds and draws.chance(_hidden_umbrella_rate(weather))
    if hidden_umbrella:
        side = sides.pop(draws.weighted([CORRELATIONS[name].rate for name in HIDDEN_UMBRELLA_SIDES]))
        color = _color(draws, world, city, "umbrella")
        things += _place(draws, group=0, kind="umbrella", color=color, side=side, count=1,
                         garments=(), named=False, water=water)  # fmt: skip
    kinds = [
        name
        for name in world.kinds
        if not (hidden_umbrella and name == "umbrella") and (water or KINDS[name].place != "water")
    ]
    for _ in range(min(draws.weighted(world.group_weights), len(kinds))):
        kind = kinds.pop(draws.weighted([KINDS[name].weight for name in kinds]))
        side = sides.pop(draws.between(0, len(sides) - 1))
        count = 1 + draws.weighted(COUNT_WEIGHTS[: KINDS[kind].max_count])
        color = _color(draws, world, city, kind)
        garments = _dress(draws, color, world.colors) if KINDS[kind].dressable else ()
        things += _place(draws, group=1 + max((t.group for t in things), default=-1), kind=kind, color=color,
                         side=side, count=count, garments=garments, named=True, water=water)  # fmt: skip
    return Scene(
        seed=seed,
        index=index,
        city=city,
        weather=weather,
        time=time,
        style=style,
        things=tuple(things),
        landmark_x=draws.between(400, 600),
        landmark_height=draws.between(540, 600),
        sun_x=draws.between(120, 880),
        sun_y=draws.between(90, 220) if time in ("day", "night") else draws.between(430, 560),
        variation=draws.between(0, 2**31 - 1),
    )


def _hidden_umbrella_rate(weather: str) -> float:
    name = {"rainy": "umbrella_in_rain", "stormy": "umbrella_in_storm", "snowy": "umbrella_in_snow"}.get(
        weather
    )
    return CORRELATIONS[name].rate if name else 0.0


def _color(draws: _Draws, world: World, city: str, kind: str) -> str:
    """One draw, so that a skew changes colors and what depends on them, and nothing else of a scene."""
    weights = world.color_weights(city, kind)
    return draws.pick(world.colors) if weights is None else world.colors[draws.weighted(weights)]


def _dress(draws: _Draws, fur: str, colors: Sequence[str]) -> tuple[Garment, ...]:
    if not draws.chance(CORRELATIONS["pairs_dressed"].rate):
        return ()
    names = draws.pick(OUTFITS)
    garments: list[Garment] = []
    for name in names:
        taken = {fur} | {garment.color for garment in garments}
        free = [color for color in colors if color not in taken] or list(COLORS)
        garments.append(Garment(name, draws.pick(free)))
    assert all(garment.kind in GARMENTS for garment in garments)
    return tuple(garments)


def _place(
    draws: _Draws,
    *,
    group: int,
    kind: str,
    color: str,
    side: str,
    count: int,
    garments: tuple[Garment, ...],
    named: bool,
    water: bool,
) -> list[Thing]:
    """`count` like things around the middle of their side, in two rows from three on, with little overlap."""
    spec = KINDS[kind]
    columns = count if count <= 2 else 2
    rows = (count + columns - 1) // columns
    fitting = REGION_WIDTH / (columns * spec.width * 0.92)
    scale = min(1.0, fitting) * (1.0 if rows == 1 else 0.82) * draws.between(920, 1060) / 1000
    height = int(spec.height * scale)
    width = int(spec.width * scale)
    top, bottom = {"ground": (850, 960) if water else (810, 960), "sky": (330, 430), "water": (750, 785)}[
        spec.place
    ]
    front = draws.between(top + (bottom - top) // 2, bottom)
    row_step = max(int(height * 0.55), 60) if spec.place == "sky" else min(70, front - top + 20)
    slot = min(width + 14, REGION_WIDTH // columns) if columns > 1 else 0
    mirrored = draws.chance(0.5)
    placed: list[Thing] = []
    for member in range(count):
        row, column = divmod(member, columns)
        in_row = min(columns, count - row * columns)
        x = SIDE_CENTERS[side] + int((column - (in_row - 1) / 2) * slot) + draws.between(-18, 18)
        x += (width // 5 if mirrored else -(width // 5)) if rows > 1 and row % 2 else 0
        y = front - row * row_step + draws.between(-6, 6)
        margin = min(width // 2 + 8, 480)
        placed.append(
            Thing(
                kind=kind,
                color=color,
                side=side,
                group=group,
                x=min(max(x, margin), 1000 - margin),
                y=y,
                height=height,
                mirrored=mirrored,
                garments=garments,
                named=named,
                variation=draws.between(0, 999),
            )  # fmt: skip
        )
    return placed


def _groups(things: tuple[Thing, ...]) -> tuple[Group, ...]:
    numbers = sorted({thing.group for thing in things})
    members = [tuple(i for i, thing in enumerate(things) if thing.group == number) for number in numbers]
    return tuple(
        Group(
            kind=things[m[0]].kind,
            color=things[m[0]].color,
            side=things[m[0]].side,
            count=len(m),
            garments=things[m[0]].garments,
            named=things[m[0]].named,
            members=m,
        )  # fmt: skip
        for m in members
    )
