"""Whose turn a network is: many runs of it at the same time, or one that alters it, alone.

Knows nothing of what is run or altered.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Turns:
    """The runs of one network under way, and the thread that alters it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.running: dict[int, int] = {}
        """Thread -> its runs under way; a callback may start one inside another."""
        self.alterer: int | None = None

    def others(self) -> bool:
        """Whether another thread runs the network."""
        return any(thread != threading.get_ident() for thread in self.running)


_turns: "weakref.WeakKeyDictionary[Any, _Turns]" = weakref.WeakKeyDictionary()
_looking_up = threading.Lock()


@contextmanager
def turn(network: Any, *, alters: bool) -> Iterator[None]:
    """Wait until `network` may be run, or altered, by this thread, and hold it so.

    Runs that leave the network as it is share it; one that alters it (processors, hooks, a LoRA's scale)
    waits until no other thread runs it, and lets nobody in. A thread may take turns inside its own turns.
    """
    with _looking_up:
        turns = _turns.setdefault(network, _Turns())
    me = threading.get_ident()
    with turns.changed:
        turns.changed.wait_for(lambda: turns.alterer in (None, me) and not (alters and turns.others()))
        outer = turns.alterer
        if alters:
            turns.alterer = me
        turns.running[me] = turns.running.get(me, 0) + 1
    try:
        yield
    finally:
        with turns.changed:
            turns.alterer = outer
            turns.running[me] -= 1
            if not turns.running[me]:
                del turns.running[me]
            turns.changed.notify_all()
