"""What the driver does with the outcomes of each kind of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from runner.driver.artifacts import Preparation
from runner.driver.scheduler import LeaseQueue, OutcomeReceiver
from runner.driver.streams import Streams
from sweeps.artifacts import ARTIFACT
from sweeps.storage.records import EPISODE, JUDGEMENT, ROLLOUT
from sweeps.tasks import Outcome


class RunParts(NamedTuple):
    """The parts of a run that can receive outcomes."""

    counters: OutcomeReceiver
    """Counts and displays outcomes, and stops a run with too many failures."""
    preparation: Preparation
    streams: Streams | None = None
    queue: LeaseQueue | None = None
    """The queue to which `streams` offer the next tasks of a chain."""


class _Episodes:
    """Counts episodes, and lets chains continue."""

    def __init__(self, run: RunParts) -> None:
        self._run = run

    async def received(self, outcome: Outcome, final: bool) -> None:
        await self._run.counters.received(outcome, final)
        if final and self._run.streams is not None and self._run.queue is not None:
            self._run.queue.offer(self._run.streams.settled(outcome))

    def progressed(self, progress: Mapping[str, tuple[int, int]]) -> None:
        self._run.counters.progressed(progress)


RECEIVERS: dict[str, Callable[[RunParts], OutcomeReceiver]] = {
    EPISODE: _Episodes,
    ARTIFACT: lambda run: run.preparation,
    JUDGEMENT: lambda run: run.counters,
    ROLLOUT: lambda run: run.preparation.loops.rollouts,
}
"""Kind -> what receives the outcomes and the progress of its tasks."""


def receivers_of(run: RunParts) -> dict[str, OutcomeReceiver]:
    """The receivers of a run, by kind."""
    return {kind: receiver(run) for kind, receiver in RECEIVERS.items()}
