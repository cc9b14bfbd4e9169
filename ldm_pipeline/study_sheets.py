"""A study's pictures: read for the judge, laid out side by side for people, measured pixel by pixel.

Knows nothing of how pictures are drawn, or of what is made of the answers.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ldm_pipeline.images import contact_sheet, open_picture
from ldm_pipeline.study import Arm, Case
from ldm_pipeline.study_folder import StudyFolder

SHEET_CASES, GRID_CASES = 64, 4
"""The first so many cases are shown, never picked ones."""
LARGEST_CELL_PIXELS = 192
MOST_COLUMNS = 12
LARGEST_SIDE_PIXELS = 16_000
"""WebP files end at 16,383."""


def study_pictures(folder: StudyFolder, arm: Arm) -> list[Image.Image]:
    """Read an arm's pictures, case by case; ValueError, naming the file, for one that is broken."""
    return [open_picture(folder.picture(arm, case)) for case in folder.study.cases]


def pixel_changes(folder: StudyFolder, arm: Arm) -> list[float]:
    """Mean absolute difference of each picture from the first arm's, 0 to 255; [] where sizes differ."""
    first, changes = folder.study.arms[0], []
    for case in folder.study.cases:
        one, other = (open_picture(folder.picture(a, case)) for a in (first, arm))
        if one.size != other.size:
            return []
        changes.append(float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean()))
    return changes


def write_sheets(folder: StudyFolder, asked: Mapping[str, Sequence[bool]]) -> list[Path]:
    """Write `sheet.webp`, or for a grid one sheet per case for the first few; older ones are replaced.

    In `sheet.webp` the arms of a case stand side by side. Each caption has the seed, the arm's key and the
    judge's answer (`asked`, arm -> case).
    """
    arms, cases = folder.study.arms, folder.study.cases
    if len(folder.study.axes) < 2:
        across = len(arms) * max(1, MOST_COLUMNS // len(arms))
        return [_sheet(folder, list(enumerate(cases))[:SHEET_CASES], asked, columns=across, name="sheet")]
    columns = folder.study.axes[0][1]
    return [
        _sheet(folder, [(i, case)], asked, columns=columns, name=f"grid-{case.prompt + 1}-{case.seed}")
        for i, case in enumerate(cases[:GRID_CASES])
    ]


def _sheet(
    folder: StudyFolder,
    cases: Sequence[tuple[int, Case]],
    asked: Mapping[str, Sequence[bool]],
    *,
    columns: int,
    name: str,
) -> Path:
    several = len(folder.study.prompts) > 1
    shown, captions = [], []
    for i, case in cases:
        for arm in folder.study.arms:
            shown.append(open_picture(folder.picture(arm, case)))
            seed = f"{case.prompt + 1}/{case.seed}" if several else f"{case.seed}"
            captions.append(f"{seed} {arm.key}: {'yes' if asked[arm.key][i] else 'no'}")
    rows = math.ceil(len(shown) / columns)
    widest, highest = (max(picture.size[side] for picture in shown) for side in (0, 1))
    largest = min(LARGEST_CELL_PIXELS, LARGEST_SIDE_PIXELS // max(rows, columns) - 20)
    scale = min(1.0, largest / max(widest, highest))
    cell = (max(1, round(widest * scale)), max(1, round(highest * scale)))
    sheet = contact_sheet([_fitted(one, cell) for one in shown], columns=columns, captions=captions)
    path = folder.path / f"{name}.webp"
    sheet.save(path, "WEBP", quality=85, method=4)
    return path


def _fitted(picture: Image.Image, cell: tuple[int, int]) -> Image.Image:
    """Give the picture in the middle of a white cell, made smaller where it is larger."""
    if picture.size == cell:
        return picture
    scale = min(1.0, cell[0] / picture.width, cell[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    whole = Image.new("RGB", cell, "white")
    small = picture.resize(size, Image.Resampling.LANCZOS)
    whole.paste(small, ((cell[0] - size[0]) // 2, (cell[1] - size[1]) // 2))
    return whole
