"""The recogniser answers every field, and comes back from its file."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ldm_pipeline.judge import Recogniser, RecogniserConfig

FIELDS = (
    ("city", ("paris", "rome", "cairo")),
    ("dog.present", ("no", "yes")),
    ("cat.present", ("no", "yes")),
    ("dog.color", ("red", "blue", "black", "white")),
    ("dog.count", ("1", "2", "3", "4")),
    ("cat.count", ("1", "2", "3", "4")),
)
PICTURES = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


CONFIGS = {
    "last stage": RecogniserConfig(widths=(8, 16), blocks=1, fields=FIELDS),
    "merged": RecogniserConfig(widths=(8, 16, 24), blocks=1, fields=FIELDS, merged=16, decoder_layers=2),
    "points": RecogniserConfig(
        widths=(8, 16, 24), blocks=1, fields=FIELDS, merged=16, decoder_layers=2, points=True
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def recogniser(request: pytest.FixtureRequest) -> Recogniser:
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(1).get_state())
        return Recogniser(CONFIGS[request.param]).eval()


def test_it_answers_every_field_of_every_picture(recogniser: Recogniser):
    assert [tuple(answer.shape) for answer in recogniser(PICTURES)] == [
        (2, len(classes)) for _, classes in FIELDS
    ]
    reading = recogniser.read(PICTURES)
    assert reading.classes.shape == reading.confidence.shape == (2, 6)
    assert ((reading.confidence > 0) & (reading.confidence <= 1)).all()
    best = recogniser(PICTURES)[3].argmax(dim=1).tolist()
    assert reading.of("dog.color") == [FIELDS[3][1][i] for i in best]


def test_each_stage_halves_the_picture(recogniser: Recogniser):
    stages = [(8, 16, 24), (16, 8, 12), (24, 4, 6)][: len(recogniser.config.widths)]
    assert [tuple(f.shape[1:]) for f in recogniser.features(PICTURES)] == stages


def test_the_map_is_a_quarter_of_the_picture_in_size(recogniser: Recogniser):
    assert recogniser.map(PICTURES).shape == (2, 16, 8, 12)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_merged_map_depends_on_fine_stages_and_on_coarse_ones(stage: int):
    recogniser = Recogniser(CONFIGS["merged"])
    recogniser.map(PICTURES)[0, :, 2, 3].square().sum().backward()
    lateral = recogniser.get_parameter(f"laterals.{stage - 1}.weight").grad
    assert lateral is not None and lateral.abs().sum() > 0


def test_what_it_points_at_counts_and_only_for_the_kind_that_is_pointed_at():
    recogniser = Recogniser(CONFIGS["points"]).eval()
    assert recogniser.counted == ["cat", "dog"]
    seen = torch.zeros(1, 16, 8, 12)
    with torch.no_grad():
        recogniser.points.weight.zero_()
        recogniser.points.weight[2, 0] = 40.0  # the first feature points at a dog
        recogniser.get_parameter("points.bias").copy_(torch.tensor([20.0, 0, 0]))
    for number in range(5):
        seen[0, 0, 0, :number] = 1
        cat, dog = (recogniser._numbers(seen)[0, recogniser.subjects.index(name)] for name in ("cat", "dog"))
        assert dog.argmax() == number and dog[number] > 0.99 and cat.argmax() == 0
    scene = recogniser._numbers(seen)[0, recogniser.subjects.index("scene")]
    assert not scene.any()  # nobody counts scenes
    with pytest.raises(ValueError, match="points=True: needs a merged map"):
        RecogniserConfig(widths=(8, 16), blocks=1, fields=FIELDS, points=True)


def test_pictures_are_read_at_the_size_that_it_knows():
    recogniser = Recogniser(replace(CONFIGS["points"], size=32)).eval()
    small = PICTURES[:, :, :, :32]
    large = torch.nn.functional.interpolate(small, scale_factor=4, mode="nearest")
    assert recogniser.at_own_size(large).shape == small.shape
    assert recogniser.at_own_size(PICTURES.mT).shape == (2, 3, 48, 32), "the shorter side is what counts"
    assert torch.equal(recogniser.at_own_size(PICTURES), PICTURES)
    wide = torch.nn.functional.interpolate(PICTURES, scale_factor=2, mode="bilinear")
    assert recogniser.at_own_size(wide).shape == PICTURES.shape
    own = recogniser.read(recogniser.at_own_size(large))
    assert torch.equal(recogniser.read(large).confidence, own.confidence)
    assert recogniser.embedding(large).shape == recogniser.embedding(small).shape
    as_it_is = Recogniser(CONFIGS["points"])
    assert as_it_is.at_own_size(large) is large


def test_an_untrained_network_points_at_next_to_nothing():
    recogniser = Recogniser(CONFIGS["points"])
    assert (recogniser._numbers(recogniser.map(PICTURES))[:, :2].argmax(dim=2) == 0).all()


def test_a_picture_is_read_alike_alone_and_in_a_batch(recogniser: Recogniser):
    alone = recogniser.embedding(PICTURES[1:])
    torch.testing.assert_close(recogniser.embedding(PICTURES)[1:], alone, atol=1e-5, rtol=1e-4)


def test_it_comes_back_from_its_file_within_half_precision(recogniser: Recogniser, tmp_path: Path):
    recogniser.save(tmp_path / "judge")
    before = torch.random.get_rng_state()
    opened = Recogniser.load(tmp_path / "judge")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert opened.config == recogniser.config and not opened.training
    for ours, theirs in zip(recogniser(PICTURES), opened(PICTURES), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)


def test_an_unknown_field_or_folder_is_refused(recogniser: Recogniser, tmp_path: Path):
    with pytest.raises(ValueError, match="field='sky': the judge has no such field; choose from city"):
        recogniser.read(PICTURES).of("sky")
    with pytest.raises(FileNotFoundError, match=r"no config\.json of a recogniser"):
        Recogniser.load(tmp_path)
