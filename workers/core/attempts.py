"""One attempt at a task in the worker that ran it, and the interface of task handlers."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agents.core.ask import CallLog
from agents.core.errors import CrsweepError, EngineRefused, InternalError, StoreError, described
from sweeps.tasks import Outcome, Task

log = logging.getLogger(__name__)

Row = dict[str, Any]
Tables = dict[str, list[Row]]
"""Rows by table."""

Check = Callable[[str, Sequence[Mapping[str, Any]]], None]
"""Raises Unstorable for rows of a table that it cannot take."""

OnProgress = Callable[[int, int], None]
"""Called with how many calls a task has made, and of how many."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a task that has ended; `error` is what cut it short."""

    task: Task
    error: CrsweepError | None

    @property
    def status(self) -> str:
        return "failed" if self.error is not None else "done"

    @property
    def result(self) -> Any:
        """What the driver is sent: of what is committed, only what another task waits for."""
        return None

    @property
    def outcome(self) -> Outcome:
        error = self.error
        return Outcome(
            self.task,
            self.status,
            error.blame if error else None,
            type(error).__name__ if error else None,
            error.message if error else None,
            self.result,
        )


class StoredAttempt(Attempt, ABC):
    """An attempt of a kind with a commit table (`sweeps.storage.records.COMMITS`)."""

    __slots__ = ()

    @abstractmethod
    def rows(self) -> Tables:
        """All its rows, those that commit it among them."""

    @abstractmethod
    def storable(self, check: Check) -> StoredAttempt:
        """This attempt if all its rows can be stored; else a failed one of those that can."""


class Handler(Protocol):
    """Runs the tasks of one kind in one process."""

    async def run(self, task: Task, log: CallLog, on_progress: OnProgress) -> Attempt:
        """One attempt. What went wrong with the task is in it; StoreError is raised.

        `log` is empty, and records every call as it ends.
        """
        ...


async def error_of(task: Task, calls: CallLog, work: Awaitable[None]) -> CrsweepError | None:
    """Awaits `work`, which runs `task`; what it failed of. Raises StoreError.

    A fault of crsweep costs one attempt, not the run.
    """
    error: CrsweepError | None = None
    try:
        await work
    except StoreError:
        raise  # a failed write is not an outcome of a task
    except CrsweepError as failed:
        error = failed
    except Exception as fault:  # ours: the other tasks must not pay for it
        log.info("attempt %d at %s", task.attempt, task.id, exc_info=True)
        error = InternalError(f"internal error in crsweep: {described(fault)}")
    if error is None or error.blame != "infrastructure":
        error = _swallowed(calls) or error
    return error


def _swallowed(calls: CallLog) -> CrsweepError | None:
    """A failure of infrastructure that a plug-in caught and continued without: what came of it is
    no result. A plain EngineRefused would be the same at every attempt, so it is accepted."""
    errors = (record.error for record in calls.records if record.error is not None)
    return next(
        (e for e in errors if e.blame == "infrastructure" and type(e) is not EngineRefused), None
    )
