"""Captions of a scene: which facts are told, and captions that are wrong on purpose.

Knows nothing of pixels, tokens or wording (`phrases.py`). Every draw is a `random.Random` of a string, the
same on every machine. A text is a pure function of its claims, its form and its seed.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeVar

from training.scenes.claims import Claims, GarmentClaim, GroupClaim, Sight, is_true, sight_from
from training.scenes.phrases import Form, compose, vocabulary
from training.scenes.scene import Scene
from training.scenes.world import FULL_WORLD, KINDS, SIDES, World

__all__ = [
    "FORM_WEIGHTS", "Caption", "Claims", "Form", "GarmentClaim", "GroupClaim", "Sight",
    "captions", "compose", "draw_caption", "is_true", "sight_from", "vocabulary", "wrong_captions",
]  # fmt: skip

T = TypeVar("T")

FORM_WEIGHTS: dict[Form, float] = {"full": 0.42, "partial": 0.40, "keyword": 0.10, "empty": 0.08}
LONGEST_CAPTION_WORDS = 35
PLAUSIBLE_WEATHERS = {
    "rainy": {"cloudy"},
    "snowy": {"cloudy"},
    "foggy": {"cloudy"},
    "stormy": {"cloudy", "rainy"},
}
"""Weathers that a wrong caption does not choose, because a viewer would let them pass."""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A training text. `text == compose(truth, form=form, seed=seed)`."""

    text: str
    form: Form
    truth: Claims
    seed: int


def captions(scene: Scene, sight: Sight, *, form: Form, paraphrases: int = 6) -> tuple[Caption, ...]:
    """Give up to `paraphrases` captions of one form with different texts; of the empty form there is one."""
    found: dict[str, Caption] = {}
    for attempt in range(1 if form == "empty" else 12 * paraphrases):
        caption = _caption(
            scene, sight, form, random.Random(f"captions/{scene.seed}/{scene.index}/{form}/{attempt}")
        )
        found.setdefault(caption.text.lower().rstrip("."), caption)
        if len(found) == paraphrases:
            break
    return tuple(found.values())


def draw_caption(scene: Scene, sight: Sight, *, seed: int) -> Caption:
    """Draw one caption, its form after FORM_WEIGHTS: a pure function of the arguments."""
    draws = random.Random(f"caption/{scene.seed}/{scene.index}/{seed}")
    share = draws.random()
    for form, end in zip(FORM_WEIGHTS, accumulate(FORM_WEIGHTS.values()), strict=True):
        if share < end:
            return _caption(scene, sight, form, draws)
    return _caption(scene, sight, "empty", draws)


def _caption(scene: Scene, sight: Sight, form: Form, draws: random.Random) -> Caption:
    seed = int(draws.random() * 2**31)
    seen = _seen(scene, sight)
    if form == "full":
        claims = _tell_all(scene, sight, seen, draws)
    elif form == "partial":
        claims = _tell_some(scene, sight, seen, draws)
    elif form == "keyword":
        claims = _tell_keyword(scene, sight, seen, draws)
    else:
        claims = Claims()
    text = compose(claims, form=form, seed=seed)
    if len(text.split()) > LONGEST_CAPTION_WORDS:
        claims = replace(
            claims, style=None, things=tuple(replace(group, side=None) for group in claims.things)
        )
        text = compose(claims, form=form, seed=seed)
    return Caption(text=text, form=form, truth=claims, seed=seed)


def _chances(draws: random.Random) -> Callable[[float], bool]:
    return lambda probability: draws.random() < probability


def _pick(draws: random.Random, options: Sequence[T]) -> T:
    return options[int(draws.random() * len(options))]


def _seen(scene: Scene, sight: Sight) -> list[GroupClaim]:
    """Everything that may be said of the named groups, as far as it can be seen."""
    claims: list[GroupClaim] = []
    for group in scene.groups:
        members = [index for index in group.members if sight.things_seen[index]]
        if not group.named or not members:
            continue
        garments = tuple(
            GarmentClaim(garment.kind, garment.color)
            for number, garment in enumerate(group.garments)
            if all(sight.garments_seen[index][number] for index in members)
        )
        counted = len(members) == group.count
        claims.append(
            GroupClaim(
                kind=group.kind,
                color=group.color if any(sight.colors_seen[index] for index in members) else None,
                count=group.count if counted else None,
                plural=not counted and len(members) > 1,
                side=group.side,
                garments=garments,
            )
        )
    return claims


def _tell_all(scene: Scene, sight: Sight, seen: list[GroupClaim], draws: random.Random) -> Claims:
    chance = _chances(draws)
    things = tuple(
        replace(
            group,
            side=group.side if chance(0.75) else None,
            garments=tuple(replace(g, color=g.color if chance(0.9) else None) for g in group.garments),
        )
        for group in seen
    )
    style = scene.style if chance(0.25 if scene.style == "flat" else 0.9) else None
    weather = scene.weather if sight.weather_seen else None
    return Claims(city=scene.city, weather=weather, time=scene.time, style=style, things=things)


def _tell_some(scene: Scene, sight: Sight, seen: list[GroupClaim], draws: random.Random) -> Claims:
    chance = _chances(draws)
    facts: list[str | GroupClaim] = ["city", "time", *seen, *seen]
    if sight.weather_seen:
        facts.append("weather")
    if scene.style != "flat" or chance(0.3):
        facts.append("style")
    chosen: list[str | GroupClaim] = []
    for _ in range(1 + int(draws.random() * 3)):
        fact = _pick(draws, facts)
        facts = [other for other in facts if other != fact]
        chosen.append(fact)
    if "weather" in chosen and _is_clear_night(scene) and "time" not in chosen:
        chosen.append("time")
    things: list[GroupClaim] = []
    for group in chosen:
        if not isinstance(group, GroupClaim):
            continue
        if group.count and group.count > 1 and chance(0.35):
            group = replace(group, count=None, plural=True)
        kept = tuple(
            replace(g, color=g.color if chance(0.7) else None) for g in group.garments if chance(0.8)
        )
        color = group.color if chance(0.75) else None
        things.append(replace(group, color=color, side=group.side if chance(0.5) else None, garments=kept))
    return Claims(
        city=scene.city if "city" in chosen else None,
        weather=scene.weather if "weather" in chosen else None,
        time=scene.time if "time" in chosen else None,
        style=scene.style if "style" in chosen else None,
        things=tuple(things),
    )


def _tell_keyword(scene: Scene, sight: Sight, seen: list[GroupClaim], draws: random.Random) -> Claims:
    chance = _chances(draws)
    patterns = ["city", "weather", "time", "city weather", "city time", "weather time"]
    if chance(0.3) and scene.style != "flat":
        patterns.append("style")
    if seen:
        patterns += ["thing"] * 6 + ["city thing", "weather thing"]
    told = _pick(draws, [names for names in patterns if sight.weather_seen or "weather" not in names]).split()
    if "weather" in told and _is_clear_night(scene):
        told = ["weather", "time"]
    things: tuple[GroupClaim, ...] = ()
    if "thing" in told:
        group = _pick(draws, seen)
        many = group.plural or (group.count or 1) > 1
        color = group.color if told == ["thing"] and chance(0.65) else None
        things = (GroupClaim(kind=group.kind, color=color, plural=many and chance(0.75)),)
    return Claims(
        city=scene.city if "city" in told else None,
        weather=scene.weather if "weather" in told else None,
        time=scene.time if "time" in told else None,
        style=scene.style if "style" in told else None,
        things=things,
    )


def _is_clear_night(scene: Scene) -> bool:
    return scene.weather == "sunny" and scene.time == "night"


def wrong_captions(scene: Scene, caption: Caption, *, world: World = FULL_WORLD) -> tuple[Caption, ...]:
    """Give captions that differ from `caption` by one swap or replacement and are false of the scene.

    Replacements are drawn from `world`, so that none is wrong merely because it exists nowhere in a data set.
    """
    draws = random.Random(f"wrong/{scene.seed}/{scene.index}/{caption.seed}")
    found: dict[str, Caption] = {}
    for claims in _mistakes(caption.truth, world, draws):
        text = compose(claims, form=caption.form, seed=caption.seed)
        if text != caption.text and not is_true(claims, scene):
            found.setdefault(text, Caption(text=text, form=caption.form, truth=claims, seed=caption.seed))
    return tuple(found.values())


def _mistakes(truth: Claims, world: World, draws: random.Random) -> Iterable[Claims]:
    def another(options: Iterable[str], *not_these: str) -> list[str]:
        """One other option, or none where there is none."""
        others = [option for option in options if option not in not_these]
        return [_pick(draws, others)] if others else []

    if truth.city:
        yield from (replace(truth, city=city) for city in another(world.cities, truth.city))
    if truth.weather:
        passing = PLAUSIBLE_WEATHERS.get(truth.weather, ())
        for weather in another(world.weathers, truth.weather, *passing):
            yield replace(truth, weather=weather)
    if truth.time:
        yield from (replace(truth, time=time) for time in another(world.shown_times, truth.time))
    if truth.style:
        yield from (replace(truth, style=style) for style in another(world.styles, truth.style))
    if len(truth.things) == 2:
        one, two = truth.things
        if one.color and two.color:
            yield replace(truth, things=(replace(one, color=two.color), replace(two, color=one.color)))
        if one.side and two.side:
            yield replace(truth, things=(replace(one, side=two.side), replace(two, side=one.side)))
        if one.count and two.count:
            yield replace(truth, things=(replace(one, count=two.count), replace(two, count=one.count)))
    for place, group in enumerate(truth.things):
        kinds = [kind for kind in world.shown_kinds if not group.garments or KINDS[kind].dressable]
        changed = [replace(group, kind=kind) for kind in another(kinds, group.kind)]
        if group.color:
            changed += [replace(group, color=color) for color in another(world.colors, group.color)]
        if group.side:
            changed += [replace(group, side=side) for side in another(SIDES, group.side)]
        if group.count:
            steps = [group.count + step for step in (-1, 1) if group.count + step in range(1, 5)]
            changed.append(replace(group, count=_pick(draws, steps)))
        changed += _garment_mistakes(group, world, another)
        for wrong in changed:
            yield replace(truth, things=(*truth.things[:place], wrong, *truth.things[place + 1 :]))


def _garment_mistakes(
    group: GroupClaim, world: World, another: Callable[..., list[str]]
) -> Iterable[GroupClaim]:
    for number, garment in enumerate(group.garments):
        if garment.color is None:
            continue
        before, after = group.garments[:number], group.garments[number + 1 :]
        if group.color:
            worn = (*before, replace(garment, color=group.color), *after)
            yield replace(group, color=garment.color, garments=worn)
        for color in another(world.colors, garment.color):
            yield replace(group, garments=(*before, replace(garment, color=color), *after))
    if len(group.garments) == 2:
        one, two = group.garments
        yield replace(group, garments=(replace(one, color=two.color), replace(two, color=one.color)))
