"""Scores by guidance and by steps: every setting is really drawn, once, on prompts of their own."""

from typing import Any

import pytest

from ldm_pipeline.judge import Recogniser, RecogniserConfig
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from tests.tiny import randomize, write_folder
from training.claims import FIELDS
from training.evaluation import answers
from training.evaluation.answers import TASKS
from training.evaluation.curves import GUIDANCES, STEPS, draw_curves
from training.evaluation.prompts import (
    EXAM_SEED,
    LIKE_SEED,
    OTHER_SCENES,
    PROMPT_SEED,
    TUNING_SEED,
    UMBRELLA_SEED,
)
from training.evaluation.results import QUESTIONS
from training.evaluation.suites import SUITE_SEEDS
from training.recipes import SMOKE

pytestmark = pytest.mark.filterwarnings("ignore:this model was never trained on the words")


def test_every_setting_is_drawn_once_and_judged(tmp_path, monkeypatch: pytest.MonkeyPatch):
    judge = Recogniser(RecogniserConfig(widths=(8, 8), blocks=0, fields=FIELDS)).eval()
    randomize(judge, 5)
    pipe = LatentDiffusionPipeline.from_pretrained(write_folder(tmp_path))
    calls: list[tuple[float, int]] = []
    plain = type(pipe).__call__

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        result: Any = plain(self, *given, **named)
        calls.append((result.request.guidance_scale, result.request.num_inference_steps))
        return result

    monkeypatch.setattr(type(pipe), "__call__", counted)
    found = draw_curves(
        pipe, judge, SMOKE.world, size=64, guidances=(1.0, 4.0), steps=(2, 4), prompts=2, seeds=2
    )
    # The folder's own are guidance 4 and 4 steps; the first call warms up.
    assert calls == [(4.0, 4), (1.0, 4), (4.0, 4), (4.0, 2)]
    assert [(one.guidance, one.steps) for one in found.guidance] == [(1.0, 4), (4.0, 4)]
    assert [(one.guidance, one.steps) for one in found.steps] == [(4.0, 2), (4.0, 4)]
    assert found.guidance[1] is found.steps[1]
    for one in (*found.guidance, *found.steps):
        assert {name: share.asked for name, share in one.shares.items()} == dict.fromkeys(TASKS, 4)
        assert one.seconds_per_picture > 0
    page = found.to_markdown(QUESTIONS)
    assert "| guidance (4 steps) | city |" in page and "| steps (guidance 4) | city |" in page


def test_settings_change_the_pictures(tmp_path):
    pipe = LatentDiffusionPipeline.from_pretrained(write_folder(tmp_path))
    usual, strong, short = (
        answers.draw(pipe, ["a red car"], [1], guidance=guidance, steps=steps, size=64, title="")
        for guidance, steps in ((None, None), (12.0, None), (None, 2))
    )
    assert (usual != strong).any() and (usual != short).any()


def test_the_usual_settings_are_drawn_and_all_streams_of_scenes_are_apart():
    assert GUIDANCES == (1, 2, 4, 6, 8, 10) and STEPS == (4, 6, 8, 10, 14, 20, 30)
    scored = [PROMPT_SEED, UMBRELLA_SEED, *SUITE_SEEDS.values()]
    streams = [2, TUNING_SEED, EXAM_SEED, LIKE_SEED, *scored, *(OTHER_SCENES + one for one in scored)]
    assert len(set(streams)) == len(streams) and all(2 <= stream < 100 for stream in streams)
