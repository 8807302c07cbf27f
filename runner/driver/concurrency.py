"""`run.concurrency: auto`: passes the reports of workers and engines to the controller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from runner.driver.scheduler import RunListener
from runner.placement.elastic import MIN_WORKERS
from sweeps.manifest import ConcurrencyEntry
from sweeps.schema import Run
from workers.core.concurrency import START, AdaptiveLimit, Load, total_load
from workers.executors.pool import Report

_ADJUST_EVERY = 1.0  # seconds: engines report as often


class Concurrency:
    """How many tasks run at once over `workers` processes: fixed, or adapted.

    `loads` returns the load of each engine of the run, by key.
    """

    def __init__(self, run: Run, workers: int, loads: Callable[[], Mapping[str, Load]]) -> None:
        self._fixed = None if run.concurrency == "auto" else run.concurrency
        self._adaptive = AdaptiveLimit(max(START, workers), least=workers)
        self._loads = loads
        self._reports: dict[str, Report] = {}
        self._answered = 0

    @property
    def adapts(self) -> bool:
        return self._fixed is None

    def limit(self) -> int:
        """The current number of tasks at once."""
        return self._adaptive.limit if self._fixed is None else self._fixed

    def entry(self) -> ConcurrencyEntry | None:
        """The manifest entry; None if nothing is adapted."""
        if not self.adapts:
            return None
        return ConcurrencyEntry(
            now=self.limit(),
            moves=[(move.at, move.limit, move.reason) for move in self._adaptive.moves],
        )

    def observing(self, listener: RunListener) -> RunListener:
        """A listener that records the reports and forwards them to `listener`."""
        return _Observer(self, listener)

    def record(self, worker: str, report: Report) -> None:
        self._reports[worker] = report
        self._answered += report.counts.calls - report.counts.cached

    def forget(self, worker: str) -> None:
        """Discards the reports of a lost worker."""
        self._reports.pop(worker, None)

    def adjust(self) -> None:
        """Lets the controller decide, based on the latest reports."""
        known: dict[str, list[Load]] = {name: [load] for name, load in self._loads().items()}
        for report in self._reports.values():
            for name, load in report.loads.items():
                known.setdefault(name, []).append(load)
        self._adaptive.observe(
            sum(report.busy for report in self._reports.values()),
            self._answered,
            {name: total_load(loads) for name, loads in known.items()},
        )

    async def keep_adjusting(self) -> None:
        while self.adapts:
            await asyncio.sleep(_ADJUST_EVERY)
            self.adjust()


class _Observer:
    def __init__(self, concurrency: Concurrency, listener: RunListener) -> None:
        self._concurrency, self._listener = concurrency, listener

    def counted(self, worker: str, report: Report) -> None:
        self._concurrency.record(worker, report)
        self._listener.counted(worker, report)

    def lost(self, worker: str, again: int) -> None:
        self._concurrency.forget(worker)
        self._listener.lost(worker, again)


def first_slots(run: Run, workers: int) -> int:
    """The number of tasks at once that each worker starts with."""
    first = max(START, workers) if run.concurrency == "auto" else run.concurrency
    return -(-first // workers)


def worker_count(run: Run) -> int:
    """The number of processes to start with; no more than tasks at once."""
    if run.executor == "local":
        return 1
    count = MIN_WORKERS if run.episode_workers == "auto" else run.episode_workers
    return count if run.concurrency == "auto" else min(count, run.concurrency)
