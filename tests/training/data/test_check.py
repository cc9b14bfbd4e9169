"""`python -m training data check DIR` from the outside: the report as text or JSON, errors in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.odd_pictures import animation, bomb, drawing, encoded, snapshot
from tests.tiny import make_tokenizer
from training.__main__ import main

ROOT = Path(__file__).parents[3]


def run(*arguments: str | Path) -> int:
    return main(["data", "check", *map(str, arguments)])


def test_the_report_of_a_folder_is_printed_and_nothing_changes(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    (folder / "bomb.png").write_bytes(bomb(60_000, 60_000))
    (folder / "anim.png").write_bytes(animation("PNG"))
    before = snapshot(folder.parent)
    assert run(folder, "--resolution", "64", "--held-out", "0.3") == 0
    text = capsys.readouterr().out
    assert text.startswith("22 found: ") and "left out, huge: 1" in text and "left out, animated: 1" in text
    assert snapshot(folder.parent) == before


def test_the_same_as_json_with_the_tokens_of_long_captions(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    make_tokenizer().save_pretrained(tmp_path / "model" / "tokenizer")
    (folder / "03.txt").write_text("a cat " * 60)
    options = ["--resolution", "64", "--tokenizer", tmp_path / "model", "--cache", tmp_path / "cache"]
    assert run(folder, *options, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["training"] == 20 and facts["long_captions"] == {"03.png": 122}
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert run(folder, *options) == 0
    assert "1 pictures have a caption of more than 77 tokens" in capsys.readouterr().out


def test_a_folder_of_which_nothing_can_be_used_still_has_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "a.png").write_bytes(b"x")
    assert run(tmp_path) == 0
    assert "1 found: 0 for training, 0 held out, 1 left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nowhere"], "path=nowhere: is not there; give a folder"),
        (["FOLDER", "--resolution", "65"], "resolution=65: must be a multiple of factor=8"),
        (["FOLDER", "--where", "style"], "where='style': is no condition; write FIELD=VALUE"),
        (["FOLDER", "--where", "style=mono"], "no sample has this value; there are 'flat'"),
        (["FOLDER", "--template", "{nam}"], "there is no field 'nam'; there are: license, style, text"),
        (
            ["FOLDER", "--tokenizer", "nowhere"],
            "--tokenizer nowhere: there is no tokenizer_config.json; give",
        ),
        (["FOLDER", "--held-out", "2"], "held_out=2.0: is a share"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
):
    assert run(*[str(folder) if one == "FOLDER" else one for one in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line and "picture/s" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]


def test_help_is_light_and_the_check_needs_no_training_library(folder: Path):
    encoded(drawing())
    code = (
        "import sys\nfrom training.__main__ import build_parser, main\nbuild_parser()\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
        f"assert main(['data', 'check', {str(folder)!r}, '--resolution', '64']) == 0\n"
        "assert not {'open_clip', 'tensorboard', 'datasets'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "20 found" in result.stdout
