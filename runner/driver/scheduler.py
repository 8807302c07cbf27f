"""The scheduler: hands episodes to workers and learns what became of them.

`LeaseQueue` is pure bookkeeping: it owns no tasks, no clock and no I/O. `drive` moves episodes
between it and the workers; a worker that is lost is replaced, and only what it had not committed
is leased again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Protocol

from agents.core.ask import together
from agents.core.errors import REFUSALS, StoreError
from sweeps.artifacts import PrepareRef
from sweeps.plan import Ref
from workers.episodes import Made
from workers.pool import Report, Settled

log = logging.getLogger(__name__)

_REPORT_EVERY = 0.25  # seconds between reports of a worker that has nothing to say
_MOST_AHEAD = 192  # episodes leased beyond a worker's slots, so that quick ones never run dry
_UNPRODUCTIVE_DEATHS = 3  # workers that die in a row without committing: the fault is not chance

Lease = Ref | PrepareRef
"""An episode to be run, or an artifact to be made."""


class Worker(Protocol):
    """A pool of slots, here or elsewhere. A remote one raises `Lost` when it is gone."""

    name: str
    slots: int

    async def add(self, refs: Sequence[Lease]) -> None: ...
    async def withdraw(self) -> None: ...
    async def report(self, wait: float, drain: bool) -> Report: ...
    async def stop(self) -> Report: ...
    def abandon(self) -> None: ...


class LeaseQueue:
    """Which episodes wait, and which worker has which.

    Episodes come in stages, each opened when the one before has given all its own.
    `opened` of them are open from the start, all by default. `retries` is how often an episode
    may be tried again after infrastructure failed it. `count` is how many episodes there are, as
    far as that is known.

    `prepares` holds for each stage the artifacts that its workers make first: no episode of it is
    leased before all of them are `prepared`. Episodes that `skips` says cannot run are left out.
    """

    def __init__(
        self,
        stages: Sequence[Iterator[Ref]],
        retries: int,
        opened: int | None = None,
        count: float = math.inf,
        prepares: Sequence[Sequence[PrepareRef]] = (),
        skips: Callable[[Ref], bool] = lambda ref: False,
    ) -> None:
        self._left = count
        self._stages = stages
        self._retries = retries
        self._prepares = [deque(stage) for stage in prepares or [()] * len(stages)]
        self._unprepared: set[str] = set()
        self._skips = skips
        self._again: deque[Lease] = deque()
        self._leased: dict[str, dict[str, Lease]] = {}
        self._exhausted = 0
        self.opened = len(stages) if opened is None else opened
        """How many stages are open."""
        self._wanted: dict[str, frozenset[str]] = {}
        self.closed = False
        """Whether nothing is leased any more, whatever waits."""

    def open(self) -> None:
        """Opens the next stage."""
        self.opened += 1

    def close(self) -> None:
        """Leases nothing any more."""
        self.closed = True

    def lease(self, worker: str, count: int) -> list[Lease]:
        """Up to `count` leases for `worker`; those to be tried again come first."""
        if self.closed:
            return []
        mine = self._leased.setdefault(worker, {})
        found: list[Lease] = []
        while len(found) < count:
            ref = self._again.popleft() if self._again else self._next()
            if ref is None:
                break
            mine[ref.id] = ref
            found.append(ref)
        self._left -= sum(isinstance(ref, Ref) for ref in found)
        return found

    def prepared(self, key: str) -> None:
        """Notes that an artifact is where workers find it, or will not be in this run."""
        self._unprepared.discard(key)

    def ahead(self, slots: int) -> int:
        """How many episodes one of the workers should have waiting, which have `slots` in all.

        A share of what is left; towards the end none, so that nothing waits beside a free slot.
        """
        if self._left <= slots:
            return 0
        return math.ceil(min(_MOST_AHEAD, self._left / 8))

    def _next(self) -> Lease | None:
        while self._exhausted < self.opened:
            if prepares := self._prepares[self._exhausted]:
                artifact = prepares.popleft()
                self._unprepared.add(artifact.key)
                return artifact
            if self._unprepared:
                return None
            ref = next(self._stages[self._exhausted], None)
            if ref is None:
                self._exhausted += 1
            elif self._skips(ref):
                self._left -= 1
            else:
                return ref
        return None

    @property
    def exhausted(self) -> int:
        """How many stages have given all their episodes; retries may still wait."""
        return self._exhausted

    @property
    def dry(self) -> bool:
        """Whether there is nothing to lease now; a stage may open, a retry may come."""
        if self.closed or self._again:
            return self.closed
        return self._exhausted == self.opened or (
            bool(self._unprepared) and not self._prepares[self._exhausted]
        )

    def outstanding(self) -> set[int]:
        """The cells of all episodes that are leased or wait to be tried again."""
        leased = {ref.cell for refs in self._leased.values() for ref in refs.values()}
        return leased | {ref.cell for ref in self._again}

    def want(self, worker: str, engines: frozenset[str]) -> None:
        """Notes for which engines, by key, calls of `worker` wait."""
        self._wanted[worker] = engines

    @property
    def wanted(self) -> frozenset[str]:
        """Keys of the engines that calls wait for."""
        return frozenset[str]().union(*self._wanted.values())

    def settle(self, worker: str, settled: Settled | Made) -> bool:
        """Notes an attempt that is over; whether that settles its lease for this run."""
        self._leased.get(worker, {}).pop(settled.ref.id, None)
        failed = settled.status == "failed" and settled.blame == "infrastructure"
        refused = settled.error_class in REFUSALS  # and would be again
        if failed and not refused and settled.ref.attempt < self._retries:
            self._again.append(settled.ref._replace(attempt=settled.ref.attempt + 1))
            return False
        return True

    def lose(self, worker: str, committed: Mapping[str, str], epoch: int) -> list[Ref]:
        """Takes back what a lost worker had; the refs that it had committed, unreported.

        `committed` maps attempt ids to statuses. What was not committed waits again, as a new
        attempt, so that a stray of the same attempt can be told apart.
        """
        self._wanted.pop(worker, None)
        had: list[Ref] = []
        for ref in self._leased.pop(worker, {}).values():
            if isinstance(ref, Ref) and _attempt_id(ref, epoch) in committed:
                had.append(ref)
            else:
                self._again.append(ref._replace(attempt=ref.attempt + 1))
        return had

    @property
    def preparing(self) -> bool:
        """Whether artifacts must be made before any episode can go on: none is in work."""
        here = self._exhausted
        if not self._unprepared and not (here < len(self._stages) and self._prepares[here]):
            return False
        leased = (ref for refs in self._leased.values() for ref in refs.values())
        return not any(isinstance(ref, Ref) for part in (leased, self._again) for ref in part)

    @property
    def finished(self) -> bool:
        """Whether all stages are exhausted, nothing waits and nothing is leased."""
        return (
            self._exhausted == len(self._stages)
            and not self._again
            and not any(self._leased.values())
        )


def _attempt_id(ref: Ref, epoch: int) -> str:
    return f"{ref.id}.{epoch}.{ref.attempt}"


class Preparer(Protocol):
    """Who keeps the artifacts that workers make."""

    def noted(self, preparing: Mapping[str, tuple[int, int]]) -> None:
        """How far artifacts in work are: key -> calls made, and of how many."""
        ...

    async def made(self, made: Made) -> None:
        """Takes an artifact, or what it failed of for good, and has the queue know of it."""
        ...


class RunListener(Protocol):
    """Who wants to know how the run goes (progress, counters)."""

    def settled(self, settled: Settled, final: bool) -> None: ...
    def counted(self, worker: str, report: Report) -> None: ...
    def lost(self, worker: str, again: int) -> None: ...


async def drive(
    workers: Sequence[Worker],
    queue: LeaseQueue,
    listener: RunListener,
    stopping: asyncio.Event,
    *,
    lost: type[Exception],
    left_behind: Callable[[str], Mapping[str, str]],
    replace: Callable[[], Awaitable[Worker]],
    epoch: int,
    preparer: Preparer | None = None,
) -> None:
    """Runs the queue empty, or until `stopping`; then every worker commits what it finished.

    When the queue is closed, episodes that have not begun are taken back, and those that have end.
    `lost` is what a worker raises when its process is gone; `left_behind` reads what it had
    committed; `replace` makes another. Errors that end the run are raised as they are.
    """
    unproductive, slots = 0, sum(worker.slots for worker in workers)

    async def successor(error: Exception) -> Worker:
        nonlocal unproductive
        while unproductive < _UNPRODUCTIVE_DEATHS:
            try:
                return await replace()
            except lost as again:  # the machine may be gone, not the worker alone
                unproductive, error = unproductive + 1, again
        raise StoreError(
            f"{unproductive} episode workers died in a row before they committed anything; "
            f"the last: {error}"
        ) from error

    def productive() -> None:
        nonlocal unproductive
        unproductive = 0

    async def serve(worker: Worker) -> None:
        nonlocal unproductive
        while True:
            try:
                await _serve(worker, queue, listener, preparer, stopping, productive, slots)
                return
            except lost as error:
                statuses = left_behind(worker.name)
                had = queue.lose(worker.name, statuses, epoch)
                log.error("worker %s lost: %s", worker.name, error)
                listener.lost(worker.name, len(had))
                for ref in had:  # of what failed, the folder knows whose fault it is
                    status = statuses[_attempt_id(ref, epoch)]
                    listener.settled(Settled(ref, status, None, None, None), True)
                unproductive = 0 if had else unproductive + 1
                if stopping.is_set() or queue.closed:
                    return
                worker = await successor(error)

    await together(serve(worker) for worker in workers)


async def _serve(
    worker: Worker,
    queue: LeaseQueue,
    listener: RunListener,
    preparer: Preparer | None,
    stopping: asyncio.Event,
    productive: Callable[[], None],
    slots: int,
) -> None:
    async def take(report: Report) -> Report:
        if report.settled or report.made:
            productive()
        for settled in report.settled:
            listener.settled(settled, queue.settle(worker.name, settled))
        for made in report.made:
            if queue.settle(worker.name, made) and preparer is not None:
                await preparer.made(made)
        if preparer is not None:
            preparer.noted(report.preparing)
        listener.counted(worker.name, report)
        queue.want(worker.name, report.wanted)
        return report

    withdrawn = False
    free, waiting = worker.slots, 0
    while not stopping.is_set() and not queue.finished:
        refs = queue.lease(worker.name, max(0, free + queue.ahead(slots) - waiting))
        if refs:
            await worker.add(refs)
        if queue.closed and not withdrawn:
            await worker.withdraw()
            withdrawn = True
        report = await take(await worker.report(_REPORT_EVERY, queue.dry))
        free, waiting = report.free, report.waiting
        if withdrawn and report.running == 0:
            break
    await take(await worker.stop())
