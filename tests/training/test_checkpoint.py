"""Checkpoints: complete or absent, and damage is found."""

import resource
from pathlib import Path

import pytest
import torch

from training.checkpoint import CheckpointError, load_latest, save_checkpoint


def save(folder: Path, step: int, keep: int = 2) -> Path:
    tensors = {"w": torch.full((100,), float(step)), "step": torch.tensor(step)}
    return save_checkpoint(folder, step=step, tensors=tensors, facts={"name": "x"}, keep=keep)


def step_of(folder: Path) -> int:
    checkpoint = load_latest(folder)
    assert checkpoint is not None
    assert checkpoint.tensors["w"].unique().tolist() == [checkpoint.step]
    return checkpoint.step


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_what_was_saved_last_is_loaded_with_its_facts(tmp_path: Path):
    assert load_latest(tmp_path) is None
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert step_of(tmp_path) == 3
    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None and checkpoint.facts["name"] == "x"
    assert names(tmp_path) == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize("damage", ["bit", "short", "gone", "no manifest"])
@pytest.mark.parametrize("file", ["tensors.safetensors", "facts.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, file: str, damage: str):
    save(tmp_path, 1)
    victim = save(tmp_path, 2) / (file if damage != "no manifest" else "manifest.json")
    data = bytearray(victim.read_bytes())
    if damage == "bit":
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    elif damage == "short":
        victim.write_bytes(data[: len(data) // 2])
    else:
        victim.unlink()
    with pytest.warns(UserWarning, match="step-00000002 is damaged"):
        assert step_of(tmp_path) == 1


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(tmp_path: Path):
    (save(tmp_path, 1) / "facts.json").write_text("{}")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(CheckpointError, match="all 1 checkpoints"),
    ):
        load_latest(tmp_path)


def test_a_half_written_folder_is_no_checkpoint_and_goes_with_the_next_one(tmp_path: Path):
    save(tmp_path, 1)
    torn = tmp_path / "checkpoints" / "partial-00000002"
    torn.mkdir()
    (torn / "tensors.safetensors").write_bytes(b"half")
    assert step_of(tmp_path) == 1
    save(tmp_path, 3)
    assert names(tmp_path) == ["step-00000001", "step-00000003"]


def test_a_damaged_later_checkpoint_never_displaces_a_good_one(tmp_path: Path):
    for step in (10, 20, 35):
        folder = save(tmp_path, step)
    (folder / "facts.json").write_text("{}")
    with pytest.warns(UserWarning, match="damaged"):
        assert step_of(tmp_path) == 20
    save(tmp_path, 30)
    assert names(tmp_path) == ["step-00000020", "step-00000030"]
    assert step_of(tmp_path) == 30


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on file sizes")
def test_a_full_disk_is_told_in_one_line_and_leaves_the_earlier_checkpoint(tmp_path: Path):
    save(tmp_path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (20_000, before[1])
    )  # a write past it fails like one on a full disk
    try:
        with pytest.raises(CheckpointError, match="checkpoint at step 2 could not be written") as told:
            save_checkpoint(tmp_path, step=2, tensors={"w": torch.zeros(100_000)}, facts={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "free some disk space" in str(told.value) and "\n" not in str(told.value)
    assert names(tmp_path) == ["step-00000001"] and step_of(tmp_path) == 1
