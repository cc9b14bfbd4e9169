"""The bundled recogniser answers questions about rendered scenes, and refuses what it does not read."""

import pytest
from PIL import Image

from ldm_pipeline.judges import CITIES_WITH_WATER, Judge, RecogniserJudge, SceneJudge
from training.scenes.render import render
from training.scenes.scene import sample_scene
from training.scenes.world import WATER_CITIES, World


@pytest.fixture(scope="module")
def judge() -> RecogniserJudge:
    return RecogniserJudge.load()


@pytest.fixture(scope="module")
def scenes():
    world = World(cities=("paris", "rome", "cairo"), weathers=("rainy", "sunny"), styles=("flat",))
    return [sample_scene(9, index, world) for index in range(24)]


def test_it_is_a_judge_that_reads_scenes_and_says_who_it_is(judge: RecogniserJudge):
    assert isinstance(judge, Judge) and isinstance(judge, SceneJudge)
    assert judge.facts()["judge"] == "recogniser" and len(judge.facts()["weights"]) == 64


def test_it_answers_what_rendered_scenes_show_at_any_size(judge: RecogniserJudge, scenes):
    pictures = [Image.fromarray(render(scene, (96, 128, 256)[i % 3]).image) for i, scene in enumerate(scenes)]
    rainy = judge.asks(pictures, "rainy")
    right = [said == (scene.weather == "rainy") for said, scene in zip(rainy, scenes, strict=True)]
    assert all(right)
    assert judge.asks(pictures, "weather=rainy") == rainy
    cities = [read["city"] == scene.city for read, scene in zip(judge.reads(pictures), scenes, strict=True)]
    assert sum(cities) >= 23
    alone = [judge.asks([picture], "umbrella")[0] for picture in pictures]
    assert judge.asks(pictures, "umbrella") == alone and 0 < sum(alone) < 24


def test_a_color_is_asked_of_a_thing_that_is_there(judge: RecogniserJudge):
    assert judge.asked_fields("umbrella") == {"umbrella.present": "yes"}
    assert judge.asked_fields("Dog.color=RED") == {"dog.present": "yes", "dog.color": "red"}
    assert judge.asked_fields("dog.beret.color=red") == {
        "dog.present": "yes", "dog.beret.present": "yes", "dog.beret.color": "red",
    }  # fmt: skip
    assert judge.asked_fields("umbrella=no") == {"umbrella.present": "no"}
    assert judge.asked_fields("new  york") == {"city": "new york"}


@pytest.mark.parametrize(
    ("question", "near"),
    [
        ("umbrela", "'umbrella'"),
        ("weather=rain", "'weather=rainy'"),
        ("wether=rainy", "'weather=rainy'"),
        ("dog.colour=red", "'dog.color=red'"),
        ("red", "nearest are"),
        ("", "nearest are"),
        ("city=", "nearest are"),
    ],
)
def test_an_unknown_question_is_refused_with_the_nearest_known(
    judge: RecogniserJudge, question: str, near: str
):
    with pytest.raises(ValueError, match="is nothing that the judge reads") as error:
        judge.check(question)
    assert near in str(error.value) and "\n" not in str(error.value)


def test_every_question_that_it_offers_is_answered(judge: RecogniserJudge):
    for question in judge.questions:
        judge.check(question)


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("Paris on a rainy evening", {"city": "paris", "weather": "rainy"}),
        ("two red dogs, and a cat in New York", {
            "city": "new york", "dog.present": "yes", "dog.color": "red", "cat.present": "yes"}),
        ("London without a blue bus, no cars", {"city": "london"}),
        ("Paris or Rome, scattered", {}),
    ],
)  # fmt: skip
def test_it_reads_what_a_prompts_words_name(judge: RecogniserJudge, prompt: str, named: dict):
    assert judge.named(prompt) == named


def test_what_is_asked_is_no_collateral(judge: RecogniserJudge):
    fields = judge.others("dog.color=red")
    assert "city" in fields and "cat.present" in fields and "cat.color" in fields
    assert not [field for field in fields if field.startswith("dog") or field.endswith("side")]
    assert "weather" not in judge.others("rainy")


def test_the_sham_word_is_named_nowhere_and_no_boat_where_there_is_water(judge: RecogniserJudge):
    assert judge.sham_word(["Paris on a rainy day", "umbrella"]) == "boat"
    assert judge.sham_word(["Venice on a rainy day", "umbrella"]) not in ("boat", "umbrella", None)
    assert judge.sham_word(["Paris, a boat", "a bird"]) not in ("boat", "bird", None)
    assert judge.sham_word([", ".join(judge.kinds)]) is None
    assert set(CITIES_WITH_WATER) == WATER_CITIES
