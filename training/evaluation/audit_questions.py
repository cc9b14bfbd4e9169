"""All questions of an audit: those of the table, of planted skews, and of what prompts leave open.

Knows nothing of models, judges or counts.
"""

from collections.abc import Callable

from training.evaluation.audit_table import (
    ASSOCIATIONS,
    YES,
    Association,
    Facts,
    Marginal,
    Question,
    When,
    reads,
)
from training.scenes.claims import Claims, GroupClaim
from training.scenes.world import KINDS, SIDES, World

NOTHING = "nothing"
"""Drawn where a picture shows no thing at all."""


def _open(kind: str, part: str) -> When:
    """It names this kind of thing and leaves its color, count or side open."""
    return lambda c: any(t.kind == kind and getattr(t, part) is None for t in c.things)


def _one(field: str) -> Callable[[Facts, Claims], tuple[str, ...]]:
    return lambda facts, _: (facts[field],) if field in facts else ()


def _kinds(facts: Facts, _: Claims) -> tuple[str, ...]:
    return tuple(kind for kind in KINDS if facts.get(f"{kind}.present") == YES) or (NOTHING,)


def _first_side(claims: Claims) -> GroupClaim | None:
    return next((thing for thing in claims.things if thing.side is None), None)


def _sides(facts: Facts, claims: Claims) -> tuple[str, ...]:
    thing = _first_side(claims)
    side = facts.get(f"{thing.kind}.side") if thing else None
    return (side,) if side else ()


def _first_count(claims: Claims) -> GroupClaim | None:
    """A thing named in the plural without a number."""
    return next(
        (t for t in claims.things if t.plural and t.count is None and KINDS[t.kind].max_count == 4), None
    )


def _counts(facts: Facts, claims: Claims) -> tuple[str, ...]:
    thing = _first_count(claims)
    count = facts.get(f"{thing.kind}.count") if thing else None
    return (count,) if count else ()


def marginals(world: World) -> list[Marginal]:
    """The distributions that prompts of this world leave open; one of color for each kind of thing."""

    def leaves_open(name: str) -> When:
        return lambda c: c != Claims() and getattr(c, name) is None

    drawn = [
        Marginal(
            name=name,
            told=f"anything but {words}",
            when=leaves_open(name),
            values=_one(name),
            classes=classes,
        )
        for name, words, classes in (
            ("city", "the city", world.cities),
            ("weather", "weather", world.weathers),
            ("style", "style", world.styles),
        )
    ]
    drawn += [
        Marginal(
            name="time",
            told="anything but time and neon",
            when=lambda claims: leaves_open("time")(claims) and claims.style != "neon",
            values=_one("time"),
            classes=world.shown_times,
        ),
        Marginal(
            name="kinds",
            told="anything but things",
            when=lambda claims: claims != Claims() and not claims.things,
            values=_kinds,
            classes=(*world.kinds, NOTHING),
        ),
        Marginal(
            name="side",
            told="a thing without its side",
            when=lambda claims: _first_side(claims) is not None,
            values=_sides,
            classes=SIDES,
        ),
        Marginal(
            name="number",
            told="things without their number",
            when=lambda claims: _first_count(claims) is not None,
            values=_counts,
            classes=("1", "2", "3", "4"),
        ),
    ]
    drawn += [
        Marginal(
            name=f"{kind} color",
            told=f"{kind}, no color",
            when=_open(kind, "color"),
            values=_one(f"{kind}.color"),
            classes=world.colors,
        )
        for kind in world.shown_kinds
    ]
    return [one for one in drawn if len(one.classes) > 1]


def cell_associations(world: World, cell: str) -> list[Association]:
    """A color of a kind in a city, and the same in all other cities to hold against it.

    Args:
        cell: CITY/KIND/COLOR, e.g. "rome/bus/red".
    Raises:
        ValueError: it is no cell of `world`.
    """
    parts = tuple(part.strip() for part in cell.split("/"))
    if len(parts) != 3 or any(
        part not in known
        for part, known in zip(parts, (world.cities, world.kinds, world.colors), strict=True)
    ):
        raise ValueError(f"cell={cell!r}: is no CITY/KIND/COLOR of this world, such as {_example(world)}.")
    city, kind, color = parts
    weights = world.color_weights(city, kind)
    share = 1 / len(world.colors) if weights is None else weights[world.colors.index(color)]
    colorless, elsewhere = _open(kind, "color"), f"{kind} {color} elsewhere"
    is_color = reads(f"{kind}.color", color)
    return [
        Association(
            name=f"{kind} {color} in {city}",
            told=f"{kind} in {city}, no color",
            shown=f"it is {color}",
            when=lambda c: c.city == city and colorless(c),
            holds=is_color,
            rate=share,
            against=elsewhere,
            city=city,
        ),
        Association(
            name=elsewhere,
            told=f"{kind} in another city, no color",
            shown=f"it is {color}",
            when=lambda c: c.city not in (None, city) and colorless(c),
            holds=is_color,
            rate=None,
        ),
    ]


def _example(world: World) -> str:
    return f"{world.cities[0]}/{world.kinds[0]}/{world.colors[0]}"


def questions(world: World, cells: tuple[str, ...] = ()) -> list[Question]:
    """All questions about a world; of planted skews and `cells` too, each once."""
    skewed = [f"{skew.city}/{skew.kind}/{skew.color}" for skew in world.skews]
    of_cells = {one.name: one for cell in (*skewed, *cells) for one in cell_associations(world, cell)}
    asked = [one for one in ASSOCIATIONS.values() if one.kind is None or one.kind in world.kinds]
    return [*asked, *of_cells.values(), *marginals(world)]
