"""The scheduler: hands tasks to workers and processes their outcomes.

`LeaseQueue` is pure bookkeeping, without coroutines, clock or I/O. `drive` moves tasks between the
queue and the workers. A lost worker is replaced, and only what it had not committed is leased
again.
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
    """A pool of slots, local or remote. A remote one raises `Lost` if it is gone."""

    name: str
    slots: int

    async def add(self, tasks: Sequence[Task]) -> None: ...
    async def resize(self, slots: int, processes: int) -> None: ...
    async def withdraw(self) -> None: ...
    async def report(self, wait: float, drain: bool) -> Report: ...
    async def stop(self) -> Report: ...
    def abandon(self) -> None: ...


class LeaseQueue:
    """Tracks which tasks wait and which worker has which.

    Tasks come in stages; a stage opens when the previous one has handed out all its tasks. `opened`
    stages are open from the start, by default all. `retries` is how often a task may be retried
    after an infrastructure failure. `count` is the number of tasks, as far as known.

    `gates` has, for each stage, tasks that gate it: they are leased first, and no other task of the
    stage is leased until all of them are `passed`. Gates are not included in `count`. `late` has,
    for each stage, ids that must be passed like gates but are given to no worker. A gate for which
    `waits` holds is leased later, and one for which `drops` holds is never leased.

    Tasks for which `skips` holds cannot run and are left out. `held` returns the cells of tasks
    that will be offered later.
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
        """Stops leasing."""
        self.closed = True

    def lease(self, worker: str, count: int) -> list[Task]:
        """Leases up to `count` tasks to `worker`; retries come first."""
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
        """Adds tasks that were held.

        Tasks that are `gating` are not included in `count`; they serve something that must pass
        before others can run.
        """
        if gating:
            self._gating.update(task.id for task in tasks)
        self._offered.extend(tasks)

    def passed(self, gate: str) -> None:
        """Marks a gate as passed: it has its effect, or will have none in this run."""
        self._shut.discard(gate)
        for stage in self._late:
            stage.discard(gate)

    def ahead(self, slots: int) -> int:
        """How many extra tasks each worker should have waiting, for `slots` slots in total.

        This is a share of what is left; towards the end it is 0, so that no task waits while a slot
        is free.
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
        """The next gate of the stage that can be leased; gates that have become impossible are
        dropped."""
        gates = self._gates[self._exhausted]
        self._gates[self._exhausted] = gates = deque(g for g in gates if not self._drops(g))
        found = next((gate for gate in gates if not self._waits(gate)), None)
        if found is not None:
            gates.remove(found)
        return found

    @property
    def _gated(self) -> bool:
        """Whether a gate of this stage has not been passed yet."""
        here = self._exhausted
        return bool(self._shut or self._gates[here] or self._late[here])

    @property
    def exhausted(self) -> int:
        """How many stages have handed out all their tasks; retries may still wait."""
        return self._exhausted

    @property
    def nothing_to_lease(self) -> bool:
        """Whether nothing can be leased now; a stage may still open, or a retry may come."""
        if self.closed or self._again or self._offered:
            return self.closed
        here = self._exhausted
        return here == self.opened or (self._gated and all(map(self._waits, self._gates[here])))

    def outstanding(self) -> set[int]:
        """The cells of all tasks that are leased, held, or waiting for a retry."""
        leased = {task.cell for tasks in self._leased.values() for task in tasks.values()}
        return leased | {task.cell for task in (*self._again, *self._offered)} | self._held()

    def want(self, worker: str, engines: frozenset[str]) -> None:
        """Records which engines, by key, calls of `worker` are waiting for."""
        self._wanted[worker] = engines

    @property
    def wanted(self) -> frozenset[str]:
        """The keys of engines that calls are waiting for."""
        return frozenset[str]().union(*self._wanted.values())

    def settle(self, worker: str, outcome: Outcome) -> bool:
        """Records the end of an attempt. Returns whether that settles its task for this run."""
        task = outcome.task
        self._leased.get(worker, {}).pop(task.id, None)
        failed = outcome.status == "failed" and outcome.blame == "infrastructure"
        refused = outcome.error_class in REFUSALS  # and would be again
        if failed and not refused and task.attempt < self._retries:
            self._again.append(task.again())
            return False
        return True

    def lose(self, worker: str, committed: Container[str], epoch: int) -> list[Task]:
        """Takes back the tasks of a lost worker. Returns those that it had committed but not
        reported.

        `committed` has attempt ids. Other tasks are queued again as new attempts, so that a stray
        result of the old attempt is recognised.
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
        """Whether only gates can run now: no other task is leased or waits for a retry."""
        here = self._exhausted
        if here == len(self._stages) or not self._gated:
            return False
        leased = (task for tasks in self._leased.values() for task in tasks.values())
        return all(task.id in self._gating for part in (leased, self._again) for task in part)

    @property
    def finished(self) -> bool:
        """Whether all stages are exhausted and nothing waits or is leased."""
        return (
            self._exhausted == len(self._stages)
            and not self._again
            and not self._offered
            and not any(self._leased.values())
            and not self._held()
        )


class OutcomeReceiver(Protocol):
    """Processes the outcomes of one kind of task in the driver."""

    async def received(self, outcome: Outcome, final: bool) -> None:
        """Takes an outcome; `final` if it settles the task for this run."""
        ...

    def progressed(self, progress: Mapping[str, tuple[int, int]]) -> None:
        """Takes the progress of running tasks: id -> (calls made, total calls)."""
        ...


class ElasticWorkers(Protocol):
    """Workers that join and leave with the nodes of a cluster."""

    async def joined(self) -> Sequence[Worker]:
        """Workers on nodes that joined since the last call."""
        ...

    def leaves(self, worker: Worker) -> bool:
        """Whether a worker's node will soon be gone, so that it should commit and end."""
        ...

    def left(self, worker: Worker) -> None:
        """Notes that a leaving worker has ended."""
        ...


class RunListener(Protocol):
    """Observes the run as a whole (progress, caps)."""

    def counted(self, worker: str, report: Report) -> None: ...
    def lost(self, worker: str, again: int) -> None: ...


async def drive(
    workers: Sequence[Worker],
    queue: LeaseQueue,
    receivers: Mapping[str, OutcomeReceiver],
    listener: RunListener,
    stopping: asyncio.Event,
    *,
    lost: type[Exception],
    left_behind: Callable[[str], Mapping[str, str]],
    replace: Callable[[Worker], Awaitable[Worker | None]],
    epoch: int,
    limit: Callable[[], int] | None = None,
    elastic_workers: ElasticWorkers | None = None,
) -> None:
    """Runs the queue until it is empty, or until `stopping`; then every worker commits what it
    finished.

    When the queue is closed, tasks that have not begun are taken back, and running ones end
    normally. `receivers` has one receiver for every kind of task. `lost` is the error that a worker
    raises if its process is gone; `left_behind` reads what it had committed; `replace` starts a
    replacement, or returns None. `elastic_workers` provides workers that join and leave in the
    meantime. `limit` returns how many tasks may run at once over all workers; without it, each
    worker keeps its slots. Errors that end the run are raised unchanged.
    """
    unproductive, slots = 0, sum(worker.slots for worker in workers)
    limit = limit or (lambda: slots)
    live = {worker.name for worker in workers}

    async def successor(lost_one: Worker, error: Exception) -> Worker | None:
        nonlocal unproductive
        while unproductive < _UNPRODUCTIVE_DEATHS:
            try:
                return await replace(lost_one)
            except lost as again:  # the whole machine may be gone, not just the worker
                unproductive, error = unproductive + 1, again
        raise StoreError(
            f"{unproductive} episode workers died in a row before they committed anything; "
            f"the last: {error}"
        ) from error

    def productive() -> None:
        nonlocal unproductive
        unproductive = 0

    def leaves(worker: Worker) -> bool:
        return elastic_workers is not None and elastic_workers.leaves(worker)

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
                if elastic_workers is not None and leaves(worker):
                    # Others take over what it had not finished.
                    queue.lose(worker.name, left_behind(worker.name), epoch)
                    elastic_workers.left(worker)
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
                await asyncio.wait(
                    serving, timeout=None if elastic_workers is None else _LOOK_EVERY
                )
                if elastic_workers is not None and not stopping.is_set() and not queue.finished:
                    serving |= {
                        group.create_task(serve(new)) for new in await elastic_workers.joined()
                    }
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _serve(
    worker: Worker,
    queue: LeaseQueue,
    receivers: Mapping[str, OutcomeReceiver],
    listener: RunListener,
    stopping: asyncio.Event,
    productive: Callable[[], None],
    limit: Callable[[], int],
    workers: Callable[[], int],
    leaves: Callable[[Worker], bool],
) -> None:
    """Serves one worker. `workers` returns how many share the `limit`."""

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
        report = await take(await worker.report(_REPORT_EVERY, queue.nothing_to_lease))
        free, waiting = report.free, report.waiting
        if withdrawn and not any(report.running.values()):
            break
    await take(await worker.stop())
