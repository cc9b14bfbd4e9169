"""Data sets saved by Hugging Face's library are read row by row, without decoding and without pickles."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.odd_pictures import drawing, encoded, snapshot
from training.data.found import Found
from training.data.saved_datasets import dataset_units, is_saved_dataset, row_bytes, splits_of

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:datasets", "ignore::DeprecationWarning:dill"
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    pictures = [{"bytes": encoded(drawing(8, 8, number=n)), "path": None} for n in range(3)]
    rows = {"image": [*pictures, None], "text": ["a", "b", None, "d"], "year": [1, 2, 3, 4]}
    features = datasets.Features(
        image=datasets.Image(), text=datasets.Value("string"), year=datasets.Value("int64")
    )
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    return tmp_path / "set"


def found_in(folder: Path) -> list[Found]:
    return [one for unit in dataset_units(folder) for one in unit.find()]


def test_rows_are_samples(saved: Path):
    before, state = snapshot(saved), (random.getstate(), str(np.random.get_state()))
    found = found_in(saved)
    assert [one.name for one in found] == ["row 0", "row 1", "row 2", "row 3"]
    assert found[1].texts == ("b",) and found[1].fields == {"text": "b", "year": "2"}
    assert found[2].texts == () and found[3].reason.startswith(
        "missing: the data set does not hold its bytes"
    )
    assert found[1].place is not None and row_bytes(found[1].place) == encoded(drawing(8, 8, number=1))
    assert snapshot(saved) == before
    assert state == (random.getstate(), str(np.random.get_state()))


def test_units_hold_some_rows_each(saved: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("training.data.saved_datasets.ROWS", 3)
    units = list(dataset_units(saved))
    assert [unit.name for unit in units] == ["rows 0-2", "rows 3-3"]
    assert len({unit.stamp for unit in units}) == 2


def test_a_set_that_was_saved_anew_is_read_anew(saved: Path):
    assert len(found_in(saved)) == 4
    shutil.rmtree(saved)
    rows = {"image": [{"bytes": encoded(drawing(8, 8, number=7)), "path": None}], "text": ["new"]}
    features = datasets.Features(image=datasets.Image(), text=datasets.Value("string"))
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(saved)
    (only,) = found_in(saved)
    assert only.texts == ("new",) and only.place is not None
    assert row_bytes(only.place) == encoded(drawing(8, 8, number=7))


def test_kinds_of_folders_are_told_apart(saved: Path, tmp_path: Path):
    assert is_saved_dataset(saved) and not is_saved_dataset(tmp_path) and splits_of(saved) == []
    whole = datasets.load_from_disk(saved)
    datasets.DatasetDict(train=whole, test=whole).save_to_disk(tmp_path / "both")
    assert splits_of(tmp_path / "both") == ["test", "train"]


def test_a_set_without_pictures_or_a_damaged_one_is_refused(saved: Path, tmp_path: Path):
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "words")
    with pytest.raises(ValueError, match="no column of it is an Image; there are: text"):
        list(dataset_units(tmp_path / "words"))
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("state.json", "dataset_info.json"):
        (broken / name).write_text("{}")
    with pytest.raises(ValueError, match="datasets.load_from_disk cannot open it"):
        list(dataset_units(broken))
