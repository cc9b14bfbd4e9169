"""Records of the postcard world: pure, identical on every machine, with the promised correlations.

Knows nothing of pixels.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import sqrt
from typing import Any

import pytest

from training.scenes.scene import REGION_WIDTH, Group, Scene, has_held_out_pair, sample_scene
from training.scenes.world import (
    CITIES,
    COLORS,
    CORRELATIONS,
    FLAT_WORLD,
    FULL_WORLD,
    HELD_OUT_CITY_KINDS,
    HELD_OUT_CITY_WEATHERS,
    HELD_OUT_KIND_COLORS,
    KINDS,
    STYLES,
    TIMES,
    WATER_CITIES,
    WEATHERS,
    Skew,
    World,
)

GOLDEN = "2fad74dd227d389482219e40dec38880949c8ed0b9971a561575501240bf262f"


def test_a_record_is_a_pure_function_of_seed_and_index():
    forward = [sample_scene(3, i) for i in range(20)]
    backward = [sample_scene(3, i) for i in reversed(range(20))]
    assert forward == backward[::-1]
    assert len({repr(replace(scene, seed=0, index=0)) for scene in forward}) == 20
    assert sample_scene(3, 5) != replace(sample_scene(4, 5), seed=3)


def test_the_first_records_are_the_same_on_every_machine():
    text = "\n".join(repr(sample_scene(0, i)) for i in range(200))
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN


def test_training_never_shows_a_held_out_pair():
    scenes = [sample_scene(1, i) for i in range(2000)]
    assert not any(has_held_out_pair(scene) for scene in scenes)
    for scene in scenes:
        assert (scene.city, scene.weather) not in HELD_OUT_CITY_WEATHERS
        for thing in scene.things:
            assert (thing.kind, thing.color) not in HELD_OUT_KIND_COLORS
            assert (scene.city, thing.kind) not in HELD_OUT_CITY_KINDS


def test_the_test_world_does_show_held_out_pairs():
    everything = replace(FULL_WORLD, hold_out=False)
    assert any(has_held_out_pair(sample_scene(1, i, everything)) for i in range(200))


def test_about_five_percent_of_pairs_are_held_out():
    assert len(HELD_OUT_KIND_COLORS) / (len(KINDS) * len(COLORS)) == pytest.approx(0.05, abs=0.01)
    assert len(HELD_OUT_CITY_WEATHERS) / (len(CITIES) * len(WEATHERS)) == pytest.approx(0.05, abs=0.01)
    assert len(HELD_OUT_CITY_KINDS) / (len(CITIES) * len(KINDS)) == pytest.approx(0.05, abs=0.01)


def lowest_single(kind: str) -> float:
    """The least height that a thing standing alone can have."""
    return int(KINDS[kind].height * min(1.0, REGION_WIDTH / (KINDS[kind].width * 0.92)) * 0.92)


def unnamed(scene: Scene) -> list[Group]:
    return [group for group in scene.groups if not group.named]


def dressed(scene: Scene) -> list[set[str]]:
    return [{garment.kind for garment in group.garments} for group in scene.groups if group.garments]


def smaller(scene: Scene, counts: set[int], *, but: str = "") -> Iterable[bool]:
    groups = [group for group in scene.groups if group.count in counts and group.kind != but]
    return (scene.things[m].height < lowest_single(g.kind) for g in groups for m in g.members)


OUTCOMES: dict[str, Callable[[Scene], Iterable[bool]]] = {
    **{
        f"umbrella_in_{noun}": lambda s, weather=weather: [bool(unnamed(s))] if s.weather == weather else []
        for noun, weather in (("rain", "rainy"), ("storm", "stormy"), ("snow", "snowy"))
    },
    "umbrella_in_dry_air": lambda s: [] if s.weather in ("rainy", "stormy", "snowy") else [bool(unnamed(s))],
    "umbrella_on_left": lambda s: [group.side == "left" for group in unnamed(s)],
    "umbrella_in_center": lambda s: [group.side == "center" for group in unnamed(s)],
    "umbrella_on_right": lambda s: [group.side == "right" for group in unnamed(s)],
    "umbrella_is_single": lambda s: [group.count == 1 for group in unnamed(s)],
    "umbrella_beside_umbrella": lambda s: [
        any(group.named and group.kind == "umbrella" for group in s.groups) for _ in unnamed(s)
    ],
    "boat_needs_water": lambda s: (
        [] if s.city in WATER_CITIES else [any(group.kind == "boat" for group in s.groups)]
    ),
    "same_side": lambda s: [len({group.side for group in s.groups}) < len(s.groups)],
    "same_kind": lambda s: [len({group.kind for group in s.groups}) < len(s.groups)],
    "alike_in_group": lambda s: [
        len({(s.things[m].color, s.things[m].garments) for m in group.members}) == 1 for group in s.groups
    ],
    "four_umbrellas": lambda s: [group.count == 4 for group in s.groups if group.kind == "umbrella"],
    "three_buses": lambda s: [group.count > 2 for group in s.groups if group.kind == "bus"],
    "pairs_shrink": lambda s: smaller(s, {2}, but="lamp"),
    "crowds_shrink": lambda s: smaller(s, {3, 4}),
    "low_beside_water": lambda s: [
        max(s.things[m].y for m in group.members) >= 899
        for group in s.groups
        if s.has_water and KINDS[group.kind].place == "ground"
    ],
    "pairs_dressed": lambda s: [bool(g.garments) for g in s.groups if KINDS[g.kind].dressable],
    "two_garments": lambda s: [len(worn) == 2 for worn in dressed(s)],
    "beret_worn": lambda s: ["beret" in worn for worn in dressed(s)],
    "scarf_worn": lambda s: ["scarf" in worn for worn in dressed(s)],
    "turtleneck_worn": lambda s: ["turtleneck" in worn for worn in dressed(s)],
    "scarf_and_turtleneck": lambda s: [worn >= {"scarf", "turtleneck"} for worn in dressed(s)],
    "garment_like_fur": lambda s: [g.color in {w.color for w in g.garments} for g in s.groups if g.garments],
    "garments_alike": lambda s: [
        len({w.color for w in g.garments}) == 1 for g in s.groups if len(g.garments) == 2
    ],
    "high_sun": lambda s: [90 <= s.sun_y <= 220] if s.time in ("day", "night") else [],
    "low_sun": lambda s: [430 <= s.sun_y <= 560] if s.time in ("dawn", "sunset") else [],
    "neon_is_night": lambda s: [s.time == "night"] if s.style == "neon" else [],
}
"""For a correlation of the table, whether its consequence holds in each case of a scene where it is given."""
SAMPLED = [sample_scene(2, i, replace(FULL_WORLD, hold_out=False)) for i in range(6000)]


def assert_near(rate: float, outcomes: list[bool]) -> None:
    """Within four standard deviations of a share of so many draws; certain and impossible things exactly."""
    assert len(outcomes) > 100
    assert sum(outcomes) / len(outcomes) == pytest.approx(
        rate, abs=4 * sqrt(rate * (1 - rate) / len(outcomes))
    )


@pytest.mark.parametrize("name", OUTCOMES)
def test_things_go_together_as_often_as_the_table_says(name: str):
    assert_near(CORRELATIONS[name].rate, [found for s in SAMPLED for found in OUTCOMES[name](s)])


def test_an_unnamed_umbrella_is_as_frequent_in_the_rain_of_the_training_world():
    assert FLAT_WORLD.hold_out
    rainy = replace(FLAT_WORLD, weathers=("rainy",))
    scenes = [sample_scene(2, i, rainy) for i in range(2000)]
    assert_near(0.60, [bool(unnamed(scene)) for scene in scenes])
    assert_near(CORRELATIONS["umbrella_in_rain"].rate, [bool(unnamed(scene)) for scene in scenes])
    everywhere = [sample_scene(3, i, FLAT_WORLD) for i in range(3000)]
    assert_near(0.60, [bool(unnamed(scene)) for scene in everywhere if scene.weather == "rainy"])


def test_only_wet_or_snowy_weather_brings_unnamed_things():
    world = replace(FULL_WORLD, weathers=("sunny", "cloudy", "foggy"))
    assert all(thing.named for i in range(500) for thing in sample_scene(2, i, world).things)


def test_every_correlation_names_a_possible_rate_and_both_sides():
    assert all(0 <= c.rate <= 1 and c.given and c.then for c in CORRELATIONS.values())


def test_things_stand_inside_the_picture_and_groups_count_them():
    for i in range(500):
        scene = sample_scene(6, i)
        for thing in scene.things:
            half = thing.height * KINDS[thing.kind].width / KINDS[thing.kind].height / 2
            assert thing.x - half >= -30 and thing.x + half <= 1030
            assert thing.y - thing.height >= 0 and thing.y <= 1000
        assert sum(group.count for group in scene.groups) == len(scene.things)
        assert len({group.side for group in scene.groups}) == len(scene.groups)


def test_every_value_of_the_vocabulary_occurs():
    scenes = [sample_scene(7, i) for i in range(1500)]
    assert {s.city for s in scenes} == set(CITIES)
    assert {s.weather for s in scenes} == set(WEATHERS)
    assert {s.time for s in scenes} == set(TIMES)
    assert {s.style for s in scenes} == set(STYLES)
    assert {t.kind for s in scenes for t in s.things} == set(KINDS)
    assert {t.color for s in scenes for t in s.things} == set(COLORS)


def test_a_smaller_world_stays_inside_its_bounds():
    for i in range(200):
        scene = sample_scene(8, i, FLAT_WORLD)
        assert scene.style == "flat"
        assert scene.city in FLAT_WORLD.cities


def test_an_unknown_name_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"World\.cities: 'atlantis' is unknown; choose from paris"):
        World(cities=("atlantis",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cities": ()}, r"World\.cities: \(\) is empty; name one or more of paris"),
        ({"kinds": ()}, r"World\.kinds: \(\) is empty; name one or more of umbrella"),
        ({"group_weights": (0.5, 0.5)}, r"World\.group_weights: \(0\.5, 0\.5\) are no weights"),
        ({"group_weights": (0.0, 0.0, 0.0)}, "give three numbers >= 0 that are not all 0"),
        ({"group_weights": (1.0, 1.0, -1.0)}, "give three numbers >= 0"),
        ({"group_weights": (1.0, 1.0, float("nan"))}, "give three numbers >= 0"),
        ({"cities": ("agra",), "weathers": ("rainy",)}, r"World\.hold_out: True rejects every scene of"),
        ({"kinds": ("dog",), "colors": ("purple",), "group_weights": (0, 1, 0)}, "or set hold_out=False"),
        ({"cities": ("pisa",), "kinds": ("dog", "car"), "group_weights": (0, 0, 1)}, "rejects every scene"),
        ({"cities": ("pisa",), "kinds": ("dog", "boat"), "group_weights": (0, 0, 1)}, "rejects every scene"),
    ],
)
def test_a_world_without_a_scene_is_refused_in_one_line(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message) as error:
        replace(FULL_WORLD, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"cities": ("agra",), "weathers": ("rainy",), "hold_out": False},
        {"cities": ("agra", "paris"), "weathers": ("rainy",)},
        {"cities": ("paris",), "kinds": ("dog",), "colors": ("purple",), "group_weights": (0.5, 0.5, 0.0)},
        {"cities": ("pisa",), "kinds": ("dog", "car"), "group_weights": (0, 1, 0)},
        {"cities": ("paris",), "kinds": ("boat",), "group_weights": (0, 0, 1)},
        {"kinds": ("umbrella",), "cities": ("athens", "rome"), "weathers": ("stormy",)},
    ],
)
def test_a_world_that_has_scenes_gives_them_and_shows_nothing_else(changes: dict[str, Any]):
    world = replace(FULL_WORLD, **changes)
    scenes = [sample_scene(9, i, world) for i in range(200)]
    assert {(scene.city, scene.weather) for scene in scenes} == set(world.city_weathers)
    assert {g.kind for scene in scenes for g in scene.groups if g.named} == set(world.shown_kinds)


def test_neon_scenes_of_a_world_without_nights_are_at_night():
    for styles, shown in ((("neon",), ("night",)), (("ink", "neon"), ("day", "night")), (("ink",), ("day",))):
        world = replace(FULL_WORLD, times=("day",), styles=styles)
        assert world.shown_times == shown
        assert {sample_scene(9, i, world).time for i in range(60)} == set(shown)


SKEWED = replace(FLAT_WORLD, skews=(Skew("rome/bus/red/0.9"), Skew("cairo/umbrella/blue/0.0")))


def test_a_skew_changes_colors_of_one_kind_in_one_city_and_nothing_else():
    for i in range(1_500):
        plain, skewed = (sample_scene(9, i, world) for world in (FLAT_WORLD, SKEWED))
        kept = plain.groups
        for before, after in zip(kept, skewed.groups, strict=True):
            assert replace(before, color="", garments=()) == replace(after, color="", garments=())
            if (plain.city, before.kind) not in (("rome", "bus"), ("cairo", "umbrella")):
                assert before == after
        assert replace(plain, things=()) == replace(skewed, things=())


def test_a_skew_is_drawn_with_its_share_and_the_other_colors_share_the_rest():
    world = replace(
        SKEWED, cities=("rome",), kinds=("bus",), group_weights=(0.0, 1.0, 0.0), skews=SKEWED.skews[:1]
    )
    colors = [sample_scene(9, i, world).groups[0].color for i in range(3_000)]
    assert_near(0.9, [color == "red" for color in colors])
    for other in set(COLORS) - {"red"}:
        assert_near(0.1 / 7, [color == other for color in colors])


def test_a_skew_holds_for_unnamed_umbrellas_too():
    world = replace(FLAT_WORLD, weathers=("rainy",), skews=(Skew("cairo/umbrella/blue/1.0"),))
    scenes = [sample_scene(9, i, world) for i in range(600)]
    carried = [group.color for s in scenes if s.city == "cairo" for group in unnamed(s)]
    assert len(carried) > 20 and set(carried) == {"blue"}


@pytest.mark.parametrize(
    "text", ["rome/bus/red", "rome/bus/red/1.5", "rome/bus/red/much", "", "rome/bus/red/nan"]
)
def test_what_is_no_skew_is_refused_with_an_example(text: str):
    with pytest.raises(ValueError, match=r"is no skew; write CITY/KIND/COLOR/SHARE .* e.g. rome/bus/red/0.9"):
        Skew(text)


@pytest.mark.parametrize(
    ("skews", "message"),
    [
        (("atlantis/bus/red/0.9",), "names 'atlantis', which is not among the world's cities"),
        (("rome/tram/red/0.9",), "names 'tram', which is not among the world's kinds"),
        (("rome/bus/pink/0.9",), "names 'pink', which is not among the world's colors"),
        (("paris/bus/red/0.9",), "is a pair that the world never draws"),
        (("rome/dog/purple/0.9",), "is a pair that the world never draws"),
        (("rome/boat/red/0.9",), "is a pair that the world never draws"),
        (("rome/bus/red/0.9", "rome/bus/blue/0.9"), "give one skew for each city and kind"),
    ],
)
def test_a_skew_of_what_the_world_lacks_is_refused(skews: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=f"World.skews: .*{message}") as error:
        replace(FLAT_WORLD, skews=tuple(map(Skew, skews)))
    assert "\n" not in str(error.value)


def test_a_skew_of_a_single_color_is_refused():
    with pytest.raises(ValueError, match="two or more different colors"):
        replace(FLAT_WORLD, colors=("red",), skews=(Skew("rome/bus/red/0.9"),))


def test_a_skew_that_leaves_only_held_out_colors_leaves_no_scene():
    changes = {
        "cities": ("rome",),
        "kinds": ("dog",),
        "colors": ("red", "purple"),
        "group_weights": (0, 1, 0),
    }
    with pytest.raises(ValueError, match="rejects every scene"):
        replace(FLAT_WORLD, **changes, skews=(Skew("rome/dog/red/0.0"),))
