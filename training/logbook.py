"""A run's written traces: metrics.jsonl, TensorBoard, preview pictures.

Knows nothing of what the numbers mean. A resumed run drops the lines that lie after its checkpoint.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from PIL import Image


class Logbook:
    """Appends numbers to `metrics.jsonl` and to TensorBoard's event files under `run_folder`."""

    def __init__(self, run_folder: Path, *, first_step: int = 0):
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and needed by training only

        self.folder = run_folder
        run_folder.mkdir(parents=True, exist_ok=True)
        self._path = run_folder / "metrics.jsonl"
        if self._path.exists():
            kept = [line for line in self._path.read_text().splitlines() if _step_of(line) <= first_step]
            shorter = self._path.with_suffix(".partial")
            shorter.write_text("".join(line + "\n" for line in kept))
            os.replace(shorter, self._path)
        self._board = SummaryWriter(str(run_folder / "tensorboard"), purge_step=first_step + 1)

    def names_at(self, step: int) -> set[str]:
        """What was written for a step."""
        if not self._path.exists():
            return set()
        lines = (json.loads(line) for line in self._path.read_text().splitlines())
        return {name for line in lines if line["step"] == step for name in line}

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line of `metrics.jsonl` with the step, the wall clock (Unix seconds) and `values`."""
        line = {
            "step": step,
            "time": round(time.time(), 1),
            **{k: float(f"{v:.6g}") for k, v in values.items()},
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: Image.Image) -> Path:
        """Save a preview as `previews/NAME-STEP.png`."""
        path = self.folder / "previews" / f"{name}-{step:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        return path

    def close(self) -> None:
        self._board.close()


def _step_of(line: str) -> int:
    """The step of a line; a torn last line counts as after every checkpoint."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return 2**63
