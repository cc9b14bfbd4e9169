"""Codes of parts: one for each subject with each color, and what a rendering marks with them."""

import numpy as np

from training.claims import FIELD_INDEX
from training.scenes.parts import CODES, NOTHING, SUBJECTS, has_color, is_garment, part_code
from training.scenes.render import render
from training.scenes.scene import sample_scene
from training.scenes.world import COLORS, FULL_WORLD


def test_codes_are_distinct_and_fit_into_a_byte():
    codes = [part_code(subject, color) for subject in SUBJECTS for color in (None, *COLORS)]
    assert sorted(codes) == list(range(1, CODES)) and CODES <= 256 and NOTHING == 0


def test_subjects_are_those_of_the_judges_fields():
    assert {name.rpartition(".")[0] for name in FIELD_INDEX if "." in name} == set(SUBJECTS)


def test_what_has_a_color_and_what_is_worn():
    for subject in SUBJECTS:
        assert not has_color(part_code(subject, None)) and has_color(part_code(subject, "black"))
        assert is_garment(part_code(subject, "red")) == ("." in subject)
    assert not has_color(NOTHING) and not is_garment(NOTHING)


def test_a_rendering_marks_the_visible_pixels_of_each_thing_and_its_colored_parts():
    dressed = 0
    for index in range(40):
        scene = sample_scene(3, index, FULL_WORLD)
        rendering = render(scene, 96)
        marked = np.zeros((96, 96), bool)
        for thing, mask, told in zip(scene.things, rendering.masks, rendering.visibility, strict=True):
            subjects = {thing.kind: thing.color} | {f"{thing.kind}.{g.kind}": g.color for g in thing.garments}
            allowed = {part_code(s, c) for s, color in subjects.items() for c in (None, color)}
            found = set(np.unique(rendering.parts[mask]).tolist())
            assert found <= allowed
            if told.color_seen:
                assert part_code(thing.kind, thing.color) in found
            for garment, seen in zip(thing.garments, told.garments_seen, strict=True):
                if seen:
                    dressed += 1
                    assert part_code(f"{thing.kind}.{garment.kind}", garment.color) in found
            marked |= mask
        assert np.array_equal(marked, rendering.parts != NOTHING)
    assert dressed > 3
