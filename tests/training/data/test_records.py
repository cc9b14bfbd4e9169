"""The record's code says what the picture shows, and leaves open what it hides."""

from dataclasses import replace

import numpy as np

from training.claims import ABSENT, FIELD_INDEX, FIELDS, NOT_CLAIMED, PRESENT, decode_claims
from training.data.records import record_codes
from training.scenes.claims import Sight
from training.scenes.scene import Scene, sample_scene
from training.scenes.world import FULL_WORLD


def scene_with_garment() -> Scene:
    scenes = (sample_scene(1, i, FULL_WORLD) for i in range(1000))
    return next(s for s in scenes if any(group.garments for group in s.groups))


def test_every_scene_has_a_code_whose_classes_exist():
    for index in range(300):
        scene = sample_scene(2, index, FULL_WORLD)
        codes = record_codes(scene, Sight.everything(scene))
        assert all(code < len(classes) for code, (_, classes) in zip(codes, FIELDS, strict=True))
        read = decode_claims(codes)
        assert (read["city"], read["weather"], read["time"]) == (scene.city, scene.weather, scene.time)
        for group in scene.groups:
            assert read[f"{group.kind}.color"] == group.color
            assert read[f"{group.kind}.count"] == str(group.count)
        kinds = {group.kind for group in scene.groups}
        present = {
            name.split(".")[0] for name, value in read.items() if name.count(".") == 1 and value == "yes"
        }
        assert present == kinds


def test_a_hidden_thing_leaves_its_fields_open():
    scene = scene_with_garment()
    seen = Sight.everything(scene)
    nothing = replace(seen, things_seen=tuple(False for _ in seen.things_seen), weather_seen=False)
    codes = record_codes(scene, nothing)
    for group in scene.groups:
        for field in ("present", "color", "count", "side"):
            assert codes[FIELD_INDEX[f"{group.kind}.{field}"]] == NOT_CLAIMED
    assert codes[FIELD_INDEX["weather"]] == NOT_CLAIMED
    absent = {kind for kind in (n.split(".")[0] for n in FIELD_INDEX if n.endswith(".present"))}
    absent -= {group.kind for group in scene.groups}
    assert all(codes[FIELD_INDEX[f"{kind}.present"]] == ABSENT for kind in absent)


def test_a_pale_color_and_a_hidden_garment_are_left_open_alone():
    scene = scene_with_garment()
    group = next(group for group in scene.groups if group.garments)
    seen = Sight.everything(scene)
    pale = replace(
        seen,
        colors_seen=tuple(False for _ in seen.colors_seen),
        garments_seen=tuple(tuple(False for _ in flags) for flags in seen.garments_seen),
    )
    codes = record_codes(scene, pale)
    assert codes[FIELD_INDEX[f"{group.kind}.present"]] == PRESENT
    assert codes[FIELD_INDEX[f"{group.kind}.color"]] == NOT_CLAIMED
    assert codes[FIELD_INDEX[f"{group.kind}.{group.garments[0].kind}.present"]] == NOT_CLAIMED
    full = record_codes(scene, seen)
    assert full[FIELD_INDEX[f"{group.kind}.{group.garments[0].kind}.present"]] == PRESENT
    assert np.count_nonzero(full != codes) >= 3
