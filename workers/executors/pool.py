"""A pool of slots in one process: hundreds of tasks on one event loop, without barriers.

- A slot takes the next task as soon as its last one ends.
- Finished attempts are written in bundles: after `FLUSH_ATTEMPTS`, or `FLUSH_SECONDS` after the
  first of them. While one bundle is written, the next one fills; when that is full too, slots wait,
  so at most two bundles (256 attempts) of finished work are uncommitted.
- For kinds that are committed, an outcome is reported once the attempt is committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from agents.core.ask import CallLog, CallRecord
from agents.core.errors import InternalError, ModelUnavailable
from sweeps.storage.records import COMMITS
from sweeps.tasks import Outcome, Task
from workers.artifacts.store import Prepared
from workers.core.attempts import StoredAttempt, Tables
from workers.core.concurrency import Load
from workers.core.usage import CallCounts, Usage, add, counts_of, usage_of
from workers.engines.clients import Losses
from workers.kinds.handlers import TaskRunner
from workers.results.bundles import BundleWriter, Unstorable, check_rows

log = logging.getLogger(__name__)

FLUSH_ATTEMPTS = 128
FLUSH_SECONDS = 4.0


class Report(NamedTuple):
    """What happened in a pool since its last report.

    `counts` and `paid` cover calls that ended, including those of running tasks; each call is in
    exactly one report. `losses` covers the whole run so far: calls that were in engines when those
    died.
    """

    outcomes: list[Outcome]
    counts: CallCounts
    running: Mapping[str, int]
    """Kind -> tasks begun and not committed yet, for kinds that are committed."""
    waiting: int
    """Tasks that have not begun."""
    losses: Losses | None = None
    wanted: frozenset[str] = frozenset()
    """Keys of engines that calls wait for."""
    paid: Mapping[str, Usage] = {}
    free: int = 0
    """Idle slots."""
    progress: Mapping[str, Mapping[str, tuple[int, int]]] = {}
    """Kind -> id of a running task that shows its progress -> (calls made, total calls)."""
    busy: int = 0
    """Busy slots."""
    loads: Mapping[str, Load] = {}
    """The load of engines and servers by this process (`Resources.loads`)."""
    unavailable: str | None = None
    """Why a model serves no call at all. Nothing more is begun here."""


class _Meter:
    """Reads the new entries of a journal."""

    def __init__(self) -> None:
        self.journal = CallLog()
        self._read = 0

    def read(self) -> list[CallRecord]:
        new = self.journal.records[self._read :]
        self._read += len(new)
        return new


class TaskPool:
    """Runs the tasks it is given. Used in the driver's process, or inside an actor."""

    def __init__(self, runner: TaskRunner, writer: BundleWriter, slots: int) -> None:
        self._runner = runner
        self._writer = writer
        self._slots = slots
        self._waiting: deque[Task] = deque()
        self._work = asyncio.Semaphore(0)
        self._finished: list[StoredAttempt] = []
        self._outcomes: list[Outcome] = []
        self._running = 0
        self._uncommitted: Counter[str] = Counter()
        self._counts = CallCounts()
        self._progress: dict[str, dict[str, tuple[int, int]]] = {}
        self._paid: dict[str, Usage] = {}
        self._meters: set[_Meter] = set()
        self._news = asyncio.Event()
        self._due = asyncio.Event()  # something is finished: the clock of the next bundle runs
        self._flushing = asyncio.Lock()
        self._failure: BaseException | None = None
        self._unavailable: str | None = None
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._slot_count = 0  # tasks that are slots, also those that are to end
        self._begin(self._clock())
        self.resize(slots)

    def provide(self, artifacts: Iterable[Prepared]) -> None:
        """Takes artifacts that agents of later tasks need."""
        self._runner.resources.provide(artifacts)

    def add(self, tasks: Sequence[Task]) -> None:
        """Queues tasks."""
        if self._unavailable is not None:
            return
        self._waiting.extend(tasks)
        for _ in tasks:
            self._work.release()

    def resize(self, slots: int) -> None:
        """Changes the number of tasks at once; running ones are not interrupted."""
        self._slots = slots
        while self._slot_count < slots:
            self._slot_count += 1
            self._begin(self._slot())
        for _ in range(min(self._slot_count - slots, self._slot_count - self._running)):
            self._work.release()  # an idle slot is one too many

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def withdraw(self) -> None:
        """Drops tasks that have not begun."""
        self._waiting.clear()

    async def report(self, wait: float, drain: bool = False) -> Report:
        """News, after at most `wait` seconds. Raises whatever broke the pool.

        `drain` means that no more tasks will come: an empty pool then commits at once instead of
        waiting for a fuller bundle.
        """
        if drain and not self._waiting and self._running == 0:
            await self._flush()
        quiet = not self._outcomes and self._unavailable is None
        if quiet and self._failure is None:
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                pass  # an empty report still carries the counters
        self._news.clear()
        if self._failure is not None:
            raise self._failure
        self._count(self._meters)
        report = Report(
            self._outcomes,
            self._counts,
            dict(self._uncommitted),
            len(self._waiting),
            self._runner.resources.engines.losses(),
            self._runner.resources.engines.wanted(),
            self._paid,
            max(0, self._slots - self._running),
            {kind: dict(tasks) for kind, tasks in self._progress.items() if tasks},
            self._running,
            self._runner.resources.loads(),
            self._unavailable,
        )
        self._outcomes, self._counts, self._paid = [], CallCounts(), {}
        return report

    async def stop(self) -> Report:
        """Ends all slots, commits what is finished, and returns the last report."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failure is None:
            await self._flush()
        await self._runner.resources.close()
        return await self.report(0)

    async def _slot(self) -> None:
        while not self._stopping:  # a plug-in may have swallowed the cancellation
            if self._slot_count > self._slots:
                break
            if not self._waiting:
                self._news.set()  # more may be had
            await self._work.acquire()
            if self._slot_count > self._slots:
                if self._waiting:
                    self._work.release()  # another slot's
                break
            if not self._waiting:
                continue  # the task was withdrawn
            await self._run(self._waiting.popleft())
        self._slot_count -= 1

    async def _run(self, task: Task) -> None:
        kind, progress = task.kind, self._progress.setdefault(task.kind, {})
        commits = kind in COMMITS
        self._uncommitted[kind] += commits
        try:
            with self._metered() as calls:
                attempt = await self._runner.run(
                    task, calls, lambda done, most: progress.update({task.id: (done, most)})
                )
        finally:
            progress.pop(task.id, None)
        if isinstance(attempt.error, ModelUnavailable):
            self._give_up(attempt.error.message)
        if not commits:
            self._outcomes.append(attempt.outcome)
            self._news.set()
            return
        assert isinstance(attempt, StoredAttempt)
        while len(self._finished) >= FLUSH_ATTEMPTS:
            await self._flush(FLUSH_ATTEMPTS)
        self._finished.append(attempt)
        self._due.set()
        if len(self._finished) >= FLUSH_ATTEMPTS and not self._flushing.locked():
            await self._flush(FLUSH_ATTEMPTS)
        else:
            await asyncio.sleep(0)  # a model that never waits must not starve the rest

    def _give_up(self, reason: str) -> None:
        """Begins nothing more, because every call of the model would be refused like this one."""
        self._unavailable = self._unavailable or reason
        self.withdraw()
        self._news.set()

    @contextmanager
    def _metered(self) -> Iterator[CallLog]:
        """A busy slot: calls are counted and charged when they enter the journal."""
        meter = _Meter()
        self._running += 1
        self._meters.add(meter)
        try:
            yield meter.journal
        finally:
            self._running -= 1
            self._meters.discard(meter)
            self._count([meter])

    def _count(self, meters: Iterable[_Meter]) -> None:
        # All at once: among hundreds of running tasks, few have ended a call since the last report.
        new = [record for meter in meters for record in meter.read()]
        self._counts = self._counts.plus(counts_of(new))
        add(self._paid, usage_of(new))

    async def _clock(self) -> None:
        while True:
            await self._due.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            await self._flush()

    async def _flush(self, least: int = 1) -> None:
        """Commits what is finished once no other bundle is being written, if by then it is still
        `least` attempts: of hundreds of slots that wait for room, one writes."""
        # Shielded: cancelling a slot must not separate a bundle from its report.
        await asyncio.shield(asyncio.ensure_future(self._write_bundle(least)))

    async def _write_bundle(self, least: int) -> None:
        async with self._flushing:
            if len(self._finished) < least:
                return
            batch, self._finished = self._finished, []
            self._due.clear()
            batch = await asyncio.to_thread(self._write, batch)
            self._uncommitted.subtract(attempt.task.kind for attempt in batch)
            self._outcomes += [attempt.outcome for attempt in batch]
            self._news.set()

    def _write(self, batch: list[StoredAttempt]) -> list[StoredAttempt]:
        """Commits `batch`, and returns the attempts as committed."""
        try:
            self._writer.write(_rows(batch))
        except Unstorable as error:
            log.error("a bundle contains a value that cannot be stored: %s", error)
            batch = [attempt.storable(check_rows) for attempt in batch]
            self._writer.write(_rows(batch))
        return batch

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is None:
            return  # a surplus slot
        if self._failure is not None or (task.cancelled() and self._stopping):
            return
        if task.cancelled():  # the run would wait forever for its task
            self._failure = InternalError("a plug-in cancelled the task that runs its episode")
        else:
            self._failure = task.exception()
        self._news.set()


def _rows(batch: Sequence[StoredAttempt]) -> Tables:
    found: Tables = {}
    for attempt in batch:
        for name, rows in attempt.rows().items():
            found.setdefault(name, []).extend(rows)
    return found
