"""An attempt at a task in the worker that ran it, and the interface of task handlers."""

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
"""Raises Unstorable for rows that a table cannot hold."""

OnProgress = Callable[[int, int], None]
"""Called with the number of calls that a task has made, and the total."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A finished attempt at a task; `error` is what ended it early."""

    task: Task
    error: CrsweepError | None

    @property
    def status(self) -> str:
        return "failed" if self.error is not None else "done"

    @property
    def result(self) -> Any:
        """What the driver receives: for committed kinds, only what another task waits for."""
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
    """An attempt at a task whose kind has a commit table (`sweeps.storage.records.COMMITS`)."""

    __slots__ = ()

    @abstractmethod
    def rows(self) -> Tables:
        """All its rows, including those that commit it."""

    @abstractmethod
    def storable(self, check: Check) -> StoredAttempt:
        """This attempt if all its rows can be stored; otherwise a failed one with those
        that can."""


class Handler(Protocol):
    """Runs the tasks of one kind in one process."""

    async def run(self, task: Task, log: CallLog, on_progress: OnProgress) -> Attempt:
        """One attempt. Errors of the task are part of it; StoreError is raised.

        `log` starts empty and records every call when it ends.
        """
        ...


async def error_of(task: Task, calls: CallLog, work: Awaitable[None]) -> CrsweepError | None:
    """Awaits `work`, which runs `task`, and returns its error. Raises StoreError.

    A bug in crsweep costs one attempt, not the run.
    """
    error: CrsweepError | None = None
    try:
        await work
    except StoreError:
        raise  # a failed write is not an outcome of the task
    except CrsweepError as failed:
        error = failed
        _log_once(task, failed)
    except Exception as fault:  # our own bug: other tasks must not suffer from it
        log.info("attempt %d at %s", task.attempt, task.id, exc_info=True)
        error = InternalError(f"internal error in crsweep: {described(fault)}")
    if error is None or error.blame != "infrastructure":
        error = _swallowed(calls) or error
    return error


_LOGGED_AT_MOST = 100
_logged: set[str] = set()


def _log_once(task: Task, error: CrsweepError) -> None:
    """Logs the traceback of an error in a plug-in's code, once in this process for each message."""
    if error.__cause__ is None or error.message in _logged or len(_logged) >= _LOGGED_AT_MOST:
        return
    _logged.add(error.message)
    log.info("attempt %d at %s", task.attempt, task.id, exc_info=error)


def _swallowed(calls: CallLog) -> CrsweepError | None:
    """An infrastructure failure that a plug-in caught before it continued: its result must not
    count.

    A plain EngineRefused would be the same at every attempt, so it is accepted.
    """
    errors = (record.error for record in calls.records if record.error is not None)
    return next(
        (e for e in errors if e.blame == "infrastructure" and type(e) is not EngineRefused), None
    )
