"""The parts that a UNet was trained on stay with it: copied once, whole, opened frozen."""

import shutil
from pathlib import Path

import pytest
import torch

from tests import tiny_runs
from training.parts import KNOWN_WORDS, LEGS, keep_parts, load_parts, write_known_words
from training.recipes import SMOKE
from training.scenes.world import FULL_WORLD


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE, a text encoder and a tokenizer; read only."""
    folder = tmp_path_factory.mktemp("finished")
    tiny_runs.write_finished(folder)
    return folder


def keep(folder: Path, finished: Path, *, legs: Path | None = None) -> None:
    keep_parts(
        folder,
        vae=finished / "vae",
        text_encoder=finished / "text_encoder",
        tokenizer=finished / "tokenizer",
        legs=legs,
    )


def test_kept_parts_open_in_full_precision_and_frozen(finished: Path, tmp_path: Path):
    keep(tmp_path / "parts", finished)
    parts = load_parts(tmp_path / "parts")
    for network in (parts.vae, parts.text_encoder):
        assert not network.training
        assert {p.dtype for p in network.parameters()} == {torch.float32}
        assert not any(p.requires_grad for p in network.parameters())
    assert parts.tokenizer.encode(["paris"]).shape == (1, 77)
    assert parts.earlier_legs is None


def test_parts_that_lie_there_stay_when_the_sources_change(finished: Path, tmp_path: Path):
    source = Path(shutil.copytree(finished, tmp_path / "source"))
    keep(tmp_path / "parts", source)
    before = (tmp_path / "parts" / "vae" / "config.json").read_bytes()
    (source / "vae" / "config.json").write_text("{}")
    keep(tmp_path / "parts", source)
    assert (tmp_path / "parts" / "vae" / "config.json").read_bytes() == before


def test_a_missing_source_leaves_no_half_of_the_parts(finished: Path, tmp_path: Path):
    source = Path(shutil.copytree(finished, tmp_path / "source"))
    shutil.rmtree(source / "tokenizer")
    with pytest.raises(FileNotFoundError, match="tokenizer"):
        keep(tmp_path / "parts", source)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_the_legs_of_a_warm_start_come_along(finished: Path, tmp_path: Path):
    (tmp_path / LEGS).write_text("[]")
    keep(tmp_path / "parts", finished, legs=tmp_path / LEGS)
    legs = load_parts(tmp_path / "parts").earlier_legs
    assert legs is not None and legs.read_text() == "[]"


def test_without_parts_the_command_to_run_first_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="run `python -m training unet` with this recipe first"):
        load_parts(tmp_path / "parts")


def test_known_words_are_those_of_the_world(tmp_path: Path):
    write_known_words(tmp_path, SMOKE.world)
    small = (tmp_path / KNOWN_WORDS).read_text().splitlines()
    write_known_words(tmp_path, FULL_WORLD)
    full = (tmp_path / KNOWN_WORDS).read_text().splitlines()
    assert {"paris", "umbrella", "rainy"} <= set(small) < set(full)
    assert "london" in full and "london" not in small
    assert all(word == word.lower() and " " not in word for word in full)
