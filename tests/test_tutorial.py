"""The tutorial of training/README.md: every command, in its order, at a small size.

What is asked for is changed in nothing but its size: steps, batches, pictures.
"""

import io
import json
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from ldm_pipeline import cli
from tests.odd_pictures import drawing, encoded
from training import __main__ as command_line

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "finetune": "--steps 2 --set fit.batch_size=2 --set fit.save_every_steps=2 --set looks.steps=1 "
    "--set looks.pictures=2 --set looks.validation_pictures=2 --set looks.drift_prompts=dog --precision no",
    "scenes": "--set pictures=6 --set held_out_pictures=2",
    "evaluate": "--prompts 2 --pairs 1 --tasks 0 --exam 20 --copying 20",
    "data": "",
    "generate": "--steps 2",
}
STYLES, NAMES = ("fluent_3d", "noto"), ("dolphin", "red apple", "tram", "owl", "balloon", "umbrella")


def commands() -> list[list[str]]:
    """The words of each command of the tutorial."""
    text = (ROOT / "training" / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## From a folder of pictures.*?(?=^## |\Z)", text, flags=re.M | re.S)
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, flags=re.M | re.S)
    lines = re.sub(r"\\\n\s*", " ", "".join(blocks)).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def write_shard(folder: Path) -> None:
    """Twelve pictures in two styles, with the fields that the emoji set has."""
    folder.mkdir()
    with tarfile.open(folder / "emoji-000.tar", "w") as shard:
        for number, (style, name) in enumerate((style, name) for style in STYLES for name in NAMES):
            fields = json.dumps({"name": name, "style": style, "license": "MIT"}).encode()
            for ending, data in (
                ("webp", encoded(drawing(128, 128, number=number), "WEBP")),
                ("json", fields),
            ):
                member = tarfile.TarInfo(f"{style}-{number:02}.{ending}")
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))


def run(words: list[str]) -> None:
    """Run one command: in this process but for those that a launcher starts."""
    if words[0] == "accelerate":
        program = [sys.executable, "-m", "accelerate.commands.accelerate_cli", *words[1:]]
        ended = subprocess.run(program, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return
    AcceleratorState._reset_state(reset_partial_state=True)
    if words[0] == "ldm":
        assert cli.main(words[1:]) == 0, words
    else:
        assert words[:3] == ["python", "-m", "training"] and command_line.main(words[3:]) == 0, words
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_every_command_of_the_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_shard(tmp_path / "emoji")
    given = commands()
    parts = {part for words in given for part in words if part in SMALL}
    assert parts == {"data", "finetune", "generate", "scenes", "evaluate"} and len(given) >= 7
    for words in given:
        part = next(word for word in words if word in SMALL)
        run([*words, *shlex.split(SMALL[part])])
    assert (tmp_path / "runs" / "fluent" / "final" / "pytorch_lora_weights.safetensors").is_file()
    assert (tmp_path / "runs" / "emoji" / "final" / "model_index.json").is_file()
    assert len(list((tmp_path / "pictures").glob("*.png"))) >= 2
    assert "never trained on" not in capsys.readouterr().err
