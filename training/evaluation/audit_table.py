"""What an audit asks about each built-in correlation: a question that a judge can answer, or why none.

Knows nothing of models, judges or counts. A question looks at a caption's claims (does it leave the
consequence open?) and at facts, which are a scene's record or a judge's reading alike.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from training.scenes.claims import Claims, GroupClaim
from training.scenes.world import (
    CORRELATIONS,
    GARMENTS,
    HELD_OUT_CITY_KINDS,
    HELD_OUT_CITY_WEATHERS,
    HELD_OUT_KIND_COLORS,
    KINDS,
    WATER_CITIES,
)

Facts = Mapping[str, str]
"""Field -> class, as in `training.claims.FIELDS`; what cannot be told is left out."""
When = Callable[[Claims], bool]
"""Whether a caption tells the condition and leaves the consequence open."""
YES = "yes"


@dataclass(frozen=True, kw_only=True)
class Association:
    """One question with the answer yes or no."""

    name: str
    told: str
    """What its prompts say and leave open, for people."""
    shown: str
    """The consequence, for people."""
    when: When
    holds: Callable[[Facts, Claims], bool | None]
    """The consequence; None where it cannot be asked, e.g. the side of an umbrella that is not there."""
    rate: float | None
    """By construction; None where the prompts' condition is not that of `CORRELATIONS`."""
    against: str | None = None
    """Another association, of prompts without the condition, to see whether the model depends on it."""
    city: str | None = None
    """Its scenes are of this city only; None: of the whole world."""
    kind: str | None = None
    """It is asked only of worlds that have this kind of thing."""


@dataclass(frozen=True, kw_only=True)
class Marginal:
    """One question with the answer one class of several, or several of them."""

    name: str
    told: str
    when: When
    values: Callable[[Facts, Claims], tuple[str, ...]]
    """The classes that a picture shows; none where it cannot be told."""
    classes: tuple[str, ...]
    city: str | None = None


Question = Association | Marginal


def _names(claims: Claims, kind: str) -> bool:
    return any(thing.kind == kind for thing in claims.things)


def _weather(*weathers: str) -> When:
    """It tells one of these weathers and names no umbrella."""
    return lambda claims: claims.weather in weathers and not _names(claims, "umbrella")


def reads(field: str, value: str) -> Callable[[Facts, Claims], bool | None]:
    """Whether a field has this class."""
    return lambda facts, _: facts[field] == value if field in facts else None


def _bare(claims: Claims) -> GroupClaim | None:
    """The first animal that the caption names without any garment."""
    return next((t for t in claims.things if KINDS[t.kind].dressable and not t.garments), None)


def _names_bare_animal(claims: Claims) -> bool:
    return _bare(claims) is not None


def _names_bare_colorless_animal(claims: Claims) -> bool:
    animal = _bare(claims)
    return animal is not None and animal.color is None


def _worn(facts: Facts, claims: Claims) -> dict[str, str] | None:
    """Garment -> color ("" if it cannot be told) of that animal; None if it or a garment is hidden."""
    animal = _bare(claims)
    assert animal is not None
    worn: dict[str, str] = {}
    for garment in GARMENTS:
        present = facts.get(f"{animal.kind}.{garment}.present")
        if present is None:
            return None
        if present == YES:
            worn[garment] = facts.get(f"{animal.kind}.{garment}.color", "")
    return worn


def _wears(ask: Callable[[dict[str, str]], bool | None]) -> Callable[[Facts, Claims], bool | None]:
    """Asked of all such animals, dressed or not: captions name nearly every garment, so few are left open."""

    def holds(facts: Facts, claims: Claims) -> bool | None:
        worn = _worn(facts, claims)
        return None if worn is None else ask(worn)

    return holds


def _like_fur(facts: Facts, claims: Claims) -> bool | None:
    animal, worn = _bare(claims), _worn(facts, claims)
    if not animal or worn is None:
        return None
    fur = facts.get(f"{animal.kind}.color")
    return fur in worn.values() if fur and all(worn.values()) else None


def _alike(worn: dict[str, str]) -> bool | None:
    return len(set(worn.values())) < len(worn) if all(worn.values()) else None


def _sideless_pair(claims: Claims) -> bool:
    return len(claims.things) == 2 and not any(thing.side for thing in claims.things)


def _same_side(facts: Facts, claims: Claims) -> bool | None:
    sides = [facts.get(f"{thing.kind}.side") for thing in claims.things]
    return None if None in sides else sides[0] == sides[1]


def _held_out_pair(facts: Facts, _: Claims) -> bool | None:
    city, weather = facts.get("city", ""), facts.get("weather", "")
    shown = [kind for kind in KINDS if facts.get(f"{kind}.present") == YES]
    return (
        (city, weather) in HELD_OUT_CITY_WEATHERS
        or any((kind, facts.get(f"{kind}.color")) in HELD_OUT_KIND_COLORS for kind in shown)
        or any((city, kind) in HELD_OUT_CITY_KINDS for kind in shown)
    )


def _association(
    name: str,
    told: str,
    shown: str,
    when: When,
    holds: Callable[[Facts, Claims], bool | None],
    *,
    against: str | None = None,
) -> Association:
    rate: float | None = CORRELATIONS[name].rate
    if when is _names_bare_animal and rate:
        rate = None  # of dressed animals, or of all, and not of those that a caption names undressed
    kind = next((kind for kind in ("umbrella", "boat") if name.startswith(kind)), None)
    return Association(
        name=name,
        told=told,
        shown=shown,
        when=when,
        holds=holds,
        rate=rate,
        against=against,
        kind=kind,
    )


def _waterless(claims: Claims) -> bool:
    return claims.city is not None and claims.city not in WATER_CITIES and not _names(claims, "boat")


def _neon(claims: Claims) -> bool:
    return claims.style == "neon" and claims.time is None


def _names_city(claims: Claims) -> bool:
    return claims.city is not None


def _its_city(facts: Facts, claims: Claims) -> bool | None:
    return facts["city"] == claims.city if "city" in facts else None


def _anything(claims: Claims) -> bool:
    return claims != Claims()


_DRY = "umbrella_in_dry_air"
_SHOWN = "rain or storm, no umbrella; one is there"
_BARE = "dog or cat, no garment"
_umbrella = reads("umbrella.present", YES)
_wet = _weather("rainy", "stormy")
ASSOCIATIONS: dict[str, Association] = {
    one.name: one
    for one in (
        *(
            _association(name, f"{noun}, no umbrella", "umbrella", _weather(weather), _umbrella, against=_DRY)
            for name, noun, weather in (
                ("umbrella_in_rain", "rain", "rainy"),
                ("umbrella_in_storm", "storm", "stormy"),
                ("umbrella_in_snow", "snow", "snowy"),
            )
        ),
        _association(
            _DRY,
            "sun, clouds or fog, no umbrella",
            "umbrella",
            _weather("sunny", "cloudy", "foggy"),
            _umbrella,
        ),
        _association("umbrella_on_left", _SHOWN, "on the left", _wet, reads("umbrella.side", "left")),
        _association("umbrella_in_center", _SHOWN, "in the middle", _wet, reads("umbrella.side", "center")),
        _association("umbrella_on_right", _SHOWN, "on the right", _wet, reads("umbrella.side", "right")),
        _association("umbrella_is_single", _SHOWN, "alone", _wet, reads("umbrella.count", "1")),
        _association(
            "boat_needs_water",
            "a city without water, no boat",
            "boat",
            _waterless,
            reads("boat.present", YES),
        ),
        _association("same_side", "two things, no side", "both on one side", _sideless_pair, _same_side),
        _association("pairs_dressed", _BARE, "it wears something", _names_bare_animal, _wears(bool)),
        _association(
            "two_garments", _BARE, "two garments", _names_bare_animal, _wears(lambda worn: len(worn) == 2)
        ),
        *(
            _association(
                f"{garment}_worn",
                _BARE,
                f"a {garment}",
                _names_bare_animal,
                _wears(lambda worn, garment=garment: garment in worn),
            )
            for garment in GARMENTS
        ),
        _association(
            "scarf_and_turtleneck",
            _BARE,
            "scarf and turtleneck",
            _names_bare_animal,
            _wears(lambda worn: {"scarf", "turtleneck"} <= worn.keys()),
        ),
        _association(
            "garment_like_fur",
            "dog or cat, no color, no garment",
            "a garment like the fur",
            _names_bare_colorless_animal,
            _like_fur,
        ),
        _association(
            "garments_alike", _BARE, "two garments of one color", _names_bare_animal, _wears(_alike)
        ),
        _association("neon_is_night", "neon, no time", "night", _neon, reads("time", "night")),
        _association("city_has_its_site", "a city", "its landmark", _names_city, _its_city),
        _association("held_out", "anything", "a pair that training never shows", _anything, _held_out_pair),
    )
}
"""The correlations that a judge's fields can show, each under its name in `CORRELATIONS`."""

_ONE_ANSWER = "the judge gives one answer for a kind, so two groups or members that differ look like one"
_NO_FIELD = "no field of the judge tells it; it is a matter of geometry or light"
NOT_READABLE: dict[str, str] = {
    "umbrella_beside_umbrella": _ONE_ANSWER,
    "same_kind": _ONE_ANSWER,
    "alike_in_group": _ONE_ANSWER,
    "umbrella_has_carrier": "the judge has no field for people",
    "four_umbrellas": "the judge counts umbrellas to three only",
    "three_buses": "the judge counts buses to two only",
    **dict.fromkeys(("pairs_shrink", "crowds_shrink", "crowds_in_rows", "low_beside_water"), _NO_FIELD),
    **dict.fromkeys(("sun_shows", "moon_shows", "high_sun", "low_sun", "fog_halo", "lightning"), _NO_FIELD),
    **dict.fromkeys(("lamp_burns", "lights_on", "windows_lit", "cast_shadow"), _NO_FIELD),
    **dict.fromkeys(("wet_ground", "snow_cover"), _NO_FIELD),
}
"""The other correlations, each with the reason."""
