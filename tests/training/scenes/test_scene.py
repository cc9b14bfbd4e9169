"""Records of the postcard world: pure, identical on every machine, with the promised correlations.

Knows nothing of pixels.
"""

import hashlib
from dataclasses import replace

import pytest

from training.scenes.scene import has_held_out_pair, sample_scene
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


@pytest.mark.parametrize(
    ("weather", "name"),
    [("rainy", "umbrella_in_rain"), ("stormy", "umbrella_in_storm"), ("snowy", "umbrella_in_snow")],
)
def test_unnamed_umbrellas_are_as_frequent_as_the_table_says(weather: str, name: str):
    world = replace(FULL_WORLD, weathers=(weather,), hold_out=False)
    scenes = [sample_scene(2, i, world) for i in range(1500)]
    silent = [any(t.kind == "umbrella" and not t.named for t in scene.things) for scene in scenes]
    assert sum(silent) / len(silent) == pytest.approx(CORRELATIONS[name].rate, abs=0.04)


def test_only_wet_or_snowy_weather_brings_unnamed_things():
    world = replace(FULL_WORLD, weathers=("sunny", "cloudy", "foggy"))
    assert all(thing.named for i in range(500) for thing in sample_scene(2, i, world).things)


def test_every_correlation_names_a_possible_rate_and_both_sides():
    assert all(0 <= c.rate <= 1 and c.given and c.then for c in CORRELATIONS.values())


def test_boats_float_only_where_there_is_water_and_neon_is_always_night():
    for i in range(1000):
        scene = sample_scene(4, i)
        assert scene.city in WATER_CITIES or all(thing.kind != "boat" for thing in scene.things)
        assert scene.style != "neon" or scene.time == "night"


def test_animals_wear_garments_as_often_as_the_table_says_in_other_colors_than_their_fur():
    groups = [g for i in range(3000) for g in sample_scene(5, i).groups if KINDS[g.kind].dressable]
    dressed = [g for g in groups if g.garments]
    assert len(dressed) / len(groups) == pytest.approx(CORRELATIONS["pairs_dressed"].rate, abs=0.05)
    for group in dressed:
        colors = [group.color, *(garment.color for garment in group.garments)]
        assert len(set(colors)) == len(colors)


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
