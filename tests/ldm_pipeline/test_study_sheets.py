"""Contact sheets show the arms of a case side by side, with what the judge said, from plain colors."""

from pathlib import Path

import pytest
from PIL import Image

from ldm_pipeline.study import pair, sweep
from ldm_pipeline.study_folder import StudyFolder, open_folder, study_facts
from ldm_pipeline.study_sheets import pixel_changes, study_pictures, write_sheets

COLORS = ((200, 0, 0), (0, 0, 200), (0, 160, 0), (90, 90, 90))


def painted(path: Path, study, *, size: tuple[int, int] = (64, 48), sizes=None) -> StudyFolder:
    folder = open_folder(path, study, study_facts(study, device="cpu", dtype="float32"))
    for i, arm in enumerate(study.arms):
        for case in study.cases:
            place = folder.picture(arm, case)
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", sizes[i] if sizes else size, COLORS[i]).save(place)
    return folder


def asked(folder: StudyFolder) -> dict[str, list[bool]]:
    return {arm.key: [True] * len(folder.study.cases) for arm in folder.study.arms}


def near(pixel, color) -> bool:
    return all(abs(one - other) < 25 for one, other in zip(pixel, color, strict=True))


def test_a_pair_stands_side_by_side_and_captions_say_yes_or_no(tmp_path: Path):
    folder = painted(tmp_path, pair(["a"], seeds=range(8), change={"eta": 1.0}, ask="x"))
    (path,) = write_sheets(folder, asked(folder))
    sheet = Image.open(path).convert("RGB")
    assert (path.name, sheet.size) == ("sheet.webp", (12 * 68 + 4, 2 * 66 + 4))
    for column in range(12):
        assert near(sheet.getpixel((4 + 68 * column + 32, 28)), COLORS[column % 2])
    other = write_sheets(folder, {**asked(folder), "B": [False] * 8})[0]
    assert Image.open(other).convert("RGB").tobytes() != sheet.tobytes()


def test_a_grid_has_a_sheet_for_each_of_the_first_cases(tmp_path: Path):
    vary = {"eta": (0.0, 1.0), "guidance_scale": (1, 3)}
    folder = painted(tmp_path, sweep(["a"], seeds=range(5, 11), vary=vary, ask="x"))
    paths = write_sheets(folder, asked(folder))
    assert [path.name for path in paths] == [f"grid-1-{seed}.webp" for seed in (5, 6, 7, 8)]
    sheet = Image.open(paths[0]).convert("RGB")
    places = [(36, 28), (104, 28), (36, 94), (104, 94)]
    assert all(near(sheet.getpixel(place), color) for place, color in zip(places, COLORS, strict=True))


def test_large_and_unequal_pictures_are_made_to_fit(tmp_path: Path):
    study = pair(["a", "b"], seeds=range(2), change={"width": 80}, ask="x")
    folder = painted(tmp_path, study, sizes=[(400, 200), (200, 200)])
    sheet = Image.open(write_sheets(folder, asked(folder))[0]).convert("RGB")
    assert sheet.width == 8 * 196 + 4 or sheet.width == 12 * 196 + 4
    assert near(sheet.getpixel((4 + 196 + 10, 50)), (255, 255, 255))
    assert pixel_changes(folder, study.arms[1]) == []


def test_changes_of_pixels_are_means_over_channels(tmp_path: Path):
    folder = painted(tmp_path, pair(["a"], seeds=range(2), change={"eta": 1.0}, ask="x"))
    assert pixel_changes(folder, folder.study.arms[0]) == [0.0, 0.0]
    assert pixel_changes(folder, folder.study.arms[1]) == pytest.approx([400 / 3] * 2)


def test_a_broken_picture_is_named(tmp_path: Path):
    folder = painted(tmp_path, pair(["a"], seeds=range(2), change={"eta": 1.0}, ask="x"))
    place = folder.picture(folder.study.arms[1], folder.study.cases[1])
    place.write_bytes(place.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"B/seed-1\.png cannot be opened"):
        study_pictures(folder, folder.study.arms[1])
