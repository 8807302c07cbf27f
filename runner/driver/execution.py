"""Executes the work of a session: artifacts first, then the tasks."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rich.markup import escape

from agents.core.errors import CrsweepError, StoreError
from agents.core.plural import many
from runner.core.screen import reason_of
from runner.driver.concurrency import Concurrency, first_slots, worker_count
from runner.driver.early_stop import EarlyStop
from runner.driver.engine_loader import RunEngines
from runner.driver.environment import environment_of
from runner.driver.executors import Executor, LocalExecutor, RayExecutor
from runner.driver.kinds import RunParts, receivers_of
from runner.driver.opening import Session
from runner.driver.progress import ProgressDisplay, Tally
from runner.driver.scheduler import LeaseQueue, drive
from runner.driver.streams import Streams
from runner.driver.work import EpisodeWork
from runner.placement.groups import run_plan, without_engines
from sweeps.tasks import Task
from workers.job import Job, job_of
from workers.results.bundles import committed_by

log = logging.getLogger(__name__)

_ONE_SIGNAL_SECONDS = 5.0  # in which SIGTERM from several senders is one request


@dataclass(frozen=True)
class Execution:
    """How the tasks of a session went. Everything that finished is committed."""

    tally: Tally
    engines: Sequence[dict[str, Any]]
    """What each engine served, as stored in the manifest."""
    started: float
    """Monotonic time."""
    sealed: bool
    """Whether the calls are in the shared cache. If not, the journals are their only copy."""
    stopped: str | None = None
    """Why the run was stopped early by a limit of the sweep file, if so."""
    unavailable: bool = False
    """Whether the run stopped because a model serves no call."""
    unfinished: Sequence[str] = ()
    """Errors after everything was committed; the next run catches up on them."""


@contextmanager
def after_the_last_commit(what: str, unfinished: list[str]) -> Iterator[None]:
    """Records errors of the block instead of raising them, because everything is
    committed already."""
    try:
        yield
    except (OSError, CrsweepError) as error:
        log.error("%s", what, exc_info=True)
        unfinished.append(f"{what} ({reason_of(error)})")


def execute(session: Session, command: str) -> Execution:
    """Runs the remaining tasks. Raises StoreError. Usage is recorded however the run ends.

    `command` is the command that was typed, for the manifest.
    """
    unfinished: list[str] = []
    session.manifest.begin_run(session.budget, command)
    by_itself = False
    try:
        found = asyncio.run(_execute(session, unfinished))
        by_itself = True
    finally:
        with after_the_last_commit("the manifest cannot be updated", unfinished):
            session.manifest.end_run(by_itself=by_itself)
    return replace(found, unfinished=unfinished)


async def _execute(session: Session, unfinished: list[str]) -> Execution:
    interrupts = _Interrupts(session)
    executor = _executor(session)
    try:
        found = await _run(session, executor, interrupts.stopping, unfinished)
    finally:
        interrupts.ignore()
        executor.close()
    if session.lease.lost.is_set():
        raise StoreError(f"another driver has taken over {session.folder}; this one stopped")
    return found


async def _run(
    session: Session, executor: Executor, stopping: asyncio.Event, unfinished: list[str]
) -> Execution:
    started, lease, work = time.monotonic(), session.lease, session.work
    await work.preparation.begin(executor, stopping)
    streams = _streams(session)
    engines = _engines(session, executor, streams)
    queue = engines.queue
    run = session.plan.loaded.header.run
    workers = await executor.begin()
    concurrency = Concurrency(run, len(workers), engines.loads)
    session.manifest.concurrency = concurrency.entry
    with ProgressDisplay(
        work.totals,
        session.console,
        lambda: queue.only_gates,
        concurrency.limit if concurrency.adapts else None,
    ) as display:
        work.preparation.attach(queue, display.preparing())
        session.budget.gpu_seconds = lambda: engines.gpu_seconds() + work.preparation.gpu_seconds
        early_stop = EarlyStop(
            display,
            queue,
            stopping,
            session.budget,
            session.plan.loaded.header.max_failed,
            lambda line: session.console.print(escape(line), soft_wrap=True),
        )
        loading = engines.start(stopping)
        noting = [
            asyncio.create_task(engines.keep_noting(lease.epoch, session.manifest.note_engines)),
            asyncio.create_task(session.manifest.keep_writing()),
            asyncio.create_task(concurrency.keep_adjusting()),
            asyncio.create_task(engines.keep_adjusting(executor.engine_nodes, run.gpus)),
        ]
        driving = drive(
            workers,
            queue,
            receivers_of(RunParts(early_stop, work.preparation, streams, queue)),
            concurrency.observing(early_stop),
            stopping,
            lost=executor.lost,
            left_behind=lambda name: committed_by(lease.folder, lease.epoch, name),
            replace=executor.replace,
            epoch=lease.epoch,
            limit=concurrency.limit,
            elastic_workers=executor.elastic_workers,
        )
        await _until_first(driving, work.preparation.fit_late())
    for task in noting:
        task.cancel()
    await engines.end(loading)
    served = engines.entries(lease.epoch)
    session.manifest.note_end(served, early_stop.reason, work.preparation.failed)
    sealed = False
    with after_the_last_commit("the call cache cannot be sealed", unfinished):
        display.tally.damage = await executor.seal()
        sealed = True
    return Execution(
        display.tally, served, started, sealed, early_stop.reason, early_stop.unavailable
    )


class _Interrupts:
    """Sets `stopping` at the first interrupt and when the lease is lost; raises the second
    interrupt.

    A repeated SIGTERM within a short time counts as one.
    """

    def __init__(self, session: Session) -> None:
        self.stopping = asyncio.Event()
        self._session, self._loop = session, asyncio.get_running_loop()
        self._asked = 0.0
        self._terminate = signal.getsignal(signal.SIGTERM)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._interrupt, number)
        session.lease.when_lost = lambda: self._loop.call_soon_threadsafe(self.stopping.set)

    def _interrupt(self, number: int) -> None:
        if self.stopping.is_set():
            # SLURM signals all processes of a job, and its script passes the signal on as well.
            if number == signal.SIGTERM and self._loop.time() - self._asked < _ONE_SIGNAL_SECONDS:
                return
            raise KeyboardInterrupt
        self._asked = self._loop.time()
        self._session.console.print(
            f"stopping: finished {self._session.work.noun}s are being committed ..."
        )
        self.stopping.set()

    def ignore(self) -> None:
        """Restores the previous interrupt handlers."""
        self._session.lease.when_lost = None
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)
        signal.signal(signal.SIGTERM, self._terminate)


async def _until_first(work: Coroutine[Any, Any, None], aside: Coroutine[Any, Any, None]) -> None:
    """Runs both until `work` ends or `aside` fails."""
    tasks = [asyncio.create_task(work), asyncio.create_task(aside)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _executor(session: Session) -> Executor:
    plan = session.plan
    run, job = plan.loaded.header.run, _job(session)
    count = worker_count(run)
    slots = first_slots(run, count)
    if run.executor == "local":
        return LocalExecutor(job, slots)
    environment = environment_of(plan)
    return RayExecutor(
        job, slots, count, run.ray_address, run.fit_gpus, environment, session.console,
        elastic=run.episode_workers == "auto", gpus=run.gpus, mixed=run.mixed_gpus,
    )  # fmt: skip


def _job(session: Session) -> Job:
    header, epoch = session.plan.loaded.header, session.lease.epoch
    job = job_of(
        session.plan,
        probe=session.plan.probe,
        executor=header.run.executor,
        epoch=epoch,
        run_id=f"{header.name}-{epoch}",
    )
    return replace(job, cache=session.calls, strict=header.cache.match == "strict")


def _cannot_run(session: Session) -> Callable[[Task], bool]:
    """Whether a task needs an artifact that could not be made."""
    work = session.work
    lacking = work.preparation.lacking
    return lambda task: bool(lacking) and not lacking.isdisjoint(work.needs(task))


def _streams(session: Session) -> Streams | None:
    """The streams of the dialogues to play; None if no agent has a memory."""
    work = session.work
    if not isinstance(work, EpisodeWork) or not any(cell.memory for cell in work.plan.cells):
        return None
    lease = session.lease
    return Streams(work.plan, lease.folder, lease.epoch, work.done, _cannot_run(session))


def _engines(session: Session, executor: Executor, streams: Streams | None) -> RunEngines:
    """The stages of the run and their engines, none of which is loaded yet."""
    plan, work, console = session.plan, session.work, session.console
    stages = (
        run_plan(work.speaking, executor.nodes, cpu=executor.cpu, cells=work.cells)
        if executor.nodes
        else without_engines(plan)
    )
    for reason in dict.fromkeys(stages.misfits.values()):
        cells = sum(found == reason for found in stages.misfits.values())
        console.print(f"[red]{many(cells, 'cell')} cannot run: {escape(reason)}[/]", soft_wrap=True)

    def tasks(cells: Collection[int]) -> Iterator[Task]:
        if streams is not None:  # first, because they take longest
            yield from streams.begin(cells)
        yield from work.tasks(cells)

    queue = LeaseQueue(
        [tasks(part.cells) for part in stages.stages],
        plan.loaded.header.retries.episode,
        opened=0,
        count=sum(work.totals.values()),
        gates=[work.preparation.tasks(part.cells) for part in stages.stages],
        skips=_cannot_run(session),
        held=lambda: work.preparation.loops.held | (set() if streams is None else streams.held),
        late=[work.preparation.late_fits(part.cells) for part in stages.stages],
        waits=work.preparation.waits,
        drops=work.preparation.cannot_make,
    )
    return RunEngines(stages, queue, executor, console)
