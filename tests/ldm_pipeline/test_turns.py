"""Runs share a network, one that alters it is alone with it, and a thread never waits for itself."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from ldm_pipeline import turns
from ldm_pipeline.turns import turn

PATIENCE_SECONDS = 30.0


def take(network: torch.nn.Module) -> bool:
    with turn(network, alters=True):
        return True


def test_runs_share_a_network():
    network, together = torch.nn.Identity(), threading.Barrier(2)

    def run(_: int) -> None:
        with turn(network, alters=False):
            together.wait(PATIENCE_SECONDS)  # breaks unless both are inside at the same time

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run, range(2)))


def test_who_alters_a_network_is_alone_with_it():
    network, inside, seen = torch.nn.Identity(), [], []

    def take(i: int) -> None:
        with turn(network, alters=i % 2 == 0):
            inside.append(i)
            time.sleep(0.002)
            seen.append(list(inside))
            inside.remove(i)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(take, range(40)))
    assert len(seen) == 40
    for company in seen:
        alterers = [i for i in company if i % 2 == 0]
        assert not alterers or company == alterers[:1]


def test_other_networks_are_not_waited_for():
    first, second, entered = torch.nn.Identity(), torch.nn.Identity(), threading.Event()

    def other() -> None:
        with turn(second, alters=True):
            entered.set()

    with turn(first, alters=True):
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(PATIENCE_SECONDS)
    thread.join()


def test_a_thread_may_take_turns_inside_its_own():
    network = torch.nn.Identity()
    with turn(network, alters=True), turn(network, alters=False), turn(network, alters=True):
        pass
    with turn(network, alters=False), turn(network, alters=True):
        pass
    with turn(network, alters=True):
        pass


def test_a_turn_ends_with_an_error_too_and_holds_no_network():
    network = torch.nn.Identity()
    try:
        with turn(network, alters=True):
            raise KeyError
    except KeyError:
        pass
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(take, network).result(PATIENCE_SECONDS)
    held = len(turns._turns)
    del network
    gc.collect()
    assert len(turns._turns) < held
