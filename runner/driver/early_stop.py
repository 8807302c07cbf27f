"""Stops a run early: too many failures, a cap that is reached, a model that serves no call.

- *Too many failures* closes the queue: no further task begins; running ones end,
  because they are already paid for.
- *A cap* stops the run as an interrupt does: calls in flight are given up, and so are the dialogues
  that wait for them; what is finished is committed.
- *A model that serves no call* (a wrong key, an empty account, an unknown name) stops the run the
  same way: every further call would be refused as well.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from runner.driver.budget import Budget
from runner.driver.scheduler import LeaseQueue, RunListener
from sweeps.tasks import Outcome
from workers.core.usage import add
from workers.executors.pool import Report

LEAST_FAILURES = 10  # of one cause: fewer say little about a share


class Display(RunListener, Protocol):
    """Shows the progress of the run."""

    def settled(self, outcome: Outcome, final: bool) -> None: ...


class EarlyStop:
    """Stops the run early. It counts outcomes between the scheduler and the display.

    `say` prints a line at once. `max_failed` is the share of the tasks of one kind, started in this
    run, that may fail of one cause (blame and error class). Running tasks count as started: failed
    dialogues are short, so otherwise they would dominate those that finish first.
    """

    def __init__(
        self,
        display: Display,
        queue: LeaseQueue,
        stopping: asyncio.Event,
        budget: Budget,
        max_failed: float | None,
        say: Callable[[str], None],
    ) -> None:
        self._display, self._queue, self._stopping = display, queue, stopping
        self._budget, self._max_failed, self._say = budget, max_failed, say
        self._settled: Counter[str] = Counter()
        self._running: dict[str, Mapping[str, int]] = {}
        self._failed: Counter[tuple[str, str, str]] = Counter()
        self._examples: dict[tuple[str, str, str], str] = {}
        self.reason: str | None = None
        """Why the run was stopped, if it was."""
        self.unavailable = False
        """Whether it was because a model serves no call."""

    async def received(self, outcome: Outcome, final: bool) -> None:
        self.settled(outcome, final)

    def progressed(self, progress: Mapping[str, tuple[int, int]]) -> None:
        """Forwards progress of tasks that are displayed one by one."""

    def settled(self, outcome: Outcome, final: bool) -> None:
        """Counts an outcome and displays it."""
        self._display.settled(outcome, final)
        if not final:
            return
        kind = outcome.task.kind
        self._settled[kind] += 1
        if outcome.status == "failed" and outcome.error_class is not None:
            cause = (kind, str(outcome.blame), outcome.error_class)
            self._failed[cause] += 1
            self._examples.setdefault(cause, outcome.error or "")

    def counted(self, worker: str, report: Report) -> None:
        self._display.counted(worker, report)
        self._running[worker] = report.running
        add(self._budget.now, report.paid)
        if self._stopping.is_set():
            return
        if report.unavailable is not None:
            self.unavailable = True
            self._stop(report.unavailable, "running dialogues are interrupted")
            self._stopping.set()
            return
        reached = self._budget.reached()
        if reached is not None:
            self._stop(reached, "running dialogues are interrupted")
            self._stopping.set()
        elif not self._queue.closed:
            failing = self._failing()
            if failing is not None:
                self._stop(failing, "running dialogues may finish")
                self._queue.close()

    def lost(self, worker: str, again: int) -> None:
        # Tasks of a lost worker still count as started: stopping late is better than judging by
        # fewer.
        self._display.lost(worker, again)

    def _failing(self) -> str | None:
        if self._max_failed is None:
            return None
        # Where no failure at all is allowed, there is no share to be sure of.
        least = LEAST_FAILURES if self._max_failed > 0 else 1
        for cause, count in self._failed.most_common():
            kind, blame, error_class = cause
            running = sum(one.get(kind, 0) for one in self._running.values())
            begun = self._settled[kind] + running
            if count >= least and count > self._max_failed * begun:
                return (
                    f"{count:,} of {begun:,} started {kind}s failed with {error_class}, "
                    f"blame {blame}: more than max_failed {self._max_failed:g}; for example: "
                    f"{self._examples[cause][:200]}"
                )
        return None

    def _stop(self, reason: str, then: str) -> None:
        self.reason = reason if self.reason is None else f"{self.reason}; then {reason}"
        self._say(f"stopping: {reason}; {then} ...")
