"""A pool of episode slots in one process: hundreds of dialogues on one event loop, no barriers.

- A slot takes the next episode as soon as its last one ends.
- Finished attempts are written in bundles: after `FLUSH_EPISODES`, or `FLUSH_SECONDS` after the
  first of them. While one bundle is being written the next one fills; when that is full too, slots
  wait, so at most two bundles (256 episodes) of finished work are ever uncommitted.
- What a report calls settled is committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from agents.core.ask import CallLog, CallRecord
from agents.core.errors import InternalError, ModelUnavailable
from sweeps.artifacts import PrepareRef
from sweeps.plan import Ref
from workers.artifacts.store import Prepared
from workers.backends.vllm.client.clients import Losses
from workers.episodes import EpisodeRunner, Made
from workers.results.bundles import BundleWriter, Unstorable, check_rows
from workers.results.rows import Attempt, Row, Tables, tables_of, without_what_cannot_be_stored
from workers.usage import CallCounts, Usage, add, counts_of, usage_of

log = logging.getLogger(__name__)

FLUSH_EPISODES = 128
FLUSH_SECONDS = 4.0


class Settled(NamedTuple):
    """One attempt that is committed, and how it ended."""

    ref: Ref
    status: str
    blame: str | None
    error_class: str | None
    error: str | None


class Report(NamedTuple):
    """What happened in a pool since its last report.

    `running` counts episodes begun and not committed yet, `waiting` those not begun. `counts` and
    `paid` are of calls that ended, also in dialogues that still run: each call is in one report.
    `losses` are of the whole run so far: calls that were in engines when those died.
    """

    settled: list[Settled]
    counts: CallCounts
    running: int
    waiting: int
    losses: Losses | None = None
    wanted: frozenset[str] = frozenset()
    """Keys of the engines that calls wait for."""
    paid: Mapping[str, Usage] = {}
    free: int = 0
    """Slots that have nothing to do."""
    made: Sequence[Made] = ()
    """Attempts at artifacts that ended."""
    preparing: Mapping[str, tuple[int, int]] = {}
    """Key of an artifact in work -> calls made, and of how many."""
    unavailable: str | None = None
    """Why a model serves no call at all. Nothing more is begun here."""


class _Meter:
    """Reads from a journal what was not read yet."""

    def __init__(self) -> None:
        self.journal = CallLog()
        self._read = 0

    def read(self) -> list[CallRecord]:
        new = self.journal.records[self._read :]
        self._read += len(new)
        return new


class EpisodePool:
    """Runs what it is given. Used in the driver's process, or inside an actor."""

    def __init__(self, runner: EpisodeRunner, writer: BundleWriter, slots: int) -> None:
        self._runner = runner
        self._writer = writer
        self._slots = slots
        self._waiting: deque[Ref | PrepareRef] = deque()
        self._work = asyncio.Semaphore(0)
        self._finished: list[Attempt] = []
        self._settled: list[Settled] = []
        self._running = self._uncommitted = 0
        self._counts = CallCounts()
        self._made: list[Made] = []
        self._preparing: dict[str, tuple[int, int]] = {}
        self._paid: dict[str, Usage] = {}
        self._meters: set[_Meter] = set()
        self._news = asyncio.Event()
        self._due = asyncio.Event()  # something is finished: the clock of the next bundle runs
        self._flushing = asyncio.Lock()
        self._failure: BaseException | None = None
        self._unavailable: str | None = None
        self._stopping = False
        self._tasks = [asyncio.create_task(self._slot()) for _ in range(slots)]
        self._tasks.append(asyncio.create_task(self._clock()))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def provide(self, artifacts: Iterable[Prepared]) -> None:
        """Takes what the agents of later episodes need prepared."""
        self._runner.provide(artifacts)

    def add(self, refs: Sequence[Ref | PrepareRef]) -> None:
        """Queues episodes, and artifacts to be made."""
        if self._unavailable is not None:
            return
        self._waiting.extend(refs)
        for _ in refs:
            self._work.release()

    def withdraw(self) -> None:
        """Forgets what has not begun."""
        self._waiting.clear()

    async def report(self, wait: float, drain: bool = False) -> Report:
        """News, after at most `wait` seconds. Raises what broke the pool, if anything did.

        `drain` says that no more episodes will come: a pool that has run dry then commits at
        once what it would have kept for a fuller bundle.
        """
        if drain and not self._waiting and self._running == 0:
            await self._flush()
        quiet = not self._settled and not self._made and self._unavailable is None
        if quiet and self._failure is None:
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                pass  # no news is a report too: it carries the counters
        self._news.clear()
        if self._failure is not None:
            raise self._failure
        for meter in self._meters:
            self._count(meter)
        report = Report(
            self._settled,
            self._counts,
            self._uncommitted,
            len(self._waiting),
            self._runner.engines.losses(),
            self._runner.engines.wanted(),
            self._paid,
            self._slots - self._running,
            self._made,
            dict(self._preparing),
            self._unavailable,
        )
        self._settled, self._counts, self._paid, self._made = [], CallCounts(), {}, []
        return report

    async def stop(self) -> Report:
        """Ends all slots, commits what is finished, and reports for the last time."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failure is None:
            await self._flush()
        await self._runner.close()
        return await self.report(0)

    async def _slot(self) -> None:
        while not self._stopping:  # a plug-in may have swallowed the cancellation
            if not self._waiting:
                self._news.set()  # more may be had
            await self._work.acquire()
            if not self._waiting:
                continue  # what this slot was to begin was withdrawn
            ref = self._waiting.popleft()
            if isinstance(ref, PrepareRef):
                await self._prepare(ref)
            else:
                await self._play(ref)

    async def _play(self, ref: Ref) -> None:
        self._uncommitted += 1
        with self._metered() as journal:
            attempt = await self._runner.run(ref, journal=journal)
        if isinstance(attempt.error, ModelUnavailable):
            self._give_up(attempt.error.message)
        while len(self._finished) >= FLUSH_EPISODES:
            await self._flush()
        self._finished.append(attempt)
        self._due.set()
        if len(self._finished) >= FLUSH_EPISODES and not self._flushing.locked():
            await self._flush()
        else:
            await asyncio.sleep(0)  # a model that never waits must not starve the rest

    async def _prepare(self, ref: PrepareRef) -> None:
        def report(done: int, most: int) -> None:
            self._preparing[ref.key] = (done, most)

        try:
            with self._metered() as journal:
                made = await self._runner.prepare(ref, report, journal)
        finally:
            self._preparing.pop(ref.key, None)
        if made.error_class == ModelUnavailable.__name__:
            self._give_up(made.error or "")
        self._made.append(made)
        self._news.set()

    def _give_up(self, reason: str) -> None:
        """Begins nothing more: every call of the model would be refused as this one was."""
        self._unavailable = self._unavailable or reason
        self.withdraw()
        self._news.set()

    @contextmanager
    def _metered(self) -> Iterator[CallLog]:
        """A slot at work: calls are counted and paid for as they go into the journal."""
        meter = _Meter()
        self._running += 1
        self._meters.add(meter)
        try:
            yield meter.journal
        finally:
            self._running -= 1
            self._meters.discard(meter)
            self._count(meter)

    def _count(self, meter: _Meter) -> None:
        new = meter.read()
        self._counts = self._counts.plus(counts_of(new))
        add(self._paid, usage_of(new))

    async def _clock(self) -> None:
        while True:
            await self._due.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            await self._flush()

    async def _flush(self) -> None:
        # Shielded: a slot that is cancelled must not cut a bundle loose from its report.
        await asyncio.shield(asyncio.ensure_future(self._write_bundle()))

    async def _write_bundle(self) -> None:
        async with self._flushing:
            batch, self._finished = self._finished, []
            self._due.clear()
            if not batch:
                return
            batch = await asyncio.to_thread(self._write, batch)
            self._uncommitted -= len(batch)
            for attempt in batch:
                error = attempt.error
                self._settled.append(
                    Settled(
                        attempt.ref,
                        attempt.status,
                        error.blame if error else None,
                        type(error).__name__ if error else None,
                        error.message if error else None,
                    )
                )
            self._news.set()

    def _write(self, batch: list[Attempt]) -> list[Attempt]:
        """Commits `batch`; the attempts as they were committed."""
        try:
            self._writer.write(self._rows(batch))
        except Unstorable as error:
            log.error("a bundle holds what cannot be stored: %s", error)
            batch = [without_what_cannot_be_stored(attempt, check_rows) for attempt in batch]
            self._writer.write(self._rows(batch))
        return batch

    def _rows(self, batch: Sequence[Attempt]) -> Tables:
        job, found = self._runner.job, dict[str, list[Row]]()
        for attempt in batch:
            cell = job.cells[attempt.ref.cell]
            for name, rows in tables_of(attempt, cell, job.sources[cell.source].source_id).items():
                found.setdefault(name, []).extend(rows)
        return found

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._failure is not None or (task.cancelled() and self._stopping):
            return
        if task.cancelled():  # the run would wait for ever for what it was doing
            self._failure = InternalError("a plug-in cancelled the task that runs its episode")
        else:
            self._failure = task.exception()
        self._news.set()
