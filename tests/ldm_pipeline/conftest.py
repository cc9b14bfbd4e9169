"""Tiny pipelines that the tests of this folder share. Tests must not change them."""

from pathlib import Path

import pytest

from ldm_pipeline import LatentDiffusionPipeline
from tests import tiny


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
