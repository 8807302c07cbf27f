"""Fits: training that runs in a separate process and reports its progress.

The driver stores states and results. On Ray a fit is a task (`workers.executors.on_ray`), otherwise
a child process, because torch and its threads must not stay in a driver that runs for hours.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Protocol

from agents.core.artifacts import Content, CurvePoint, FitRecipe, Progress
from agents.core.errors import AgentError, CrsweepError, blaming
from simulators.core.profiles import WrittenProfiles
from sweeps.origins import Origins
from sweeps.schema import PluginRef
from sweeps.sources import make_domain
from workers.processes.parent_watch import end_with_parent

Steps = AsyncGenerator[Progress, None]

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"
_SHOW_EVERY = 0.2  # seconds between steps that only report progress


class FitLost(CrsweepError):
    """The process of a fit is gone; another one can resume from the last state."""

    transient = True
    blame = "infrastructure"


class Input(Protocol):
    """Where the process of a fit finds one of its inputs. Crosses processes."""

    def content(self) -> Content:
        """The content. Raises StoreError if it cannot be read."""
        ...


@dataclass(frozen=True)
class FitSpec:
    """Everything that a process needs to fit. Crosses processes.

    States are reported at most every `state_every` seconds.
    """

    recipe: FitRecipe
    domain: PluginRef
    seed: int
    state_every: float
    written: WrittenProfiles | None = None
    """Profiles of the domain's users, if a model has written them."""
    inputs: Mapping[str, Input] = field(default_factory=dict)
    """Where the recipe's inputs are read from."""


def fit_steps(task: FitSpec, state: Content | None) -> Iterator[Progress]:
    """The steps of a fit to report: some for the screen, states that are due, and the last one.

    Raises DataError, and AgentError for errors in the recommender's own code.
    """
    began = saved = time.monotonic()
    shown = 0.0
    curve: list[CurvePoint] = []
    recipe = task.recipe.given({name: each.content() for name, each in task.inputs.items()})
    with blaming(AgentError):
        data = make_domain(task.domain, Origins(), task.written).training_data()
        for step in recipe.fit(data, task.seed, state):
            now = time.monotonic()
            measured = step.measured or {}
            curve += [CurvePoint(name, step.done, value) for name, value in measured.items()]
            due = step.state is not None and now - saved >= task.state_every
            if due:
                saved = now
            if due or step.result is not None or now - shown >= _SHOW_EVERY:
                shown = now
                state = step.state if due else None
                yield step._replace(state=state, seconds=now - began, curve=tuple(curve))
                curve.clear()


async def fit_in_child(task: FitSpec, state: Content | None) -> Steps:
    """Fits in a new process on this machine. Raises its errors, and FitLost if it dies."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=_tell_steps, args=(its, task, state), daemon=True)
    with _one_thread():
        process.start()
    its.close()
    try:
        while True:
            try:
                message = await asyncio.to_thread(mine.recv)
            except EOFError:
                await asyncio.to_thread(process.join)
                raise FitLost(f"its process ended with exit code {process.exitcode}") from None
            if message is None:
                return
            if isinstance(message, CrsweepError):
                raise message
            yield message
    finally:
        process.kill()
        await asyncio.to_thread(process.join)
        mine.close()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Makes child processes multiply matrices on one thread, unless the variable is set.

    OpenBLAS reads it when numpy is imported. Its threads busy-wait for each other if other
    processes need the cores, and another number of threads may change the last bits. (Ray sets its
    own limit.)
    """
    if _BLAS_THREADS in os.environ:
        yield
        return
    os.environ[_BLAS_THREADS] = "1"
    try:
        yield
    finally:
        os.environ.pop(_BLAS_THREADS, None)


def _tell_steps(pipe: Connection, task: FitSpec, state: Content | None) -> None:
    """The child process: sends steps, then None, or the error that ended it."""
    # An interrupt at the terminal also reaches this process; the driver decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    with suppress(BrokenPipeError):
        try:
            for step in fit_steps(task, state):
                pipe.send(step)
            pipe.send(None)
        except CrsweepError as error:
            pipe.send(error)
