"""What the driver does with each kind of task."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from runner.driver.artifacts import Preparation
from runner.driver.scheduler import Receiver
from sweeps.artifacts import ARTIFACT
from sweeps.storage.records import EPISODE, JUDGEMENT


class RunParts(NamedTuple):
    """The parts of a run that can receive outcomes."""

    counters: Receiver
    """Counts and shows outcomes, and stops a run in which too many fail."""
    preparation: Preparation


RECEIVERS: dict[str, Callable[[RunParts], Receiver]] = {
    EPISODE: lambda run: run.counters,
    ARTIFACT: lambda run: run.preparation,
    JUDGEMENT: lambda run: run.counters,
}
"""Kind -> what receives the outcomes and the progress of its tasks."""


def receivers_of(run: RunParts) -> dict[str, Receiver]:
    """The receivers of a run, by kind."""
    return {kind: receiver(run) for kind, receiver in RECEIVERS.items()}
