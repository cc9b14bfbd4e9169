"""The calls of one pipeline: what each thread's own call shows of itself, and which calls were told to end.

Knows nothing of what a call does or what its settings mean.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any


@dataclass(kw_only=True)
class CallState:
    """What a call shows of itself, under diffusers' names."""

    guidance_scale: float = 0.0
    guidance_rescale: float = 0.0
    clip_skip: int | None = None
    cross_attention_kwargs: dict[str, Any] | None = None
    num_timesteps: int = 0
    interrupts_before: int = 0
    """How often the pipeline's calls were told to end before this one began."""
    running: bool = False


class Calls:
    """The latest call of each thread, the latest of all, and how often calls were told to end."""

    def __init__(self) -> None:
        """Start with a call of nobody, for whoever asks before the first."""
        self._own = threading.local()
        self._latest = CallState()
        self._interrupts = 0
        self._counting = threading.Lock()

    def seen(self) -> CallState:
        """Give this thread's own call, running or last; for a thread without one the latest of any thread."""
        return getattr(self._own, "call", self._latest)

    def change(self, setting: str, value: Any) -> None:
        """Change this thread's own call and no other: a thread without one gets a copy of what it sees."""
        if not hasattr(self._own, "call"):
            self._own.call = replace(self._latest, interrupts_before=self._interrupts, running=False)
        setattr(self._own.call, setting, value)

    @contextmanager
    def running(self, **settings: Any) -> Iterator[None]:
        """Hold a call of this thread under way; one inside another gives its place back at its end."""
        outer = getattr(self._own, "call", None)
        call = CallState(**settings, interrupts_before=self._interrupts, running=True)
        self._own.call = self._latest = call
        try:
            yield
        finally:
            call.running = False
            if outer is not None and outer.running:
                self._own.call = outer

    @property
    def interrupted(self) -> bool:
        """Whether the call that this thread sees was told to end."""
        return self.seen().interrupts_before < self._interrupts

    @interrupted.setter
    def interrupted(self, end: bool) -> None:
        """Tell every call that has begun to end. False forgets that; it lets no running call go on."""
        if end:
            with self._counting:
                self._interrupts += 1
        elif not self.seen().running:
            self.seen().interrupts_before = self._interrupts


# Not an attribute of the pipeline, so that a copy of one, or a pickle, has calls of its own.
_calls: "weakref.WeakKeyDictionary[Any, Calls]" = weakref.WeakKeyDictionary()
_looking_up = threading.Lock()


def calls_of(pipe: Any) -> Calls:
    """Give the calls of a pipeline."""
    with _looking_up:
        if pipe not in _calls:
            _calls[pipe] = Calls()
        return _calls[pipe]


class OfTheCall:
    """A pipeline's attribute that is a setting of the call: each thread reads and changes its own."""

    def __set_name__(self, owner: Any, name: str) -> None:
        """Stand for the field of `CallState` that has the attribute's name, but for the underscore."""
        self._setting = name.removeprefix("_")

    def __get__(self, pipe: Any, owner: Any = None) -> Any:
        """Read it from the call that this thread sees."""
        return self if pipe is None else getattr(calls_of(pipe).seen(), self._setting)

    def __set__(self, pipe: Any, value: Any) -> None:
        """Change it in this thread's own call."""
        calls_of(pipe).change(self._setting, value)
