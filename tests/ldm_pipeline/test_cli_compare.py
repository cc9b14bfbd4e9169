"""`ldm compare` from words to a report, stopped and resumed, and every bad input as one line."""

import csv
import json
import signal
from pathlib import Path

import pytest

from ldm_pipeline import compare

PARIS = ["paris on a rainy day", "--negative-prompt", "umbrella", "--ask", "umbrella", "--set",
         "num_inference_steps=2"]  # fmt: skip


@pytest.fixture
def ldm(run_ldm, saved_folder: Path):
    """Runs `ldm compare`, with the tiny folder unless told otherwise."""

    def run(*words: str, model: bool = True) -> tuple[int, list[str], list[str]]:
        place = ["--model", str(saved_folder), "--device", "cpu", "--dtype", "float32"] if model else []
        return run_ldm("compare", *place, *words)

    return run


def test_a_negative_prompt_is_studied_with_a_sham_arm(ldm, tmp_path: Path):
    status, lines, errors = ldm(*PARIS, "--seeds", "0-1", "--also", "rainy", "--effect", "20")
    assert status == 0
    assert [error for error in errors if "never trained on the words 'boat'" not in error] == []
    assert [line.split(":")[0] for line in lines[:3]] == [
        "A (no negative prompt)", 'B (negative_prompt="umbrella")', 'sham (negative_prompt="boat")',
    ]  # fmt: skip
    (folder,) = (tmp_path / "studies").iterdir()
    assert lines[3:] == [f"studies/{folder.name}/report.md", f"studies/{folder.name}/report.json"]
    plain = json.loads((folder / "report.json").read_text())
    assert (plain["seeds"], plain["also"]) == ([0, 1], ["rainy"])
    assert plain["comparisons"][0]["needed"]["change"] == 0.2


def test_an_interrupted_study_says_how_to_go_on_and_ends_with_the_same_bytes(
    ldm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = [*PARIS, "--no-sham", "--seeds", "0-9", "--out"]
    drawn = 0

    def draw_three(*given):
        nonlocal drawn
        if drawn == 3:
            signal.raise_signal(signal.SIGINT)
        draw_one(*given)
        drawn += 1

    draw_one = compare._draw_one
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    with monkeypatch.context() as patched:
        patched.setattr(compare, "_draw_one", draw_three)
        status, _, errors = ldm(*words, "parted")
    signal.signal(signal.SIGINT, before)
    assert status == 130 and drawn == 3
    assert len(list((tmp_path / "parted").glob("pictures/*/*.png"))) == 3
    assert errors == [
        f"ldm: interrupted; {drawn} of 20 pictures are in parted: the same command goes on with the others"
    ]
    assert not list((tmp_path / "parted").glob("report*"))
    assert ldm(*words, "parted")[0] == ldm(*words, "whole")[0] == 0
    ours, theirs = (
        {path.name + path.parent.name: path.read_bytes() for path in (tmp_path / name).rglob("*.png")}
        for name in ("parted", "whole")
    )
    assert ours == theirs and len(ours) == 20
    told = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("parted", "whole")]
    assert told[0] == told[1]


def test_a_grid_and_prompts_from_a_file(ldm, tmp_path: Path):
    (tmp_path / "prompts.txt").write_text("red car\n\ncat on a rainy day\n", encoding="utf-8")
    status, lines, errors = ldm(
        *["--prompts", "prompts.txt", "--ask", "rainy", "--seeds", "0-1", "--vary", "guidance_scale=1,3"],
        *["--vary", "num_inference_steps=2,3", "--out", "grid"],
    )
    assert (status, errors, len(lines)) == (0, [], 6)
    assert len(list((tmp_path / "grid").glob("grid-*.webp"))) == 4
    assert "sign-flip p" in (tmp_path / "grid" / "report.md").read_text()


def test_people_judge_blind_and_their_answers_become_the_report(ldm, tmp_path: Path):
    words = [*PARIS, "--seeds", "0-1", "--sham", "red", "--judge", "blind", "--out", "study"]
    status, lines, errors = ldm(*words)
    assert (status, lines) == (0, ["study/label.html"])
    assert "ldm compare --answers answers.csv study" in errors[-1]
    key = json.loads((tmp_path / "study" / "key.json").read_text())["pictures"]
    with open(tmp_path / "answers.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["picture", "question", "answer"])
        rows.writerows([code, "umbrella", "y" if arm == "A" else "n"] for code, (arm, _, _) in key.items())
    status, lines, errors = ldm("--answers", "answers.csv", "study", model=False)
    assert (status, errors) == (0, [])
    assert lines[0].startswith("A (no negative prompt): umbrella 100.0")
    assert lines[1].startswith('B (negative_prompt="umbrella"): umbrella 0.0') and "-100.0" in lines[1]
    first = (tmp_path / "study" / "report.json").read_bytes()
    words[words.index("blind")] = "answers.csv"
    assert ldm(*words)[:2] == (0, lines)
    assert (tmp_path / "study" / "report.json").read_bytes() == first
    assert json.loads(first)["judge"]["judge"] == "people, blind"
    assert ldm("--answers", "answers.csv", "study", "--ask", "dog", model=False)[0] == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--ask umbrella", "give a prompt, or --prompts"),
        ("car --prompts p.txt --ask x", "give a prompt, or --prompts"),
        ("--prompts none.txt --ask x", "is no file"),
        ("car --negative-prompt umbrella", "--ask is missing"),
        ("car --ask umbrella", "nothing differs"),
        ("car --ask umbrela --negative-prompt dog", "nearest are 'umbrella'"),
        ("car --ask umbrella --also zebra --negative-prompt dog", "is nothing that the judge reads"),
        ("car --ask umbrella --change guidence_scale=3", "did you mean 'guidance_scale'"),
        ("car --ask umbrella --change guidance_scale", "write NAME=VALUE"),
        ("car --ask umbrella --change eta=1 --change eta=0", "twice"),
        ("car --ask umbrella --vary eta=0,1 --vary eta=0,1", "twice"),
        ("car --ask umbrella --vary eta=0,1 --change clip_skip=1", "both given"),
        ("car --ask umbrella --vary eta=0", "has 1 values"),
        ("car --ask umbrella --vary eta=0,1 --sham boat", "no place in a sweep"),
        ("car --ask umbrella --change eta=1 --sham boat", "no place here"),
        ("car --ask umbrella --negative-prompt dog --sham boat --no-sham", "both given"),
        ("car --ask umbrella --negative-prompt dog --seeds 5-1", "seeds='5-1'"),
        ("car --ask umbrella --negative-prompt dog --effect 0", "--effect 0"),
        ("car --ask umbrella --negative-prompt dog --judge oracle", "--judge 'oracle' is unknown"),
        ("car --ask umbrella --negative-prompt dog --judge clip", "--judge clip needs --judge-weights"),
        ("car --ask umbrella --negative-prompt dog --judge-model ViT-B-32", "belongs to --judge clip"),
        ("car --ask umbrella --negative-prompt dog --dtype float33", "float33"),
        (
            "car --ask umbrella --negative-prompt dog --no-sham --judge none.csv",
            "run the study with --judge blind",
        ),
        ("--answers a.csv", "needs the study's folder"),
        ("--answers a.csv nowhere", "holds no study.json"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_drawn(ldm, tmp_path: Path, words: str, complaint: str):
    status, lines, errors = ldm(*words.split())
    assert (status, lines) == (2, [])
    assert len(errors) == 1 and complaint in errors[0], errors
    assert not list(tmp_path.rglob("*.png"))


def test_the_folder_of_another_study_is_refused(ldm, tmp_path: Path):
    words = [
        "car",
        "--ask",
        "umbrella",
        "--seeds",
        "0",
        "--no-sham",
        "--set",
        "num_inference_steps=1",
        "--out",
        "s",
    ]
    assert ldm(*words, "--negative-prompt", "dog")[0] == 0
    status, _, (error,) = ldm(*words, "--negative-prompt", "cat")
    assert status == 2 and "s holds another study (other arms)" in error


def test_without_a_word_for_it_another_model_gets_no_control_arm_and_is_told(ldm, tmp_path: Path):
    words = "car --negative-prompt dog --judge blind --seeds 0 --set num_inference_steps=1 --out s"
    status, _, errors = ldm(*words.split(), "--ask", "a dog")
    assert status == 0 and errors[0].startswith("ldm: no control arm; --sham WORD adds one")
    assert sorted(path.name for path in (tmp_path / "s" / "pictures").iterdir()) == ["A", "B"]
