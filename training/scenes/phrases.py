"""Words a set of claims: the same claims, form and seed always give the same text.

Knows nothing of scenes and of what is true. The seed alone picks the pattern and the rank of every synonym,
so that one changed claim changes only its own words.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar

from training.scenes import words
from training.scenes.claims import Claims, GarmentClaim, GroupClaim
from training.scenes.world import COLORS, FULL_WORLD, KINDS, World

T = TypeVar("T")
Form = Literal["full", "partial", "keyword", "empty"]

_OF_ALL = """pattern city city_name near adjective where clause alone when part nouns time_alone sky_shape
    words style medium style_place casing order joint"""
_OF_EACH = "amount noun one carried carrier carrying wearing garments garment0 garment1 side"
_NAMES = re.findall(r"\w+", _OF_ALL) + [
    f"{name}{thing}" for thing in (0, 1) for name in re.findall(r"\w+", _OF_EACH)
]
_SLOTS = {name: number for number, name in enumerate(_NAMES)}
"""Which draw of the seed's stream decides what."""


class _Draws:
    """The seed's draws by name."""

    def __init__(self, seed: int):
        following = random.Random(f"phrases/{seed}").random
        self._values = [following() for _ in _SLOTS]

    def share(self, slot: str) -> float:
        return self._values[_SLOTS[slot]]

    def pick(self, slot: str, options: Sequence[T]) -> T:
        """Earlier options come more often."""
        return options[int(self._values[_SLOTS[slot]] ** 1.5 * len(options))]

    def even(self, slot: str, options: Sequence[T]) -> T:
        return options[int(self._values[_SLOTS[slot]] * len(options))]


def compose(claims: Claims, *, form: Form, seed: int) -> str:
    """Word `claims`: at most two things; the keyword form has one to three words, the empty form none."""
    draws = _Draws(seed)
    if form == "empty":
        return ""
    if form == "keyword":
        return _keywords(claims, draws)
    text = _sentence(claims, draws)
    casing = draws.share("casing")
    if casing < 0.2:
        return text.lower()
    if casing < 0.5:
        text = text[:1].upper() + text[1:]
    return text + "." if casing > 0.92 else text


def _sentence(claims: Claims, draws: _Draws) -> str:
    told = [("city", claims.city), ("sky", claims.weather or claims.time), ("things", claims.things)]
    style = draws.even("style", words.STYLE_WORDS[claims.style]) if claims.style else ""
    facts = " ".join(name for name, value in told if value)
    if not facts:
        return with_article(style) if style and draws.share("style_place") < 0.5 else style
    pattern = draws.even("pattern", words.PATTERNS[facts])
    text = _fill(pattern.removeprefix("!"), claims, draws)
    place = draws.share("style_place")
    if not style:
        neutral = place < 0.15 and not pattern.startswith("!")
        return (
            f"{with_article(draws.pick('medium', words.NEUTRAL_MEDIA), draws)} of {text}" if neutral else text
        )
    if pattern.startswith("!") or place < 0.4:
        return f"{text}, {style}"
    if place < 0.5:
        return f"{style}, {text}"
    return f"{with_article(style, draws)} of {text}"


def with_article(phrase: str, draws: _Draws | None = None) -> str:
    """Put "a" or "an" before a phrase unless it is "... art"; with draws, now and then nothing."""
    if phrase.endswith(" art") or (draws and draws.share("medium") > 0.7):
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _fill(pattern: str, claims: Claims, draws: _Draws) -> str:
    parts = {}
    for name in re.findall(r"{(\w+)}", pattern):
        parts[name] = _PARTS[name](claims, draws)
    return pattern.format(**parts)


def _weather(claims: Claims) -> words.WeatherWords | None:
    if claims.weather == "sunny" and claims.time == "night":
        return words.CLEAR_NIGHT
    return words.WEATHER_WORDS[claims.weather] if claims.weather else None


def _city(claims: Claims, draws: _Draws) -> tuple[str, bool]:
    """A name of the city and whether it is its landmark's."""
    assert claims.city
    city = words.CITY_WORDS[claims.city]
    share = draws.share("city")
    if share > 0.82 and city.nicknames:
        return draws.pick("city_name", city.nicknames), False
    if share > 0.6 and city.landmarks:
        return draws.pick("city_name", city.landmarks), True
    return draws.pick("city_name", city.names), False


def _at(claims: Claims, draws: _Draws) -> str:
    name, is_landmark = _city(claims, draws)
    return f"{draws.pick('near', words.NEAR) if is_landmark else 'in'} {name}"


def _sky(claims: Claims, draws: _Draws) -> str:
    weather, time = _weather(claims), words.TIME_WORDS[claims.time] if claims.time else None
    where = draws.pick("where", weather.where) if weather else ""
    when = draws.pick("when", time.when) if time else ""
    if not weather or not time:
        return where or when
    shape = draws.share("sky_shape")
    if shape < 0.45:
        return "on " + with_article(
            f"{draws.pick('adjective', weather.adjectives)} {draws.pick('part', time.part)}"
        )
    if shape < 0.65:
        return f"{where} {when}"
    return f"{when} {where}" if shape < 0.8 else f"{when}, {draws.pick('clause', weather.clauses)}"


def _sky_noun(claims: Claims, draws: _Draws) -> str:
    weather = _weather(claims)
    noun = draws.pick("nouns", words.TIME_WORDS[claims.time].nouns) if claims.time else ""
    if weather and noun:
        return with_article(f"{draws.pick('adjective', weather.adjectives)} {noun}")
    return f"{draws.pick('adjective', weather.adjectives)} weather" if weather else noun


def _sky_words(claims: Claims, draws: _Draws) -> str:
    weather = _weather(claims)
    told = [draws.pick("alone", weather.alone)] if weather else []
    told += [draws.pick("time_alone", words.TIME_WORDS[claims.time].alone)] if claims.time else []
    return ", ".join(told if draws.share("words") < 0.6 else told[::-1])


def _adjective_place(claims: Claims, draws: _Draws) -> str:
    assert claims.city
    weather = _weather(claims)
    name = draws.pick("city_name", words.CITY_WORDS[claims.city].names)
    before = f"{draws.pick('adjective', weather.adjectives)} " if weather else ""
    return f"{before}{name}" + (
        f" {draws.pick('when', words.TIME_WORDS[claims.time].when)}" if claims.time else ""
    )


def _things(claims: Claims, draws: _Draws) -> str:
    return (" and " if draws.share("joint") < 0.7 else ", ").join(_told_things(claims, draws))


def _there(claims: Claims, draws: _Draws) -> str:
    first = claims.things[_order(claims.things, draws)[0]]
    return f"there {'are' if _is_many(first) else 'is'} {' and '.join(_told_things(claims, draws))}"


def _told_things(claims: Claims, draws: _Draws) -> list[str]:
    return [_thing(claims.things[number], number, draws) for number in _order(claims.things, draws)]


def _order(things: Sequence[GroupClaim], draws: _Draws) -> list[int]:
    """Put sides first and garments last: "a cat and a bus on the left", "a cat in a scarf and a bus"?."""
    numbers = list(range(len(things))) if draws.share("order") < 0.5 else list(range(len(things)))[::-1]
    return sorted(numbers, key=lambda number: 0 if things[number].side else 1 + bool(things[number].garments))


def _is_many(claim: GroupClaim) -> bool:
    return claim.plural or (claim.count or 1) > 1


def _thing(claim: GroupClaim, number: int, draws: _Draws) -> str:
    many = _is_many(claim)
    colored = f"{claim.color} " if claim.color else ""
    text = colored + draws.even(f"noun{number}", words.KIND_WORDS[claim.kind])[many]
    if claim.kind == "umbrella" and draws.share(f"carried{number}") < 0.55:
        how = draws.even(f"carrying{number}", words.CARRYING)
        carrier = draws.pick(f"carrier{number}", words.CARRIERS)[many]
        held = f"{how} {text if many else with_article(text)}"
        if not many and draws.share(f"carrier{number}") < 0.4:
            return _placed(
                f"{'someone' if draws.share(f'one{number}') < 0.5 else 'somebody'} {held}",
                claim,
                number,
                draws,
            )
        text = f"{carrier} {held}"
    text = _counted(text, claim, number, draws)
    if claim.garments:
        worn = [
            _garment(garment, draws.even(f"garment{index}{number}", words.GARMENT_WORDS[garment.kind]), many)
            for index, garment in enumerate(claim.garments)
        ]
        worn = worn if draws.share(f"garments{number}") < 0.6 else worn[::-1]
        text += f" {draws.pick(f'wearing{number}', words.WEARING)} {' and '.join(worn)}"
    return _placed(text, claim, number, draws)


def _counted(text: str, claim: GroupClaim, number: int, draws: _Draws) -> str:
    share = draws.share(f"amount{number}")
    if claim.plural and claim.count is None:
        return f"{draws.even(f'one{number}', words.SOME)} {text}" if share < 0.3 else text
    if (claim.count or 1) > 1:
        return f"{draws.even(f'amount{number}', words.COUNT_WORDS[claim.count or 1])} {text}"
    if claim.count == 1 and share > 0.88:
        return f"{draws.even(f'one{number}', words.ONE)} {text}"
    return with_article(text)


def _garment(garment: GarmentClaim, noun: tuple[str, str], many: bool) -> str:
    text = f"{garment.color} {noun[many]}" if garment.color else noun[many]
    return text if many else with_article(text)


def _placed(text: str, claim: GroupClaim, number: int, draws: _Draws) -> str:
    return f"{text} {draws.pick(f'side{number}', words.SIDE_WORDS[claim.side])}" if claim.side else text


def _keywords(claims: Claims, draws: _Draws) -> str:
    facts = {"city": claims.city, "weather": claims.weather, "time": claims.time, "style": claims.style}
    told = [name for name, value in facts.items() if value] + ["thing"] * bool(claims.things)
    pattern = draws.even("pattern", words.KEYWORD_PATTERNS[" ".join(told)])
    parts: dict[str, str] = {}
    if claims.city:
        names = words.CITY_WORDS[claims.city].names
        parts["city"] = draws.pick("city", names if len(told) == 1 else names[:1])
    if weather := _weather(claims):
        parts["weather"] = draws.pick("adjective", weather.adjectives)
        parts["weather_noun"] = weather.alone[0]
        parts["weather_alone"] = draws.even("alone", weather.alone)
    if claims.time:
        parts["time"] = draws.pick("nouns", words.TIME_WORDS[claims.time].nouns)
        parts["time_alone"] = draws.even("time_alone", words.TIME_WORDS[claims.time].alone)
    if claims.style:
        parts["style_alone"] = draws.even("style", _short(words.STYLE_WORDS[claims.style], 3))
    if claims.things:
        claim = claims.things[0]
        nouns = [pair[_is_many(claim)] for pair in words.KIND_WORDS[claim.kind]]
        parts["kind"] = nouns[0]
        noun = draws.even("noun0", _short(nouns, 1 if claim.color else 2))
        parts["thing"] = f"{claim.color} {noun}" if claim.color else noun
        parts["a_thing"] = parts["thing"] if _is_many(claim) else with_article(parts["thing"])
    text = pattern.format(**parts)
    return text.lower() if draws.share("casing") < 0.6 else text


def _short(options: Sequence[str], most: int) -> list[str]:
    return [option for option in options if len(option.split()) <= most]


_PARTS = {
    "things": _things,
    "there": _there,
    "at": _at,
    "place": lambda claims, draws: _city(claims, draws)[0],
    "adjective_place": _adjective_place,
    "sky": _sky,
    "sky_noun": _sky_noun,
    "words": _sky_words,
}


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words as `known_words.txt` counts them: letters and digits, no hyphens."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)?", text.lower())


@cache
def vocabulary(world: World = FULL_WORLD) -> tuple[str, ...]:
    """Give every lower-case word that a caption of a scene of `world` can hold, sorted.

    The words of a world's only style are among them, because captions may name it.
    """
    cities = {city for city, _ in world.city_weathers}
    weathers = {weather for _, weather in world.city_weathers}
    times, kinds = world.shown_times, world.shown_kinds
    tables: list[Any] = [words.NEUTRAL_MEDIA, words.NEAR, words.FUNCTION_WORDS]
    tables += [words.CITY_WORDS[city] for city in cities]
    tables += [words.WEATHER_WORDS[weather] for weather in weathers if weather != "sunny"]
    if "sunny" in weathers:
        tables += [words.CLEAR_NIGHT] * ("night" in times)
        tables += [words.WEATHER_WORDS["sunny"]] * (set(times) != {"night"})
    tables += [words.TIME_WORDS[time] for time in times]
    tables += [words.STYLE_WORDS[style] for style in world.styles]
    if kinds:
        tables += [words.KIND_WORDS[kind] for kind in kinds]
        most = max(KINDS[kind].max_count for kind in kinds)
        tables += [words.COUNT_WORDS[count] for count in range(2, most + 1)]
        tables += [words.ONE, words.SOME, words.SIDE_WORDS, world.colors, words.FUNCTION_WORDS_OF_THINGS]
    if "umbrella" in kinds:
        tables += [words.CARRIERS, words.CARRYING, words.FUNCTION_WORDS_OF_CARRIERS]
    if any(KINDS[kind].dressable for kind in kinds):
        # With fewer than three colors, garments take any of the eight (`scene.py`).
        tables += [words.GARMENT_WORDS, words.WEARING, () if len(set(world.colors)) > 2 else list(COLORS)]
    return tuple(sorted({word for text in _texts(tables) for word in words_of(text)}))


def _texts(table: Any) -> Iterable[str]:
    """All phrases in a nest of tables; a dict's keys are names, not phrases."""
    if isinstance(table, str):
        yield table
    elif isinstance(table, dict):
        yield from _texts(list(table.values()))
    elif is_dataclass(table):
        yield from _texts([getattr(table, field.name) for field in fields(table)])
    elif isinstance(table, list | tuple):
        for entry in table:
            yield from _texts(entry)
