"""What several tests of training need: 64 small postcards, rendered once, and one process that computes.

Knows nothing of what is tested with them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from training.data.postcards import PostcardConfig, Postcards, render_postcards
from training.recipes import SMOKE


@pytest.fixture(scope="session")
def postcards(tmp_path_factory: pytest.TempPathFactory) -> Postcards:
    """64 pictures of the smoke world at 64 px."""
    config = PostcardConfig(world=SMOKE.world, seed=5, count=64, size=64)
    return render_postcards(config, tmp_path_factory.mktemp("postcards"))


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    """One process on the CPU in fp32; accelerate's shared state is forgotten before and after."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True, mixed_precision="no")
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def smoke_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder in which the smoke recipe's parts before the UNet have done one step each."""
    from training import __main__ as command_line

    runs = tmp_path_factory.mktemp("runs")
    for part in ("recogniser", "vae", "clip"):
        AcceleratorState._reset_state(reset_partial_state=True)
        assert command_line.main([part, "--recipe", "smoke", "--steps", "1", "--runs", str(runs)]) == 0
    AcceleratorState._reset_state(reset_partial_state=True)
    return runs
