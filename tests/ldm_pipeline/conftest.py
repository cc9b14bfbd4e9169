"""Tiny pipelines that the tests of this folder share. Tests must not change them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.cli import main
from tests import tiny

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run_ldm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `ldm` in this process, in an empty folder; gives exit status, printed lines and error lines."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, list[str], list[str]]:
        try:
            status = main(list(words))
        except SystemExit as end:
            assert isinstance(end.code, int)
            status = end.code
        captured = capsys.readouterr()
        errors = [line for line in captured.err.replace("\r", "\n").splitlines() if line.startswith("ldm")]
        return status, captured.out.splitlines(), errors

    return run


@pytest.fixture(scope="session")
def flow_pipe() -> LatentDiffusionPipeline:
    """A rectified-flow pipeline with the bundled model's scheduler."""
    return tiny.make_pipeline("flow_prediction")


@pytest.fixture(scope="session")
def eps_pipe() -> LatentDiffusionPipeline:
    """A pipeline that predicts eps, with DPM++."""
    return tiny.make_pipeline("epsilon")


@pytest.fixture(scope="session")
def saved_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny folder with generation defaults and known words; read only."""
    return tiny.write_folder(tmp_path_factory.mktemp("tiny") / "postcards")
