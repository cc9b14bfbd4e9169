"""An evaluation from a tiny random pipeline and judge to its files; it expects no skill of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_pipeline.devices import checked_device, fastest_dtype
from ldm_pipeline.folder import file_hash
from ldm_pipeline.judge import Reading, Recogniser, RecogniserConfig
from ldm_pipeline.statistics import Paired, Share
from tests.tiny import randomize, write_folder, write_lora
from training.claims import FIELDS, encode_claims
from training.data.postcards import PostcardConfig
from training.evaluation.answers import TASKS, confirmed
from training.evaluation.checks import Checks
from training.evaluation.report import evaluate_folder, machine
from training.evaluation.results import COLUMNS, QUESTIONS, SUITE_WORDS, TARGETS, Report
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


TRAINING = PostcardConfig(world=WORLD, seed=1, count=4, size=64)


def evaluated(
    folders: tuple[Path, Path], out: Path, *, pairs: int = 2, checks: Checks | None = None
) -> Report:
    model, judge = folders
    return evaluate_folder(
        model, world=WORLD, size=64, judge_folder=judge, out=out, recipe="tiny", prompts=2, pairs=pairs,
        tasks=2, seeds_per_prompt=2, checks=checks,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    out = tmp_path_factory.mktemp("report")
    checks = Checks(
        second_judge=folders[1],
        exam=3,
        judged_world=replace(WORLD, styles=("flat", "ink")),
        distances=50,
        copying=3,
        training=(TRAINING,),
        held_out=replace(TRAINING, seed=2),
        diversity=2,
    )
    return evaluated(folders, out, checks=checks), out


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
    assert told["format"] == 3
    assert (told["recipe"], told["prompts"], told["size"]) == ("tiny", 2, 64)
    assert told["machine"] == machine()
    assert len(told["model_hash"]) == len(told["judge_hash"]) == 64
    assert told["settings"]["num_inference_steps"] == 4
    assert told["settings"]["dtype"] == "float32" and "--dtype" not in told["command"]
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
    assert again.second_judge is again.exam is again.distances is again.copying is again.diversity is None
    assert "No second judge: every score above is one network's word." in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "umbrella_pairs.png").exists()


def test_every_check_stands_in_the_json_and_on_the_page(done):
    report, out = done
    told, page = json.loads((out / "report.json").read_text()), (out / "report.md").read_text()
    assert told["command"].endswith("--tasks 2 --exam 3 --distances 50 --copying 3 --diversity 2")
    assert told["second_judge_hash"] == told["judge_hash"]
    of_all = told["second_judge"]["questions"]["all"]
    assert of_all["verdicts"]["right"] == of_all["answers"]["right"] == 0, "a judge beside itself"
    assert set(told["second_judge"]["tasks"]) == set(report.tasks)
    assert told["exam"]["renders"] == 3 and set(told["exam"]["confusions"]) >= {"city", "weather", "color"}
    assert told["distances"]["pictures"] <= 2 + 2 * len(report.tasks)
    assert set(told["distances"]["kid"]) == {"model", "round_trip", "others"}
    assert (told["copying"]["searched"], told["copying"]["training"]) == (3, 4)
    assert told["copying"]["pictures"] == told["copying"]["nearer"]["asked"] == 2 + 2 * len(report.tasks)
    assert told["diversity"]["seeds"] == 2 and told["diversity"]["model"]["pixels"]["mean"] > 0
    assert told["curves"] is None
    for title in (
        "Second judge",
        "The judge's own exam",
        "Distance from real renders",
        "Copying",
        "Diversity",
    ):
        assert page.count(f"\n## {title}\n") == 1
    assert "## Guidance and steps" not in page
    assert f"Judge {report.judge_hash[:12]}, the first once more." in page
    assert "another network" in replace(report, second_judge_hash="f" * 64).to_markdown()


def test_the_sizes_are_those_of_the_weights(done, folders):
    report, _ = done
    model, judge = folders
    files = [file for file in model.rglob("*") if file.is_file() and file.parent != model]
    assert report.megabytes["model"] == round(sum(file.stat().st_size for file in files) / 1e6, 3)
    assert report.megabytes["judge"] == report.megabytes["second judge"] > 0
    assert f"model {report.megabytes['model']:.2f} MB" in report.to_markdown()


def test_the_table_for_the_readme_sets_every_task_beside_its_target(done):
    report, _ = done
    lines = report.readme_table().splitlines()
    assert lines[0] == "| asked | real renders | VAE round trip | model | shuffled captions | target |"
    for task in report.tasks:
        (line,) = (line for line in lines if line.startswith(f"| {SUITE_WORDS[task]} |"))
        assert f"| {100 * TARGETS[task]:.0f}, not met |" in line, "random weights meet none"
    perfect = Share(4, 4)
    tasks = {name: dict.fromkeys(COLUMNS, perfect) for name in SUITES}
    change = replace(
        report.umbrella.negative, umbrella=Paired(1, 9, 0, 0), collateral={"city": Paired(9, 1, 0, 0)}
    )
    met = replace(report, tasks=tasks, umbrella=replace(report.umbrella, negative=change)).readme_table()
    assert met.count(", met |") == len(TARGETS) + 1 and met.count(", not met |") == 1
    assert (
        "its rate falls by | - | - | 90.0" in met
        and "(city) | - | - | 10.0 | - | at most 3, not met |" in met
    )
    assert met.splitlines()[-3].endswith("| - |"), "no target for pairs never seen"
    unchanged = replace(change, collateral={"city": Paired(10, 0, 0, 0)})
    same = replace(report, umbrella=replace(report.umbrella, negative=unchanged)).readme_table()
    assert "(city) | - | - | 0.0 | - | at most 3, met |" in same, "nothing was lost, and no minus sign"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exam": -1}, "exam=-1: must be 0, which leaves it out, or at least 1"),
        ({"distances": 2}, "distances=2: must be 0, which leaves it out, or at least 3"),
        ({"diversity": 1}, "diversity=1: must be 0"),
        ({"copying": 5}, "copying=5: needs training and held_out"),
    ],
)
def test_checks_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Checks(judged_world=WORLD, **settings)


def test_a_judge_that_lacks_a_question_is_refused_before_anything_is_drawn(folders, tmp_path):
    fields = tuple(field for field in FIELDS if field[0] != "dog.color")
    judge = Recogniser(RecogniserConfig(widths=(8, 8), blocks=0, fields=fields))
    judge.save(tmp_path / "judge")
    with pytest.raises(ValueError, match=r"judge: does not answer dog\.color; train one"):
        evaluated((folders[0], tmp_path / "judge"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_pipeline_is_refused_before_anything_is_drawn(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model_index\.json of a pipeline there"):
        evaluated((tmp_path / "nothing", folders[1]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_it_computes_in_the_fastest_number_type_on_request(folders, tmp_path):
    model, judge = folders
    report = evaluate_folder(
        model, world=WORLD, size=64, judge_folder=judge, out=tmp_path, prompts=2, pairs=0, tasks=0,
        seeds_per_prompt=1, dtype="auto",
    )  # fmt: skip
    fastest = str(fastest_dtype(checked_device(None))).removeprefix("torch.")
    assert report.settings["dtype"] == fastest and "--dtype auto" in report.command


def test_it_draws_with_a_lora_and_another_number_of_steps_on_request(folders, tmp_path):
    model, judge = folders
    lora = write_lora(tmp_path / "lora")
    drawn = {}
    for name, settings in (("own", {}), ("other", {"lora": lora, "steps": 2})):
        report = evaluate_folder(
            model, world=WORLD, size=64, judge_folder=judge, out=tmp_path / name, prompts=2, pairs=0, tasks=0,
            seeds_per_prompt=1, **settings,
        )  # fmt: skip
        drawn[name] = (tmp_path / name / "samples.png").read_bytes()
    assert report.settings["num_inference_steps"] == 2 and report.settings["lora"] == file_hash(lora)
    assert f"--lora {lora.name} --num-inference-steps 2" in report.command
    assert drawn["own"] != drawn["other"]


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
