"""An audit from a tiny random pipeline and judge to its files; it expects no skill of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm_pipeline.judge import Recogniser, RecogniserConfig
from tests.tiny import randomize, write_folder
from training.__main__ import main
from training.claims import FIELDS
from training.evaluation.audit import FIRST_SEED, RENDERS_PER_PROMPT, audit_folder, read_facts
from training.evaluation.audit_report import AuditReport
from training.evaluation.audit_table import NOT_READABLE
from training.scenes.world import CORRELATIONS, FLAT_WORLD

pytestmark = [
    pytest.mark.filterwarnings("ignore:this model was never trained on the words"),
    pytest.mark.filterwarnings("ignore:the prompt is too long"),
]
"""The tiny tokenizer knows letters and few words, so that long captions are cut."""

WORLD = replace(FLAT_WORLD, cities=("rome", "cairo"), weathers=("sunny", "rainy"), times=("day",),
                kinds=("umbrella", "dog"), colors=("red", "blue"))  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("audit")
    judge = Recogniser(RecogniserConfig(widths=(8, 8), blocks=0, fields=FIELDS))
    randomize(judge, 5)
    judge.save(root / "judge")
    return write_folder(root / "model"), root / "judge"


def audited(folders: tuple[Path, Path], out: Path) -> AuditReport:
    model, judge = folders
    return audit_folder(
        model, world=WORLD, size=64, judge_folder=judge, out=out, recipe="tiny", prompts=2,
        seeds_per_prompt=2, cells=("rome/dog/red",), records=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditReport, Path]:
    out = tmp_path_factory.mktemp("out")
    return audited(folders, out), out


def test_every_correlation_is_asked_or_the_report_says_why_not(done: tuple[AuditReport, Path]):
    report, _ = done
    asked = {rate.name for rate in report.rates}
    assert {*CORRELATIONS} - asked - {"boat_needs_water"} == {*NOT_READABLE} | (
        {*report.not_asked} & {*CORRELATIONS}
    )
    assert {"umbrella_in_rain", "dog red in rome", "dog red elsewhere"} <= asked
    assert "neon_is_night" in report.not_asked
    assert {one.name for one in report.dependences} == {"umbrella_in_rain", "dog red in rome"}
    assert {one.name for one in report.spreads} >= {"city", "weather", "kinds", "side", "dog color"}


def test_each_question_has_its_renders_and_its_pictures(done: tuple[AuditReport, Path]):
    report, _ = done
    rates = {rate.name: rate for rate in report.rates}
    assert rates["umbrella_in_rain"].judged.asked == 2 * RENDERS_PER_PROMPT
    assert rates["umbrella_in_rain"].model.asked == 4
    assert rates["umbrella_in_rain"].records.asked > 10
    answered = [
        case["answers"]["umbrella_in_rain"] for case in report.cases if "umbrella_in_rain" in case["answers"]
    ]
    assert len(answered) == 2 and all(len(answers) == 2 for answers in answered)
    assert sum(map(sum, answered)) == rates["umbrella_in_rain"].model.right
    assert report.pictures == 2 * len(report.cases)


def test_the_files_hold_what_was_found(done: tuple[AuditReport, Path]):
    report, out = done
    told = json.loads((out / "audit.json").read_text())
    assert (told["format"], told["prompts"], told["recipe"]) == (1, 2, "tiny")
    assert report.to_json() == (out / "audit.json").read_text()
    for case in told["cases"]:
        assert case["seeds"] == [FIRST_SEED + 100 * case["scene"][1] + k for k in (0, 1)]
    page = (out / "audit.md").read_text()
    assert page == report.to_markdown()
    for words in ("# Bias audit: model", "| rain, no umbrella | umbrella | 60 |", "## Not asked", "--cell"):
        assert words in page
    assert "- umbrella_has_carrier: the judge has no field for people." in page
    assert page.count("geometry or light") == 1
    assert str(out.parent) not in page + json.dumps(told)
    with Image.open(out / "audit.png") as sheet:
        assert sheet.width > 6 * 64
    assert (out / "audit.webp").is_file()


def test_an_audit_is_a_function_of_model_judge_and_arguments(
    done: tuple[AuditReport, Path], folders: tuple[Path, Path], tmp_path: Path
):
    again = audited(folders, tmp_path)
    assert replace(again, date="") == replace(done[0], date="")


def test_things_that_the_judge_does_not_see_have_no_color(folders: tuple[Path, Path]):
    pictures = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    read = read_facts(Recogniser.load(folders[1]), pictures)
    assert len(read) == 24 and all(facts["city"] for facts in read)
    for facts in read:
        for field in facts:
            holders = [f"{field.rsplit('.', depth)[0]}.present" for depth in range(1, field.count(".") + 1)]
            assert all(facts[holder] == "yes" for holder in holders if holder != field)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompts", "1"], "prompts=1: must be between 2 and 10000"),
        (["--seeds", "0"], "seeds_per_prompt=0: must be between 1 and 100"),
        (["--cell", "rome/bus"], "cell='rome/bus': is no CITY/KIND/COLOR of this world"),
    ],
)
def test_bad_input_is_one_line(
    folders: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
):
    model, judge = folders
    given = ["audit", str(model), "--recipe", "smoke", "--judge", str(judge), "--out", str(tmp_path / "out")]
    assert main([*given, *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_pipeline_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["audit", str(tmp_path), "--recipe", "smoke"]) == 2
    assert "no model_index.json there; name the folder of a pipeline" in capsys.readouterr().err
