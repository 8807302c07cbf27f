"""`crsweep run`: from a plan to committed episodes."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from agents.core.errors import CrsweepError, StoreError
from runner.driver import manifest as sweep_folder
from runner.driver.artifacts import Preparation, needed
from runner.driver.budget import budget_of
from runner.driver.early_stop import EarlyStop
from runner.driver.engine_loader import RunEngines
from runner.driver.executors import Executor, LocalExecutor, RayExecutor
from runner.driver.loading import load_plan
from runner.driver.opening import begin, compact_whole, find_settled, refusing_foreign, set_aside
from runner.driver.outcome import Outcome
from runner.driver.progress import ProgressDisplay, Tally
from runner.driver.report import announce, announce_journal, conclude, damage_lines
from runner.driver.run_record import RunRecord
from runner.driver.scheduler import LeaseQueue, drive
from runner.environment import check_environment, environment_of
from runner.formatting import many
from runner.locations import check_folder, places_of
from runner.placement.groups import run_plan, without_engines
from runner.screen import reason_of
from sweeps import manifest as manifests
from sweeps.plan import Plan, Ref
from sweeps.storage import parts
from sweeps.storage.parts import PartDamaged
from sweeps.storage.records import SCHEMAS
from workers.cache.store import settle, tidy
from workers.episodes import Job, job_of
from workers.processes.logs import log_to
from workers.results.bundles import committed_by
from workers.results.compaction import compact, remove_replaced
from workers.results.lease import FolderLease

log = logging.getLogger(__name__)


def run(
    sweep: Path,
    overrides: Sequence[str],
    *,
    retry: Sequence[str] = (),
    accept_source_change: bool,
    accept_artifact_change: bool = False,
    only_prepare: bool = False,
    again: str = "",
    console: Console,
) -> Outcome:
    """Runs what is left of a sweep. Raises UsageError, DataError and StoreError.

    `retry` names error classes and blames whose failed episodes are run again. With
    `only_prepare` all artifacts of the plan are made, and no episode is run. `again` is the command
    that runs the sweep, for readers of the manifest.
    """
    plan = load_plan(sweep, overrides)
    check_environment(plan)
    out = plan.loaded.out
    if any(name.endswith(parts.SUFFIX) for name in out.names("episodes")):  # else nothing is mixed
        before = manifests.read(out)
        sweep_folder.check_sources(plan, before, accept_source_change)
        if (line := sweep_folder.recipe_line(before)) is not None:
            console.print(line, style="yellow", markup=False, soft_wrap=True)
    if retry:  # a word that names no failure is refused before anything is touched
        with suppress(PartDamaged):  # it is set aside, and the words are looked at again
            find_settled(out, retry)
    if (places := places_of(plan, epoch=0)) is not None:
        check_folder(places, plan.loaded.origins)
    lease = FolderLease.take(out)
    try:
        log_to(out.logs, f"{lease.epoch:06d}-driver")
        manifest = manifests.read(out)
        if manifest is None and lease.epoch > 1:
            console.print(
                f"{escape(f'{out}/{manifests.FILE}')} is not there; it is written again. Whether "
                "plug-ins have changed since these episodes ran cannot be checked",
                style="bold red",
                soft_wrap=True,
            )
        out.remove_leftovers(SCHEMAS)
        before, damaged = manifest, []
        while True:
            try:
                set_aside(out, lease, console, damaged)
                with refusing_foreign():
                    remove_replaced(out)
                manifest = begin(plan, out, lease.epoch, before)  # with cases, if they were lost
                done = find_settled(out, retry)
                left = plan.episodes if not done else sum(1 for _ in plan.refs(done))
                keys = list(plan.artifacts) if only_prepare else needed(plan, plan.refs(done))
                preparation = Preparation(plan, keys, console, accept=accept_artifact_change)
                if left == 0 and not only_prepare:
                    compact(out, lease)
                break
            except PartDamaged as error:
                damaged = [error.name]
        budget = budget_of(plan)
        if only_prepare and preparation.missing == 0:
            console.print(f"nothing to prepare: all {len(keys):,} artifacts are ready")
            return Outcome(out, len(keys), 0, None)
        if left == 0 and not only_prepare:
            if (places := places_of(plan, lease.epoch)) is not None:
                settle(places)
            console.print(f"nothing to do: all {plan.episodes:,} episodes are settled")
            return Outcome(out, plan.episodes, 0, None, needs=budget.needs())
        reached = budget.reached()
        if reached is not None:
            console.print(f"nothing is run: {escape(reached)}", soft_wrap=True)
            planned = len(keys) if only_prepare else plan.episodes
            left = preparation.missing if only_prepare else left
            return Outcome(out, planned, left, None, reached, needs=budget.needs())
        announce(plan, left, console)
        announce_journal(plan, lease.epoch, console)
        if preparation.missing:
            console.print(f"{preparation.missing:,} of {len(keys):,} artifacts must be made")
        started = time.monotonic()
        notes = RunRecord(out, manifest, lease, budget, again)
        try:
            running = _run(plan, None if only_prepare else done, left, console, notes, preparation)
            tally = asyncio.run(running)
        finally:  # what was paid for is recorded, however the run ended
            with _after_the_last_commit("the manifest cannot be updated", notes.unfinished):
                notes.write()
        whole = True
        with _after_the_last_commit("the manifest cannot be updated", notes.unfinished):
            notes.manifest = notes.manifest.model_copy(update={"ended": time.time()})
            notes.write()
        stopped, failed = notes.entry.stopped, preparation.failed
        with _after_the_last_commit("parts cannot be merged", notes.unfinished):
            whole = compact_whole(out, lease, console)
        if only_prepare:
            planned, left = len(keys), preparation.missing
        else:
            planned, left = plan.episodes, left + tally.open - tally.settled
            if not whole:
                left = sum(1 for _ in plan.refs(find_settled(out)))
        needs, unavailable = budget.needs(), notes.unavailable
        # The journals of calls that could not be sealed are all that there is of them.
        if (places := places_of(plan, lease.epoch)) is not None and notes.sealed:
            with _after_the_last_commit("the call cache cannot be tidied", notes.unfinished):
                tidy(places, complete=left == 0 and not only_prepare)
        unfinished = tuple(dict.fromkeys(notes.unfinished))
        outcome = Outcome(
            out, planned, left, tally, stopped, failed, needs, unavailable, unfinished
        )
        seconds, mode = time.monotonic() - started, plan.loaded.header.cache.mode
        conclude(outcome, notes.engines, budget.line(), seconds, mode, console)
        for line in damage_lines(tally.damage, plan.loaded.header.cache.path):
            console.print(line, style="yellow", markup=False, soft_wrap=True)
        return outcome
    except OSError as error:
        if error.filename is None:  # nothing says that it was the output folder
            raise StoreError(f"the run in {out} was ended: {error.strerror or error}") from error
        raise StoreError(
            f"cannot read or write {error.filename}: {error.strerror or error}"
        ) from error
    finally:
        lease.release()


@contextmanager
def _after_the_last_commit(what: str, unfinished: list[str]) -> Iterator[None]:
    """Notes what fails once everything is committed: that must not hide that it is."""
    try:
        yield
    except (OSError, CrsweepError) as error:
        log.error("%s", what, exc_info=True)
        unfinished.append(f"{what} ({reason_of(error)})")


async def _run(
    plan: Plan,
    done: set[str] | None,
    left: int,
    console: Console,
    notes: RunRecord,
    preparation: Preparation,
) -> Tally:
    """Makes the artifacts, then runs the episodes that are not in `done`; None for no episodes."""
    lease = notes.lease
    header = plan.loaded.header
    job = replace(
        job_of(
            plan,
            probe=plan.probe,
            executor=header.run.executor,
            epoch=lease.epoch,
            run_id=f"{header.name}-{lease.epoch}",
        ),
        cache=places_of(plan, lease.epoch),
        strict=header.cache.match == "strict",
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    interrupts = _Interrupts(stopping, console)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupts)
    lease.when_lost = lambda: loop.call_soon_threadsafe(stopping.set)
    count = _worker_count(plan)
    executor = _executor(plan, job, count, console)
    try:
        await preparation.begin(executor, stopping)
        engines = _engines(plan, done, left, executor, preparation, console)
        workers = [await executor.spawn() for _ in range(count)]
        total = 0 if done is None else left
        with ProgressDisplay(total, console, lambda: engines.queue.preparing) as display:
            preparation.attach(engines.queue, display.preparing())
            notes.budget.gpu_seconds = lambda: engines.gpu_seconds() + preparation.gpu_seconds
            early_stop = EarlyStop(
                display,
                engines.queue,
                stopping,
                notes.budget,
                header.max_failed,
                lambda line: console.print(escape(line), soft_wrap=True),
            )
            conducting = engines.start(stopping)
            noting = [
                asyncio.create_task(engines.keep_noting(job.epoch, notes.note_engines)),
                asyncio.create_task(notes.keep_writing()),
            ]
            await drive(
                workers,
                engines.queue,
                early_stop,
                stopping,
                lost=executor.lost,
                left_behind=lambda name: committed_by(job.folder, job.epoch, name),
                replace=executor.spawn,
                epoch=job.epoch,
                preparer=preparation,
            )
        for task in noting:
            task.cancel()
        await engines.end(conducting)
        notes.engines = engines.entries(job.epoch)
        notes.entry.stopped, notes.unavailable = early_stop.reason, early_stop.unavailable
        with _after_the_last_commit("the call cache cannot be sealed", notes.unfinished):
            notes.sealed = False
            display.tally.damage = await executor.seal()
            notes.sealed = True
    finally:
        lease.when_lost = None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        executor.close()
    if lease.lost.is_set():
        raise StoreError(f"another driver has taken over {lease.folder}; this one stopped")
    return display.tally


def _worker_count(plan: Plan) -> int:
    run = plan.loaded.header.run
    return 1 if run.executor == "local" else min(run.episode_workers, run.concurrency)


def _executor(plan: Plan, job: Job, count: int, console: Console) -> Executor:
    run = plan.loaded.header.run
    slots = -(-run.concurrency // count)
    if run.executor == "local":
        return LocalExecutor(job, slots)
    environment = environment_of(plan)
    return RayExecutor(job, slots, count, run.ray_address, run.fit_gpus, environment, console)


def _engines(
    plan: Plan,
    done: set[str] | None,
    left: int,
    executor: Executor,
    preparation: Preparation,
    console: Console,
) -> RunEngines:
    """What is to run in which stage, and the engines for it; none of them is loaded yet."""
    spoken = plan if done is not None else preparation.engines_only()
    stages = (
        run_plan(spoken, executor.nodes, cpu=executor.cpu, done=done or ())
        if executor.nodes
        else without_engines(plan)
    )
    for reason in dict.fromkeys(stages.misfits.values()):
        cells = sum(found == reason for found in stages.misfits.values())
        console.print(f"[red]{many(cells, 'cell')} cannot run: {escape(reason)}[/]", soft_wrap=True)

    def episodes(cells: frozenset[int]) -> Iterator[Ref]:
        return iter(()) if done is None else plan.refs(done, cells)

    queue = LeaseQueue(
        [episodes(part.cells) for part in stages.stages],
        plan.loaded.header.retries.episode,
        opened=0,
        count=left,
        prepares=[preparation.leases(part.cells) for part in stages.stages],
        skips=preparation.lacks,
    )
    return RunEngines(stages, queue, executor, console)


class _Interrupts:
    """The first interrupt stops the run cleanly, the second at once."""

    def __init__(self, stopping: asyncio.Event, console: Console) -> None:
        self._stopping = stopping
        self._console = console

    def __call__(self) -> None:
        if self._stopping.is_set():
            raise KeyboardInterrupt
        self._console.print("stopping: finished episodes are being committed ...")
        self._stopping.set()
