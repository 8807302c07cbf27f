"""The scheduler: hands tasks to workers and learns what became of them.

`LeaseQueue` is pure bookkeeping: it has no coroutines, no clock and no I/O. `drive` moves tasks
between it and the workers; a worker that is lost is replaced, and only what it had not committed
is leased again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Container, Iterator, Mapping, Sequence
from typing import Protocol

from agents.core.errors import REFUSALS, StoreError
from sweeps.tasks import Outcome, Task
from workers.core.usage import CallCounts
from workers.executors.pool import Report

log = logging.getLogger(__name__)

_REPORT_EVERY = 0.25  # seconds between reports of a worker that has nothing to say
_MOST_AHEAD = 192  # tasks leased beyond a worker's slots, so that quick ones never run dry
_LOOK_EVERY = 1.0  # seconds between looks for workers that came
_GRACE_SECONDS = 20.0  # for dialogues on a node that leaves; spot machines have 30 to 120
_UNPRODUCTIVE_DEATHS = 3  # workers that die in a row without committing: the fault is not chance


class Worker(Protocol):
    """A pool of slots, here or elsewhere. A remote one raises `Lost` when it is gone."""

    name: str
    slots: int

    async def add(self, tasks: Sequence[Task]) -> None: ...
    async def resize(self, slots: int, processes: int) -> None: ...
    async def withdraw(self) -> None: ...
    async def report(self, wait: float, drain: bool) -> Report: ...
    async def stop(self) -> Report: ...
    def abandon(self) -> None: ...


class LeaseQueue:
    """Which tasks wait, and which worker has which.

    Tasks come in stages, each opened when the one before has given all its own. `opened` of them
    are open from the start, all by default. `retries` is how often a task may be tried again after
    infrastructure failed it. `count` is how many tasks there are, as far as that is known.

    `gates` holds for each stage the tasks that gate it: they are leased first, and no other task of
    the stage before each of them is `passed`. Gates are not in `count`. Tasks that `skips` says
    cannot run are left out. `held` gives the cells of tasks that will be offered later.

    A gate that `waits` is leased when it does not any more, one that `drops` never. `late` has for
    each stage ids that must be passed as if they were gates, and that no worker is given.
    """

    def __init__(
        self,
        stages: Sequence[Iterator[Task]],
        retries: int,
        opened: int | None = None,
        count: float = math.inf,
        gates: Sequence[Sequence[Task]] = (),
        skips: Callable[[Task], bool] = lambda task: False,
        held: Callable[[], set[int]] = set,
        late: Sequence[Collection[str]] = (),
        waits: Callable[[Task], bool] = lambda task: False,
        drops: Callable[[Task], bool] = lambda task: False,
    ) -> None:
        self._left = count
        self._held = held
        self._offered: deque[Task] = deque()
        self._stages = stages
        self._retries = retries
        self._gates = [deque(stage) for stage in gates or [()] * len(stages)]
        self._gating = {task.id for stage in gates for task in stage}
        self._shut: set[str] = set()  # gates that were leased and are not passed
        self._late = [set(stage) for stage in late or [()] * len(stages)]
        self._waits, self._drops = waits, drops
        self._skips = skips
        self._again: deque[Task] = deque()
        self._leased: dict[str, dict[str, Task]] = {}
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

    def lease(self, worker: str, count: int) -> list[Task]:
        """Up to `count` leases for `worker`; those to be tried again come first."""
        if self.closed:
            return []
        mine = self._leased.setdefault(worker, {})
        found: list[Task] = []
        while len(found) < count:
            waiting = self._again or self._offered
            task = waiting.popleft() if waiting else self._next()
            if task is None:
                break
            mine[task.id] = task
            found.append(task)
        self._left -= len(found) - sum(task.id in self._gating for task in found)
        return found

    def offer(self, tasks: Sequence[Task], *, gating: bool = False) -> None:
        """Adds tasks that were held. Those that are `gating` are not in `count`, and serve what
        must be passed before others can run."""
        if gating:
            self._gating.update(task.id for task in tasks)
        self._offered.extend(tasks)

    def passed(self, gate: str) -> None:
        """Notes that a gating task has its effect, or will have none in this run."""
        self._shut.discard(gate)
        for stage in self._late:
            stage.discard(gate)

    def ahead(self, slots: int) -> int:
        """How many tasks one of the workers should have waiting, which have `slots` in all.

        A share of what is left; towards the end none, so that nothing waits while a slot is free.
        """
        if self._left <= slots:
            return 0
        return math.ceil(min(_MOST_AHEAD, self._left / 8))

    def _next(self) -> Task | None:
        while self._exhausted < self.opened:
            if (gate := self._next_gate()) is not None:
                self._shut.add(gate.id)
                return gate
            if self._gated:
                return None
            task = next(self._stages[self._exhausted], None)
            if task is None:
                self._exhausted += 1
            elif self._skips(task):
                self._left -= 1
            else:
                return task
        return None

    def _next_gate(self) -> Task | None:
        """A gate of the stage that can be leased now; those that cannot be any more are dropped."""
        gates = self._gates[self._exhausted]
        self._gates[self._exhausted] = gates = deque(g for g in gates if not self._drops(g))
        found = next((gate for gate in gates if not self._waits(gate)), None)
        if found is not None:
            gates.remove(found)
        return found

    @property
    def _gated(self) -> bool:
        """Whether something of this stage must still be passed."""
        here = self._exhausted
        return bool(self._shut or self._gates[here] or self._late[here])

    @property
    def exhausted(self) -> int:
        """How many stages have given all their tasks; retries may still wait."""
        return self._exhausted

    @property
    def dry(self) -> bool:
        """Whether there is nothing to lease now; a stage may open, a retry may come."""
        if self.closed or self._again or self._offered:
            return self.closed
        here = self._exhausted
        return here == self.opened or (self._gated and all(map(self._waits, self._gates[here])))

    def outstanding(self) -> set[int]:
        """The cells of all tasks that are leased, held, or wait to be tried again."""
        leased = {task.cell for tasks in self._leased.values() for task in tasks.values()}
        return leased | {task.cell for task in (*self._again, *self._offered)} | self._held()

    def want(self, worker: str, engines: frozenset[str]) -> None:
        """Notes for which engines, by key, calls of `worker` wait."""
        self._wanted[worker] = engines

    @property
    def wanted(self) -> frozenset[str]:
        """Keys of the engines that calls wait for."""
        return frozenset[str]().union(*self._wanted.values())

    def settle(self, worker: str, outcome: Outcome) -> bool:
        """Notes an attempt that has ended; whether that settles its task for this run."""
        task = outcome.task
        self._leased.get(worker, {}).pop(task.id, None)
        failed = outcome.status == "failed" and outcome.blame == "infrastructure"
        refused = outcome.error_class in REFUSALS  # and would be again
        if failed and not refused and task.attempt < self._retries:
            self._again.append(task.again())
            return False
        return True

    def lose(self, worker: str, committed: Container[str], epoch: int) -> list[Task]:
        """Takes back what a lost worker had; the tasks that it had committed, unreported.

        `committed` holds attempt ids. What was not committed waits again, as a new attempt, so that
        a stray of the same attempt is recognised.
        """
        self._wanted.pop(worker, None)
        had: list[Task] = []
        for task in self._leased.pop(worker, {}).values():
            if task.attempt_id(epoch) in committed:
                had.append(task)
            else:
                self._again.append(task.again())
        return had

    @property
    def only_gates(self) -> bool:
        """Whether gates must be passed before any other task can run: none is leased or waits to be
        tried again."""
        here = self._exhausted
        if here == len(self._stages) or not self._gated:
            return False
        leased = (task for tasks in self._leased.values() for task in tasks.values())
        return all(task.id in self._gating for part in (leased, self._again) for task in part)

    @property
    def finished(self) -> bool:
        """Whether all stages are exhausted, nothing waits and nothing is leased."""
        return (
            self._exhausted == len(self._stages)
            and not self._again
            and not self._offered
            and not any(self._leased.values())
            and not self._held()
        )


class Receiver(Protocol):
    """What the driver does with the tasks of one kind."""

    async def received(self, outcome: Outcome, final: bool) -> None:
        """Takes an outcome; `final` if it settles the task for this run."""
        ...

    def progressed(self, progress: Mapping[str, tuple[int, int]]) -> None:
        """How far tasks under way are: id -> calls made, and of how many."""
        ...


class Crew(Protocol):
    """Workers that come and go with the nodes of a cluster."""

    async def joined(self) -> Sequence[Worker]:
        """Those on nodes that have come since it was last asked."""
        ...

    def leaves(self, worker: Worker) -> bool:
        """Whether its node will soon be gone: it commits, and ends."""
        ...

    def left(self, worker: Worker) -> None:
        """It has ended, since it leaves."""
        ...


class RunListener(Protocol):
    """Watches the run as a whole (progress, caps)."""

    def counted(self, worker: str, report: Report) -> None: ...
    def lost(self, worker: str, again: int) -> None: ...


async def drive(
    workers: Sequence[Worker],
    queue: LeaseQueue,
    receivers: Mapping[str, Receiver],
    listener: RunListener,
    stopping: asyncio.Event,
    *,
    lost: type[Exception],
    left_behind: Callable[[str], Mapping[str, str]],
    replace: Callable[[Worker], Awaitable[Worker | None]],
    epoch: int,
    limit: Callable[[], int] | None = None,
    crew: Crew | None = None,
) -> None:
    """Runs the queue empty, or until `stopping`; then every worker commits what it finished.

    When the queue is closed, tasks that have not begun are taken back, and those that have end.
    `receivers` has one for every kind of task. `lost` is what a worker raises when its process is
    gone; `left_behind` reads what it had committed; `replace` makes another, or gives None where
    none is to follow. `crew` knows workers that come and go meanwhile. `limit` says how many
    tasks may run at once now, over all workers; without it each keeps its slots. Errors that end
    the run are raised as they are.
    """
    unproductive, slots = 0, sum(worker.slots for worker in workers)
    limit = limit or (lambda: slots)
    live = {worker.name for worker in workers}

    async def successor(lost_one: Worker, error: Exception) -> Worker | None:
        nonlocal unproductive
        while unproductive < _UNPRODUCTIVE_DEATHS:
            try:
                return await replace(lost_one)
            except lost as again:  # the machine may be gone, not the worker alone
                unproductive, error = unproductive + 1, again
        raise StoreError(
            f"{unproductive} episode workers died in a row before they committed anything; "
            f"the last: {error}"
        ) from error

    def productive() -> None:
        nonlocal unproductive
        unproductive = 0

    def leaves(worker: Worker) -> bool:
        return crew is not None and crew.leaves(worker)

    async def serve(worker: Worker) -> None:
        nonlocal unproductive
        while True:
            live.add(worker.name)
            try:
                await _serve(
                    worker, queue, receivers, listener, stopping, productive,
                    limit, lambda: len(live), leaves,
                )  # fmt: skip
                live.discard(worker.name)
                if crew is not None and leaves(worker):
                    # What it had not begun or finished is for others.
                    queue.lose(worker.name, left_behind(worker.name), epoch)
                    crew.left(worker)
                return
            except lost as error:
                live.discard(worker.name)
                statuses = left_behind(worker.name)
                had = queue.lose(worker.name, statuses, epoch)
                log.error("worker %s lost: %s", worker.name, error)
                listener.lost(worker.name, len(had))
                for task in had:  # of what failed, the folder knows whose fault it is
                    outcome = Outcome(task, statuses[task.attempt_id(epoch)])
                    await receivers[task.kind].received(outcome, True)
                unproductive = 0 if had else unproductive + 1
                if stopping.is_set() or queue.closed:
                    return
                found = await successor(worker, error)
                if found is None:
                    return
                worker = found

    try:
        async with asyncio.TaskGroup() as group:
            serving = {group.create_task(serve(worker)) for worker in workers}
            while serving := {task for task in serving if not task.done()}:
                await asyncio.wait(serving, timeout=None if crew is None else _LOOK_EVERY)
                if crew is not None and not stopping.is_set() and not queue.finished:
                    serving |= {group.create_task(serve(new)) for new in await crew.joined()}
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _serve(
    worker: Worker,
    queue: LeaseQueue,
    receivers: Mapping[str, Receiver],
    listener: RunListener,
    stopping: asyncio.Event,
    productive: Callable[[], None],
    limit: Callable[[], int],
    workers: Callable[[], int],
    leaves: Callable[[Worker], bool],
) -> None:
    """`workers` says how many share the `limit`."""

    async def take(report: Report) -> Report:
        if report.outcomes:
            productive()
        for outcome in report.outcomes:
            final = queue.settle(worker.name, outcome)
            await receivers[outcome.task.kind].received(outcome, final)
        for kind, progress in report.progress.items():
            receivers[kind].progressed(progress)
        listener.counted(worker.name, report)
        queue.want(worker.name, report.wanted)
        return report

    withdrawn, report = False, Report([], CallCounts(), {}, 0)
    free, waiting = worker.slots, 0
    while not stopping.is_set() and not queue.finished:
        if leaves(worker):
            await worker.withdraw()
            until = time.monotonic() + _GRACE_SECONDS
            while any(report.running.values()) and time.monotonic() < until:
                report = await take(await worker.report(_REPORT_EVERY, True))
            break
        if (share := -(-limit() // workers())) != worker.slots:
            free = max(0, free + share - worker.slots)
            await worker.resize(share, workers())
        tasks = queue.lease(worker.name, max(0, free + queue.ahead(limit()) - waiting))
        if tasks:
            await worker.add(tasks)
        if queue.closed and not withdrawn:
            await worker.withdraw()
            withdrawn = True
        report = await take(await worker.report(_REPORT_EVERY, queue.dry))
        free, waiting = report.free, report.waiting
        if withdrawn and not any(report.running.values()):
            break
    await take(await worker.stop())
