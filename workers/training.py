"""Learners of training loops, each in a separate process next to the driver, from its first update
to its last.

torch and its threads must not stay in the driver, and starting a process for each update would take
longer than the update.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from agents.core.artifacts import Content, LoopRecipe
from agents.core.errors import AgentError, CrsweepError, blaming
from workers.artifacts.fits import FitLost, Input
from workers.processes.parent_watch import end_with_parent


@dataclass(frozen=True)
class LearnerSpec:
    """Everything that a learner's process needs. Crosses processes."""

    recipe: LoopRecipe
    seed: int
    start: Input


class LearnerProcess:
    """A learner (`agents.core.artifacts.Learner`) in another process. One call at a time.

    Methods raise the learner's errors (AgentError for its own code), and FitLost if its process
    ends.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, its = context.Pipe()
        self._process = context.Process(target=_serve, args=(its,), daemon=True)
        self._process.start()
        its.close()

    async def begin(self, spec: LearnerSpec, state: Content | None) -> int:
        """Creates the learner. Returns how many updates its state includes."""
        return await self._ask("begin", spec, state)

    async def weights(self) -> Content:
        return await self._ask("weights")

    async def update(self, rollouts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        return await self._ask("update", list(rollouts))

    async def state(self) -> Content:
        return await self._ask("state")

    async def result(self) -> Content:
        return await self._ask("result")

    async def close(self) -> None:
        """Kills the process."""
        self._process.kill()
        await asyncio.to_thread(self._process.join)
        self._pipe.close()

    async def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            await asyncio.to_thread(self._pipe.send, (method, arguments))
            found = await asyncio.to_thread(self._pipe.recv)
        except (EOFError, OSError):
            await asyncio.to_thread(self._process.join)
            raise FitLost(f"its process ended with exit code {self._process.exitcode}") from None
        if isinstance(found, CrsweepError):
            raise found
        return found


def _serve(pipe: Connection) -> None:
    """The child process: answers until the other end is closed."""
    # An interrupt at the terminal also reaches this process; the driver decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    learner: Any = None
    with suppress(EOFError, BrokenPipeError):
        while True:
            method, arguments = pipe.recv()
            try:
                with blaming(AgentError):
                    if method == "begin":
                        spec, state = arguments
                        learner = spec.recipe.learner(spec.start.content(), spec.seed, state)
                        found = learner.done
                    else:
                        found = getattr(learner, method)(*arguments)
            except CrsweepError as error:
                found = error
            pipe.send(found)
