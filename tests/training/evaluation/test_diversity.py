"""The seeds of one prompt: a collapsed sampler has none of the variety of renders; it knows no sampler."""

import numpy as np
import pytest

from ldm_pipeline.judge import Recogniser, RecogniserConfig
from tests.tiny import randomize
from training.claims import FIELDS
from training.evaluation import diversity
from training.evaluation.diversity import measure_diversity, renders_with, spread
from training.evaluation.prompts import BenchPrompt, fresh_prompts
from training.recipes import SMOKE
from training.scenes.claims import Claims, GroupClaim

SIZE, SEEDS = 64, 3


@pytest.fixture(scope="module")
def judge() -> Recogniser:
    network = Recogniser(RecogniserConfig(widths=(8, 8), blocks=0, fields=FIELDS))
    randomize(network, 5)
    return network.eval()


@pytest.fixture(scope="module")
def bench() -> list[BenchPrompt]:
    return fresh_prompts(SMOKE.world, size=SIZE, count=4)


def measured(judge: Recogniser, bench: list[BenchPrompt], drawn: np.ndarray):
    return measure_diversity(judge, bench, drawn, world=SMOKE.world, size=SIZE)


def test_a_collapsed_sampler_shows_no_diversity(judge: Recogniser, bench: list[BenchPrompt]):
    collapsed = np.repeat(np.stack([prompt.image for prompt in bench]), SEEDS, axis=0)
    found = measured(judge, bench, collapsed)
    assert found is not None and found.prompts == len(bench) and found.seeds == SEEDS
    assert found.model.pixels.mean == 0.0 and found.model.features.mean == pytest.approx(0.0, abs=1e-6)
    assert found.ratios["pixels"] == 0.0
    alike, others = found.renders, found.others
    assert alike.pixels.mean and alike.features.mean and others.pixels.mean
    assert others.pixels.mean > alike.pixels.mean > 5 and alike.features.mean > 0
    assert "vary 0 % in features and 0 % in pixels as much" in found.to_markdown()


def test_a_sampler_that_draws_real_scenes_is_as_diverse_as_they_are(judge, bench):
    real = [
        renders_with(prompt.claims, SMOKE.world, number=100 + i, size=SIZE) for i, prompt in enumerate(bench)
    ]
    found = measured(judge, bench, np.concatenate([one for one in real if one is not None]))
    assert found is not None and found.ratios["pixels"] is not None and 0.5 < found.ratios["pixels"] < 2


def test_one_seed_or_claims_too_rare_leave_nothing_to_compare(judge, bench, monkeypatch):
    monkeypatch.setattr(diversity, "SCENES_PER_PROMPT", 200)
    assert measured(judge, bench, np.stack([prompt.image for prompt in bench])) is None
    impossible = Claims(
        city="paris", weather="sunny", time="day", things=(GroupClaim(kind="boat", color="red"),)
    )
    assert renders_with(impossible, SMOKE.world, number=0, size=SIZE) is None


def test_a_spread_is_the_mean_distance_of_two_pictures(judge: Recogniser):
    black, grey = np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 64, 64, 3), 30, np.uint8)
    found = spread(judge, [np.concatenate([black, black, grey])])
    assert found.pixels.mean == pytest.approx(20.0) and found.pixels.interval is None
    assert found.features.mean is not None and found.features.mean > 0
