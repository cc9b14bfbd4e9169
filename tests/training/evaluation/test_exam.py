"""The judge's exam: right answers and mistakes are counted where they belong, and only what it can answer."""

import numpy as np
import pytest
import torch

from ldm_pipeline.judge import Reading, Recogniser, RecogniserConfig
from tests.tiny import randomize
from training.claims import FIELD_INDEX, FIELDS, NOT_CLAIMED, encode_claims
from training.evaluation.exam import Exam, examine, marked
from training.evaluation.prompts import EXAM_SEED
from training.recipes import SMOKE
from training.scenes.claims import Claims, GarmentClaim, GroupClaim

CAT = GroupClaim(kind="cat", color="black", count=1, side="left", garments=(GarmentClaim("beret", "red"),))
DOG = GroupClaim(kind="dog", color="red", count=2, side="right")
SHOWN = [
    Claims(city="paris", weather="rainy", time="day", style="flat", things=(CAT,)),
    Claims(city="rome", weather="sunny", time="night", style="ink", things=(DOG,)),
    Claims(city="paris", weather="rainy", time="day", style="ink"),
]
STYLES = ["flat", "ink", "ink"]
TRUTH = np.stack([encode_claims(claims) for claims in SHOWN])


def exam(*changes: tuple[int, str, str], fields=FIELDS) -> Exam:
    """Of a judge that knows the truth, but for (picture, field, class)."""
    codes = torch.from_numpy(TRUTH).clamp(min=0).clone()
    for picture, field, name in changes:
        codes[picture, FIELD_INDEX[field]] = FIELDS[FIELD_INDEX[field]][1].index(name)
    names = [name for name, _ in FIELDS]
    classes = torch.stack([codes[:, names.index(name)] for name, _ in fields], dim=1)
    reading = Reading(fields=fields, classes=classes, confidence=torch.ones(classes.shape))
    return marked(reading, TRUTH, STYLES)


def test_who_knows_everything_is_right_in_everything_that_is_told():
    found = exam()
    asked = {name: right.asked for name, right in found.questions.items()}
    told = int((TRUTH != NOT_CLAIMED).sum())
    assert all(right.right == right.asked for right in found.questions.values())
    assert sum(asked.values()) == told and found.left_out == 0
    assert (asked["city"], asked["color"], asked["garment color"], asked["style"]) == (3, 2, 1, 3)
    assert {style: own["city"].asked for style, own in found.by_style.items()} == {"flat": 1, "ink": 2}
    assert "none is below it" in found.to_markdown()


def test_mistakes_are_counted_by_question_style_and_pair_of_classes():
    found = exam(
        (0, "city", "cairo"), (1, "dog.color", "blue"), (0, "cat.color", "blue"), (2, "cat.color", "green")
    )
    assert (found.questions["city"].right, found.questions["color"].right) == (2, 0)
    assert found.by_style["flat"]["city"].right == 0 and found.by_style["ink"]["city"].right == 2
    cities, colors = found.confusions["city"], found.confusions["color"]
    assert cities.counts[cities.classes.index("paris")][cities.classes.index("cairo")] == 1
    assert np.trace(np.array(cities.counts)) == 2 and np.sum(cities.counts) == 3
    # Dog's and cat's colors are one table; nobody asks for the color of a cat that is not there.
    assert np.sum(colors.counts) == 2
    for true in ("red", "black"):
        assert colors.counts[colors.classes.index(true)][colors.classes.index("blue")] == 1
    page = found.to_markdown()
    assert "below it: city, color" in page and "| city: true, then answered | paris |" in page


def test_counts_of_all_kinds_are_one_table_whatever_their_largest():
    found = exam((1, "dog.count", "4"))
    table = found.confusions["count"]
    assert table.classes == ("1", "2", "3", "4")
    assert table.counts == ((1, 0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 0), (0, 0, 0, 0))


def test_things_missed_and_things_imagined_are_told_by_kind():
    found = exam((1, "dog.present", "no"), (2, "bus.present", "yes"), (0, "cat.beret.present", "no"))
    dog, bus, beret = (found.detections[name] for name in ("dog", "bus", "cat.beret"))
    assert (dog.missed.right, dog.missed.asked, dog.imagined.right, dog.imagined.asked) == (1, 1, 0, 2)
    assert (bus.missed.asked, bus.imagined.right, bus.imagined.asked) == (0, 1, 3)
    assert (beret.missed.right, beret.missed.asked) == (1, 1)
    assert "present" not in found.confusions


def test_a_judge_is_only_asked_what_it_has_fields_and_classes_for():
    known = tuple(
        (name, tuple(one for one in classes if one != "paris"))
        for name, classes in FIELDS
        if "beret" not in name
    )
    changed = exam((1, "city", "london"), fields=known)
    # Class numbers moved with "paris" gone: London is number 0 of this judge, and of the truth Rome is left.
    assert changed.questions["city"].asked == 1
    assert changed.confusions["city"].classes == known[0][1]
    berets = [index for name, index in FIELD_INDEX.items() if "beret" in name]
    assert changed.left_out == 2 + int((TRUTH[:, berets] != NOT_CLAIMED).sum())
    assert not any("beret" in name for name in changed.detections)
    assert f"no class for them: {changed.left_out} answers" in changed.to_markdown()


@pytest.fixture(scope="module")
def judge() -> Recogniser:
    network = Recogniser(RecogniserConfig(widths=(8, 8), blocks=0, fields=FIELDS))
    randomize(network, 5)
    return network.eval()


def test_the_exam_shows_fresh_renders_of_its_own_stream(judge: Recogniser):
    found = examine(judge, SMOKE.judged_world, size=64, count=5)
    assert (found.renders, found.stream) == (5, EXAM_SEED)
    assert found.questions["city"].asked == found.questions["time"].asked == 5
    assert found.detections["dog"].missed.asked + found.detections["dog"].imagined.asked <= 5
    assert examine(judge, SMOKE.judged_world, size=64, count=5) == found
