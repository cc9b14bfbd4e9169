"""The wheel holds both packages and the models: what a pip user has, outside of any checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.odd_pictures import drawing

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel would put into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(words: list[str], *, installed: Path, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "2"}
    ended = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_finetune_is_launched_outside_of_a_checkout(installed: Path, tmp_path: Path):
    for number in range(3):
        drawing(128, 128, number=number).save(tmp_path / f"{number}.png")
    where = "import training, ldm_pipeline; print(training.__file__, ldm_pipeline.__file__)"
    assert run(["-c", where], installed=installed, cwd=tmp_path).count(str(installed)) == 2
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch", "-m", "training", "finetune"]
    told = run([*launch, "--data", ".", "--out", "run", "--dry-run"], installed=installed, cwd=tmp_path)
    assert "pictures: 3 to train on" in told and "lora of the bundled model" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png"]
