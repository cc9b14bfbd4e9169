"""Every example runs in an empty folder and leaves pictures in the folder it is given, which it makes.

What the pictures show is not its matter.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SLOW = {"06_train_everything_small.py"}


@pytest.mark.parametrize(
    "example",
    [pytest.param(path, marks=[pytest.mark.slow] if path.name in SLOW else []) for path in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_an_example_leaves_pictures(example: Path, tmp_path: Path):
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); runpy.run_path({str(example)!r})",
            "new/folder",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    pictures = list(tmp_path.glob("new/folder/*.png"))
    assert pictures, "no picture was written"
    for path in pictures:
        with Image.open(path) as picture:
            low_and_high = picture.convert("L").getextrema()
        assert low_and_high[0] != low_and_high[1], f"{path.name} is one flat color"
