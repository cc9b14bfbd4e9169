"""A thread sees its own call, others the latest; who is told to end ends, and later calls run."""

# pyright: reportPrivateImportUsage=false

import copy
import gc
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import diffusers
import pytest
import torch

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.calls import Calls, OfTheCall, calls_of
from tests import tiny

PATIENCE_SECONDS = 60.0


class Pipe:
    _guidance_scale: Any = OfTheCall()
    _num_timesteps: Any = OfTheCall()


def in_a_thread(work: Any) -> Any:
    """What a fresh thread, without a call of its own, finds."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result(PATIENCE_SECONDS)


def test_before_the_first_call_there_are_plain_values():
    calls = Calls()
    assert (calls.seen().guidance_scale, calls.seen().num_timesteps, calls.interrupted) == (0.0, 0, False)


def test_a_thread_without_a_call_sees_the_latest_and_keeps_its_own_once_it_has_one():
    calls, wait = Calls(), threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def work() -> list[float]:
        seen = [calls.seen().guidance_scale]
        with calls.running(guidance_scale=5.0):
            wait.wait()  # the other begins its second call
            wait.wait()
            seen.append(calls.seen().guidance_scale)
        return [*seen, calls.seen().guidance_scale]

    with calls.running(guidance_scale=3.0):
        pass
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(work)
        wait.wait()
        assert calls.seen().guidance_scale == 3.0
        assert in_a_thread(lambda: calls.seen().guidance_scale) == 5.0
        with calls.running(guidance_scale=4.0):
            wait.wait()
        assert found.result(PATIENCE_SECONDS) == [3.0, 5.0, 5.0]
    assert in_a_thread(lambda: calls.seen().guidance_scale) == 4.0


def test_threads_that_change_their_calls_in_turns_do_not_change_each_others():
    calls, turn = Calls(), threading.Barrier(4, timeout=PATIENCE_SECONDS)

    def work(number: int) -> list[float]:
        seen = []
        with calls.running(guidance_scale=float(number)):
            for _ in range(20):
                turn.wait()
                calls.change("guidance_scale", calls.seen().guidance_scale + 10)
                turn.wait()
                seen.append(calls.seen().guidance_scale)
        return seen

    with ThreadPoolExecutor(4) as threads:
        for number, seen in enumerate(threads.map(work, range(4))):
            assert seen == [number + 10 * i for i in range(1, 21)]


def test_a_thread_that_changes_a_setting_without_a_call_changes_no_running_one():
    calls = Calls()

    def change() -> tuple[float, int]:
        calls.change("guidance_scale", 9.0)
        return calls.seen().guidance_scale, calls.seen().num_timesteps

    with calls.running(guidance_scale=3.0, num_timesteps=7):
        assert in_a_thread(change) == (9.0, 7)
        assert calls.seen().guidance_scale == 3.0


def test_a_call_inside_a_call_gives_its_place_back_also_after_an_error():
    calls = Calls()
    with calls.running(guidance_scale=3.0):
        with calls.running(guidance_scale=5.0):
            assert calls.seen().guidance_scale == 5.0
        assert calls.seen().guidance_scale == 3.0
        with pytest.raises(KeyError), calls.running(guidance_scale=6.0):
            raise KeyError
        assert calls.seen().guidance_scale == 3.0
    with calls.running(guidance_scale=7.0):
        pass
    assert calls.seen().guidance_scale == 7.0


def test_everything_that_has_begun_is_told_to_end_and_what_begins_later_is_not():
    calls = Calls()
    with calls.running():
        in_a_thread(lambda: setattr(calls, "interrupted", True))
        assert calls.interrupted
        with calls.running():
            assert not calls.interrupted
            calls.interrupted = True
            assert calls.interrupted
        assert calls.interrupted
    assert calls.interrupted, "as in diffusers until the next call"
    with calls.running():
        assert not calls.interrupted


def test_no_other_thread_and_no_later_call_lets_an_ended_call_go_on():
    calls = Calls()

    def other() -> bool:
        calls.interrupted = False
        with calls.running():
            calls.interrupted = False
            return calls.interrupted

    with calls.running():
        calls.interrupted = True
        assert in_a_thread(other) is False
        assert calls.interrupted
        calls.interrupted = False
        assert calls.interrupted
    calls.interrupted = False
    assert not calls.interrupted


def test_attributes_are_the_settings_of_the_threads_call():
    pipe = Pipe()
    with calls_of(pipe).running(guidance_scale=3.0):
        pipe._num_timesteps = 4
        assert (pipe._guidance_scale, pipe._num_timesteps) == (3.0, 4)
        assert calls_of(pipe).seen().num_timesteps == 4
        assert in_a_thread(lambda: pipe._num_timesteps) == 4
    assert pipe.__dict__ == {}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda pipe: pickle.loads(pickle.dumps(pipe))])
def test_a_copy_has_calls_of_its_own(copied):
    pipe = Pipe()
    with calls_of(pipe).running(guidance_scale=3.0):
        other = copied(pipe)
        assert other._guidance_scale == 0.0
        other._guidance_scale = 5.0
        calls_of(other).interrupted = True
        assert pipe._guidance_scale == 3.0 and not calls_of(pipe).interrupted


def test_calls_end_with_their_pipeline():
    pipe = Pipe()
    gone = weakref.ref(calls_of(pipe))
    assert gone() is not None
    del pipe
    gc.collect()
    assert gone() is None


SHOWN = ("guidance_scale", "guidance_rescale", "clip_skip", "cross_attention_kwargs", "num_timesteps")
CALLS: list[dict[str, Any]] = [
    {"guidance_scale": 3.0, "guidance_rescale": 0.25, "clip_skip": None, "num_inference_steps": 4},
    {"guidance_scale": 5.0, "guidance_rescale": 0.5, "clip_skip": 1, "num_inference_steps": 4},
    {"guidance_scale": 1.0, "guidance_rescale": 0.0, "clip_skip": 0, "num_inference_steps": 4},
]


def shown(pipe) -> dict[str, Any]:
    return {name: getattr(pipe, name) for name in SHOWN}


def draw(pipe, number: int, callback=None) -> torch.Tensor:
    """One of `CALLS`, with a dictionary of its own for the attention processors."""
    settings = {**CALLS[number], "output_type": "latent", "callback_on_step_end": callback}
    return pipe("paris in the rain", seed=number, cross_attention_kwargs={}, **settings).images


def halving(pipe, step, timestep, tensors):
    """A callback that lowers its own call's guidance, as diffusers' docs show it."""
    pipe._guidance_scale = pipe.guidance_scale * 0.5
    return tensors


class Counter:
    """A callback that counts, and sets `_interrupt` at one step."""

    def __init__(self, *, stops_at: int | None = None) -> None:
        self.steps, self.stops_at = 0, stops_at

    def __call__(self, pipe, step, timestep, tensors):
        self.steps += 1
        pipe._interrupt = step == self.stops_at
        return tensors


def test_calls_of_several_threads_each_see_their_own_settings_at_every_step(eps_pipe):
    alone = [draw(eps_pipe, number, halving) for number in range(3)]
    step_together = threading.Barrier(3, timeout=PATIENCE_SECONDS)

    def work(number: int) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        seen = []

        def callback(pipe, step, timestep, tensors):
            step_together.wait()
            seen.append(shown(pipe))
            halving(pipe, step, timestep, tensors)
            step_together.wait()  # every call has changed its scale
            seen.append(shown(pipe))
            return tensors

        return draw(eps_pipe, number, callback), seen

    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(work, range(3)))
    for number, (drawn, seen) in enumerate(together):
        settings = CALLS[number]
        scales = [settings["guidance_scale"] * 0.5 ** (i // 2 + i % 2) for i in range(8)]
        assert [one["guidance_scale"] for one in seen] == scales
        for one in seen:
            assert one["guidance_rescale"] == settings["guidance_rescale"]
            assert one["clip_skip"] == settings["clip_skip"] and one["num_timesteps"] == 4
        assert torch.allclose(drawn, alone[number], atol=1e-4)


def test_an_onlooker_sees_the_latest_call_and_a_callback_its_own(eps_pipe):
    found = {}

    def callback(pipe, step, timestep, tensors):
        with ThreadPoolExecutor(1) as onlooker:
            found[step] = onlooker.submit(shown, pipe).result(PATIENCE_SECONDS)
        return tensors

    draw(eps_pipe, 1, callback)
    assert set(found) == {0, 1, 2, 3}
    for one in found.values():
        assert one == shown(eps_pipe)
        assert (one["guidance_scale"], one["clip_skip"], one["num_timesteps"]) == (5.0, 1, 4)


def test_an_interrupt_from_another_thread_stops_all_calls_and_no_later_one(eps_pipe):
    steps, arrived = [0, 0, 0], threading.Barrier(4, timeout=PATIENCE_SECONDS)

    def work(number: int) -> bool:
        def callback(pipe, step, timestep, tensors):
            steps[number] += 1
            pipe._interrupt = False  # a callback that has nothing against going on
            if step == 1:
                arrived.wait()
                arrived.wait()
            return tensors

        draw(eps_pipe, number, callback)
        return eps_pipe.interrupt

    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(work, number) for number in range(3)]
        arrived.wait()
        eps_pipe._interrupt = True
        assert eps_pipe.interrupt
        arrived.wait()
        assert [call.result(PATIENCE_SECONDS) for call in calls] == [True] * 3
    assert steps == [2, 2, 2]
    draw(eps_pipe, 0, count := Counter())
    assert count.steps == 4 and not eps_pipe.interrupt


def test_a_call_that_begins_does_not_let_an_interrupted_one_go_on(eps_pipe):
    reached, go_on = threading.Event(), threading.Event()
    first, second = Counter(), Counter()

    def waiting(pipe, step, timestep, tensors):
        reached.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return first(pipe, step, timestep, tensors)

    with ThreadPoolExecutor(2) as threads:
        waits = threads.submit(draw, eps_pipe, 0, waiting)
        assert reached.wait(PATIENCE_SECONDS)
        eps_pipe._interrupt = True
        threads.submit(draw, eps_pipe, 1, second).result(PATIENCE_SECONDS)
        draw(eps_pipe, 2, second)
        go_on.set()
        waits.result(PATIENCE_SECONDS)
    assert (first.steps, second.steps) == (1, 8)


def test_a_callback_stops_its_own_call_and_the_next_one_runs(eps_pipe):
    for stops_at, steps in ((0, 1), (2, 3), (None, 4)):
        draw(eps_pipe, 0, count := Counter(stops_at=stops_at))
        assert count.steps == steps and eps_pipe.interrupt == (stops_at is not None)


def test_a_call_inside_a_callback_leaves_the_outer_ones_settings_alone(eps_pipe):
    seen = []

    def drawing(pipe, step, timestep, tensors):
        before = shown(pipe)
        draw(pipe, 1)
        seen.append(shown(pipe) == before)
        return halving(pipe, step, timestep, tensors)

    assert torch.allclose(draw(eps_pipe, 0, drawing), draw(eps_pipe, 0, halving), atol=1e-4)
    assert seen == [True] * 4


def test_a_call_inside_a_callback_that_stops_the_outer_one_runs(eps_pipe):
    outer, inner = Counter(stops_at=1), Counter()

    def stopping(pipe, step, timestep, tensors):
        tensors = outer(pipe, step, timestep, tensors)
        if pipe.interrupt:
            draw(pipe, 1, inner)
        return tensors

    draw(eps_pipe, 0, stopping)
    assert (outer.steps, inner.steps) == (2, 4) and eps_pipe.interrupt


def test_a_call_that_fails_gives_its_place_back(eps_pipe):
    def failing(pipe, step, timestep, tensors):
        raise KeyError("mine")

    def catching(pipe, step, timestep, tensors):
        with pytest.raises(KeyError, match="mine"):
            draw(pipe, 1, failing)
        assert pipe.guidance_scale == 3.0
        return tensors

    draw(eps_pipe, 0, catching)


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        LatentDiffusionPipeline.from_pipe,
        lambda pipe: diffusers.DiffusionPipeline.from_pipe.__func__(LatentDiffusionPipeline, pipe),
    ],
    ids=["deepcopy", "from_pipe", "diffusers' from_pipe"],
)
def test_a_copy_of_a_pipeline_draws_the_same_and_has_calls_of_its_own(eps_pipe, copied):
    drawn, found = draw(eps_pipe, 0), []

    def copying(pipe, step, timestep, tensors):
        if step == 0:
            other = copied(pipe)
            other.set_progress_bar_config(disable=True)
            found.append(draw(other, 0))
            assert (other.guidance_scale, pipe.guidance_scale) == (3.0, 3.0)
            draw(other, 1)
            other._interrupt = True
            assert (other.guidance_scale, pipe.guidance_scale) == (5.0, 3.0)
        return tensors

    assert torch.equal(draw(eps_pipe, 0, copying), drawn)
    assert not eps_pipe.interrupt and torch.allclose(found[0], drawn, atol=1e-4)
    assert not [name for name in eps_pipe.config if "guidance" in name or "interrupt" in name]


def test_a_pickled_pipeline_draws_the_same(eps_pipe):
    fresh = tiny.make_pipeline("epsilon")  # once it has run, transformers' hooks do not go into a pickle
    fresh._guidance_scale = 9.0
    other = pickle.loads(pickle.dumps(fresh))
    assert (fresh.guidance_scale, other.guidance_scale) == (9.0, 0.0)
    assert torch.allclose(draw(other, 0), draw(eps_pipe, 0), atol=1e-4)
