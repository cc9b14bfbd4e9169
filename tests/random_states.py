"""The global random states of torch, numpy and Python: held fast, compared, and set to something else.

Knows nothing of who should leave them alone.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def states() -> dict[str, object]:
    """Every global state, in values that compare."""
    generator, keys, *rest = np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "torch's seed": torch.initial_seed(),
        "numpy": (generator, np.asarray(keys).tobytes(), *rest),
        "random": random.getstate(),
        "cuda": [one.numpy().tobytes() for one in cuda],
    }


@contextmanager
def untouched() -> Iterator[None]:
    """Fail where what is done inside changes a global random state."""
    before = states()
    yield
    after = states()
    changed = [name for name, state in before.items() if state != after[name]]
    assert changed == [], f"the global random state was changed: {', '.join(changed)}"


@contextmanager
def seeded_globally(number: int) -> Iterator[None]:
    """Seed all global states, and put them back afterwards."""
    numpy, python = np.random.get_state(), random.getstate()
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(number)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.default_generators[device].manual_seed(number)
        np.random.set_state(np.random.RandomState(number).get_state())
        random.setstate(random.Random(number).getstate())
        try:
            yield
        finally:
            np.random.set_state(numpy)
            random.setstate(python)
