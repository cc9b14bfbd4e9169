"""An evaluation from a tiny random pipeline and judge to its files; it expects no skill of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_pipeline.judge import Reading, Recogniser, RecogniserConfig
from tests.tiny import randomize, write_folder
from training.claims import FIELDS, encode_claims
from training.evaluation.answers import TASKS, confirmed
from training.evaluation.report import evaluate_folder, machine
from training.evaluation.results import COLUMNS, QUESTIONS, Report
from training.evaluation.suites import SUITES
from training.scenes.claims import Claims, GarmentClaim, GroupClaim
from training.scenes.world import FLAT_WORLD

pytestmark = pytest.mark.filterwarnings("ignore:this model was never trained on the words")

WORLD = replace(FLAT_WORLD, cities=("paris", "cairo"), kinds=("umbrella", "dog"), colors=("red", "blue"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("evaluation")
    judge = Recogniser(RecogniserConfig(widths=(8, 8), blocks=0, fields=FIELDS))
    randomize(judge, 5)
    judge.save(root / "judge")
    return write_folder(root / "model"), root / "judge"


def evaluated(folders: tuple[Path, Path], out: Path, *, pairs: int = 2) -> Report:
    model, judge = folders
    return evaluate_folder(
        model, world=WORLD, size=64, judge_folder=judge, out=out, recipe="tiny", prompts=2, pairs=pairs,
        tasks=2, seeds_per_prompt=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    out = tmp_path_factory.mktemp("report")
    return evaluated(folders, out), out


def test_every_column_scores_every_question_of_every_picture(done):
    report, _ = done
    assert tuple(report.columns) == tuple(COLUMNS)
    assert tuple(QUESTIONS) == TASKS
    pictures = {"renders": 2, "round_trip": 2, "model": 4, "shuffled": 4}
    for column, scores in report.columns.items():
        assert {task: score.asked for task, score in scores.items()} == dict.fromkeys(TASKS, pictures[column])


def test_the_json_holds_counts_intervals_and_what_repeats_them(done):
    report, out = done
    told = json.loads((out / "report.json").read_text())
    assert told["format"] == 2
    assert (told["recipe"], told["prompts"], told["size"]) == ("tiny", 2, 64)
    assert told["machine"] == machine()
    assert len(told["model_hash"]) == len(told["judge_hash"]) == 64
    assert told["settings"]["num_inference_steps"] == 4
    city = told["columns"]["model"]["city"]
    assert set(city) == {"right", "asked", "design_effect", "rate", "interval"}
    assert city["interval"]["low"] <= city["rate"] <= city["interval"]["high"]
    assert [case["seeds"] for case in told["cases"]] == [[0, 1], [1000, 1001]]
    assert sum(sum(case["right"]["city"]) for case in told["cases"]) == city["right"]
    assert told["umbrella"]["negative"]["umbrella"].keys() >= {
        "both",
        "only_before",
        "change_interval",
        "p_value",
    }
    assert told["umbrella"]["sham"]["collateral"].keys() == {"city", "weather", "time", "present"}
    assert len(told["umbrella_cases"]) == told["umbrella"]["pairs"] == 2
    assert str(out.parent) not in json.dumps(told)
    assert report.to_json() == (out / "report.json").read_text()


def test_the_page_holds_the_table_with_four_columns(done):
    report, out = done
    page = (out / "report.md").read_text()
    assert report.score_table() in page
    assert "| asked | real renders | VAE round trip | model | shuffled captions |" in page
    assert all(f"\n| {words} |" in page for words in QUESTIONS.values())
    assert report.umbrella_table() in page


@pytest.mark.parametrize("name", ["samples", "renders", "umbrella_pairs"])
def test_sheets_are_written_as_png_and_webp(done, name: str):
    _, out = done
    with Image.open(out / f"{name}.png") as png, Image.open(out / f"{name}.webp") as webp:
        assert png.size == webp.size
        assert png.width > 2 * 64


def test_the_scores_are_a_function_of_model_judge_and_settings(done, folders, tmp_path):
    first, _ = done
    again = evaluated(folders, tmp_path, pairs=0)
    assert again.columns == first.columns
    assert again.cases == first.cases
    assert again.umbrella is None
    assert not (tmp_path / "umbrella_pairs.png").exists()


def test_a_folder_without_a_pipeline_is_refused_before_anything_is_drawn(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model_index\.json of a pipeline there"):
        evaluated((tmp_path / "nothing", folders[1]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": 1}, "prompts=1: must be between 2"),
        ({"pairs": -1}, "pairs=-1: must be between 0"),
        ({"seeds_per_prompt": 0}, "seeds_per_prompt=0: must be between 1"),
    ],
)
def test_settings_out_of_range_are_refused(folders, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate_folder(folders[0], world=WORLD, size=64, judge_folder=folders[1], out=tmp_path, **settings)


def test_a_judge_that_reads_the_truth_confirms_everything_and_only_what_is_claimed():
    dog = GroupClaim(kind="dog", color="red", count=2, side="left")
    truth = Claims(city="paris", weather="rainy", time="day", things=(dog,))
    codes = torch.from_numpy(np.stack([encode_claims(truth)] * 3)).clamp(min=0)
    reading = Reading(fields=FIELDS, classes=codes, confidence=torch.ones_like(codes, dtype=torch.float32))
    wrong = replace(truth, city="london", things=(replace(dog, count=3),))
    less = replace(truth, things=())
    first, second, third = confirmed(reading, [truth, wrong, less])
    assert first == dict.fromkeys(TASKS, True)
    assert {task for task, right in second.items() if not right} == {"city", "count", "all"}
    assert third == dict.fromkeys(("city", "weather", "time", "all"), True)


def test_of_two_things_and_a_garment_every_one_must_be_right():
    cat = GroupClaim(kind="cat", color="black", garments=(GarmentClaim("beret", "red"),))
    truth = Claims(things=(cat, GroupClaim(kind="car", color="blue")))
    codes = torch.from_numpy(np.stack([encode_claims(truth)] * 4)).clamp(min=0)
    reading = Reading(fields=FIELDS, classes=codes, confidence=torch.ones_like(codes, dtype=torch.float32))
    swapped = Claims(things=(replace(cat, color="blue"), GroupClaim(kind="car", color="black")))
    first_wrong = Claims(things=(replace(cat, color="white"), truth.things[1]))
    other_beret = Claims(things=(replace(cat, garments=(GarmentClaim("beret", "green"),)),))
    right = confirmed(reading, [truth, swapped, first_wrong, other_beret])
    questions = ("present", "color", "garment", "garment color", "all")
    assert right[0] == dict.fromkeys(questions, True)
    assert [row["color"] for row in right[1:]] == [False, False, True]
    assert [row["garment color"] for row in right[1:3]] == [True, True] and not right[3]["garment color"]
    assert not any(row["all"] for row in right[1:])


def test_the_tasks_of_the_world_are_scored_and_the_others_left_out(done):
    report, out = done
    assert {"city", "light", "thing", "color", "count", "side"} <= set(report.tasks) < set(SUITES)
    assert "held_out" not in report.tasks
    pictures = {"renders": 2, "round_trip": 2, "model": 4, "shuffled": 4}
    for columns in report.tasks.values():
        assert {name: share.asked for name, share in columns.items()} == pictures
    assert report.task_table() in (out / "report.md").read_text()
    assert len(report.task_cases) == 2 * len(report.tasks)
    seeds = [seed for case in report.task_cases for seed in case["seeds"]]
    assert len(set(seeds)) == len(seeds) == 4 * len(report.tasks)
    assert (out / "tasks.webp").is_file()
