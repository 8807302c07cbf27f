"""An event loop whose clock jumps: hours pass in no time, and a deadlock is an error."""

from __future__ import annotations

import asyncio
import functools
import heapq
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Deadlock(Exception):
    """Nothing is ready, and nothing ever will be."""


class _Loop(asyncio.SelectorEventLoop):
    _now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        queue: Any = self._scheduled  # type: ignore[attr-defined]
        while queue and queue[0]._cancelled:
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            heapq.heappop(queue)._scheduled = False
        if not self._ready and not self._stopping:  # type: ignore[attr-defined]
            if not queue:
                raise Deadlock(f"at {self._now:g} s")
            self._now = max(self._now, queue[0]._when)
        super()._run_once()  # type: ignore[misc]


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """What `main` gives, on a loop of its own with virtual time."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Makes a coroutine function a test that runs on such a loop."""

    @functools.wraps(test)
    def wrapped(**fixtures: Any) -> None:
        run(test(**fixtures))

    return wrapped


def _now() -> float:
    return asyncio.get_running_loop().time()


TIME = SimpleNamespace(monotonic=_now, time=_now)
"""Replaces the module `time` in code that should read the loop's virtual time."""


@contextmanager
def clock_of(*modules: ModuleType) -> Iterator[pytest.MonkeyPatch]:
    """In `modules`, the module `time` reads the loop's virtual time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "time", TIME)
        yield patch
