"""`crsweep run`: from a plan to committed episodes."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from agents.core.errors import CrsweepError, StoreError, UsageError
from analysis.metrics.core import parse
from runner.dataset_summary import remark_lines
from runner.driver import manifest as sweep_folder
from runner.driver.artifacts import Preparation, needed
from runner.driver.budget import Budget, budget_of, check_caps
from runner.driver.early_stop import Guard
from runner.driver.executors import Crew, LocalCrew, RayCrew
from runner.driver.failures import to_run_again
from runner.driver.progress import ProgressDisplay, Tally, duration, token_words
from runner.driver.scheduler import LeaseQueue, drive
from runner.environment import check_environment, environment_of
from runner.invocation import for_a_file
from runner.locations import (
    check_folder,
    check_match,
    check_paths,
    damage_lines,
    free_calls,
    places_of,
)
from runner.placement.groups import RunEngines, engine_lines, run_plan, without_engines
from runner.screen import reason_of
from sweeps import manifest as manifests
from sweeps.load import Loaded, load
from sweeps.manifest import Manifest, RunEntry
from sweeps.plan import Plan, Ref, make_plan
from sweeps.storage import folder as folders
from sweeps.storage import parts
from sweeps.storage.folder import Folder, LocalFolder
from sweeps.storage.parts import PartDamaged, PartForeign
from sweeps.storage.records import SCHEMAS
from workers.cache import journal
from workers.cache.store import settle, tidy
from workers.episodes import Job, job_of
from workers.models import declare
from workers.processes.logs import log_to
from workers.results.bundles import committed, committed_by
from workers.results.compaction import compact, remove_replaced
from workers.results.lease import FolderLease
from workers.results.repair import mend

log = logging.getLogger(__name__)

COMPLETE, BAD_INPUT, INCOMPLETE = 0, 2, 3
# What becomes of what a damaged part held; what lost turns or calls is counted.
_THEN = {
    "episodes": ", and what it committed is run again",
    "turns": "",
    "calls": "",
    "cases": ", and is written again",
}
_NOTE_EVERY = 10.0  # seconds between notes of what was paid for


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `left` episodes of the plan are still to be run (or artifacts made)."""

    folder: Folder
    planned: int
    left: int
    tally: Tally | None
    stopped: str | None = None
    """Why the run was stopped early, if the sweep file says so."""
    unprepared: Mapping[str, str] = field(default_factory=dict)
    """Artifact -> why it could not be made."""
    needs: Sequence[str] = ()
    """The overrides that the next run needs to go on: of caps that are reached."""
    unavailable: bool = False
    """Whether it was stopped because a model serves no call."""
    unfinished: Sequence[str] = ()
    """What failed after everything was committed, and is made up for by the next run."""

    @property
    def exit_code(self) -> int:
        return COMPLETE if self.left == 0 else INCOMPLETE


def prepare(sweep: Path, overrides: Sequence[str]) -> Plan:
    """Loads, checks and expands a sweep, its metrics too. Nothing is written."""
    loaded = load(sweep, overrides)
    check_metrics(loaded)
    plan = make_plan(loaded, declare)
    check_caps(plan)
    check_paths(plan)
    check_match(plan)
    sweep_folder.check_is_ours(loaded.out, loaded.header.name)
    return plan


def check_metrics(loaded: Loaded) -> bool:
    """Checks the names of the metrics; whether one of them needs the probe."""
    probe = False
    names = loaded.header.metrics
    for index, name in enumerate(names):
        if name in names[:index]:
            raise loaded.origins.refuse(("metrics", index), f"{name!r} is listed twice")
        try:
            probe = parse(name).needs_probe or probe
        except UsageError as error:
            raise loaded.origins.refuse(("metrics", index), error.message) from None
    return probe


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
    plan = prepare(sweep, overrides)
    check_environment(plan)
    out = plan.loaded.out
    if any(name.endswith(parts.SUFFIX) for name in out.names("episodes")):  # else nothing is mixed
        before = manifests.read(out)
        sweep_folder.check_sources(plan, before, accept_source_change)
        if (line := sweep_folder.recipe_line(before)) is not None:
            console.print(line, style="yellow", markup=False, soft_wrap=True)
    if retry:  # a word that names no failure is refused before anything is touched
        with suppress(PartDamaged):  # it is set aside, and the words are looked at again
            _settled(out, retry)
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
                _mend(out, lease, console, damaged)
                with _refusing():
                    remove_replaced(out)
                manifest = _begin(plan, out, lease.epoch, before)  # with cases, if they were lost
                done = _settled(out, retry)
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
        _announce(plan, left, console)
        _tell_journal(plan, lease.epoch, console)
        if preparation.missing:
            console.print(f"{preparation.missing:,} of {len(keys):,} artifacts must be made")
        started = time.monotonic()
        notes = _Notes(out, manifest, lease, budget, again)
        try:
            running = _run(plan, None if only_prepare else done, left, console, notes, preparation)
            tally = asyncio.run(running)
        finally:  # what was paid for is told, however the run ended
            with _after_the_last_commit("the manifest cannot be updated", notes.unfinished):
                notes.write()
        whole = True
        with _after_the_last_commit("the manifest cannot be updated", notes.unfinished):
            notes.manifest = notes.manifest.model_copy(update={"ended": time.time()})
            notes.write()
        stopped, failed = notes.entry.stopped, preparation.failed
        with _after_the_last_commit("parts cannot be merged", notes.unfinished):
            whole = _compact(out, lease, console)
        if only_prepare:
            planned, left = len(keys), preparation.missing
        else:
            planned, left = plan.episodes, left + tally.open - tally.settled
            if not whole:
                left = sum(1 for _ in plan.refs(_settled(out)))
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
        _conclude(outcome, notes.engines, budget.line(), seconds, mode, console)
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


def settled_episodes(folder: Folder, retry: Sequence[str] = ()) -> set[str]:
    """Ids of the episodes in `folder` that a run leaves alone. UsageError if it is damaged."""
    try:
        return _settled(folder, retry)
    except PartDamaged as error:
        raise UsageError(error.message) from None


def _settled(folder: Folder, retry: Sequence[str] = ()) -> set[str]:
    """The same, but PartDamaged for what a run sets aside."""
    with _refusing():
        return committed(folder) - to_run_again(folder, retry)


@contextmanager
def _refusing() -> Iterator[None]:
    """What is not ours stays as it is: the same command would only meet it again."""
    try:
        yield
    except PartForeign as error:
        raise UsageError(error.message) from None


def _compact(out: Folder, lease: FolderLease, console: Console) -> bool:
    """Merges parts, and sets aside those that cannot be read; whether there were none."""
    whole = True
    while True:
        try:
            compact(out, lease)
            return whole
        except PartDamaged as error:
            whole = False
            _mend(out, lease, console, [error.name])


class _Notes:
    """What the manifest says of a run, kept up to date while it goes on."""

    def __init__(
        self, folder: Folder, manifest: Manifest, lease: FolderLease, budget: Budget, again: str
    ) -> None:
        self.folder, self.manifest, self.lease, self.budget = folder, manifest, lease, budget
        self.engines: Sequence[dict[str, Any]] = ()
        self.unavailable = False
        self.sealed = True
        self.unfinished: list[str] = []
        self.entry = RunEntry(
            driver_epoch=lease.epoch,
            started=time.time(),
            caps=budget.caps,
            prices=dict(budget.prices),
            command=for_a_file(again),
            typed_in=str(Path.cwd()),
        )

    def note_engines(self, engines: Sequence[dict[str, Any]]) -> None:
        self.engines = engines
        self.write()

    def write(self) -> None:
        """Writes the manifest, unless another driver has taken the folder over."""
        if self.lease.lost.is_set():
            return
        self.entry.tokens = {m: [u.input, u.output] for m, u in self.budget.now.items()}
        self.entry.gpu_seconds = round(self.budget.gpu_seconds(), 1)
        noted = {
            "engines": [*self.manifest.engines, *self.engines],
            "runs": [*self.manifest.runs, self.entry],
        }
        manifests.write(self.folder, self.manifest.model_copy(update=noted))

    async def keep_writing(self) -> None:
        """Writes now and then: a driver that is killed could not."""
        while True:
            await asyncio.sleep(_NOTE_EVERY)
            self.write()


def _mend(out: Folder, lease: FolderLease, console: Console, damaged: Collection[str] = ()) -> None:
    """Sets damaged parts aside, and says so."""
    with _refusing():
        found = mend(out, lease, damaged)
    for name in found.damaged:
        console.print(
            f"[bold red]{escape(f'{out}/{name}')} is damaged; it is now "
            f"{escape(name)}{parts.DAMAGED}{_THEN[name.partition('/')[0]]}[/]",
            soft_wrap=True,
        )
    if found.uncommitted:
        console.print(
            f"[bold red]{found.uncommitted:,} attempts lost turns or calls; their episodes are run "
            "again[/]",
            soft_wrap=True,
        )


def _begin(plan: Plan, out: Folder, epoch: int, before: Manifest | None) -> Manifest:
    """Writes the sweep file as given, the cases, and the manifest that describes the plan."""
    folders.write(out, "sweep.yaml", plan.loaded.text.encode())
    manifest = sweep_folder.make_manifest(plan, epoch, before)
    manifest = manifest.model_copy(update={"runs": before.runs if before else []})
    there = manifest.cases_file in out.names("cases")
    if not there or before is None or before.sources != manifest.sources:
        cases_file = sweep_folder.write_cases(plan, out, epoch)
        manifest = manifest.model_copy(update={"cases_file": cases_file})
    manifests.write(out, manifest)
    # Whoever opened the folder before this run reads the cases of then.
    named = {manifest.cases_file, before.cases_file if before else ""}
    for name in parts.live(out, "cases"):
        if name.removeprefix("cases/") not in named:
            out.delete(name)
    return manifest


def _announce(plan: Plan, left: int, console: Console) -> None:
    cases = sum(len(source) for source in plan.sources)
    done = plan.episodes - left
    console.print(
        f"{escape(plan.loaded.header.name)}: {len(plan.cells)} cells, {cases:,} cases, "
        f"{plan.episodes:,} episodes{f', {done:,} done' if done else ''}, {left:,} to run",
        soft_wrap=True,
    )
    for line in remark_lines(plan):
        console.print(line, markup=False, soft_wrap=True)


def _tell_journal(plan: Plan, epoch: int, console: Console) -> None:
    """Says where completed calls are kept if that is not in the sweep's folder."""
    places = places_of(plan, epoch)
    if places is None or isinstance(plan.loaded.out, LocalFolder):
        return
    moved = plan.loaded.header.cache.journal is not None
    console.print(
        f"completed calls are in {places.folder / journal.FOLDER} until the sweep is complete: "
        + (
            "keep it"
            if moved
            else "keep it and resume from this working folder, or they are paid for again "
            "(`cache.journal` moves them elsewhere, such as to a disk that outlives this machine)"
        ),
        markup=False,
        soft_wrap=True,
    )


async def _run(
    plan: Plan,
    done: set[str] | None,
    left: int,
    console: Console,
    notes: _Notes,
    preparation: Preparation,
) -> Tally:
    """Makes the artifacts, then runs the episodes that are not in `done`; None for no episodes."""
    lease = notes.lease
    header = plan.loaded.header
    job = replace(
        job_of(
            plan,
            probe=check_metrics(plan.loaded),
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
    crew = _crew(plan, job, count, console)
    try:
        await preparation.begin(crew, stopping)
        engines = _engines(plan, done, left, crew, preparation, console)
        workers = [await crew.spawn() for _ in range(count)]
        total = 0 if done is None else left
        with ProgressDisplay(total, console, lambda: engines.queue.preparing) as display:
            preparation.attach(engines.queue, display.preparing())
            notes.budget.gpu_seconds = lambda: engines.gpu_seconds() + preparation.gpu_seconds
            guard = Guard(
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
                guard,
                stopping,
                lost=crew.lost,
                left_behind=lambda name: committed_by(job.folder, job.epoch, name),
                replace=crew.spawn,
                epoch=job.epoch,
                preparer=preparation,
            )
        for task in noting:
            task.cancel()
        await engines.end(conducting)
        notes.engines = engines.entries(job.epoch)
        notes.entry.stopped, notes.unavailable = guard.reason, guard.unavailable
        with _after_the_last_commit("the call cache cannot be sealed", notes.unfinished):
            notes.sealed = False
            display.tally.damage = await crew.seal()
            notes.sealed = True
    finally:
        lease.when_lost = None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        crew.close()
    if lease.lost.is_set():
        raise StoreError(f"another driver has taken over {lease.folder}; this one stopped")
    return display.tally


def _worker_count(plan: Plan) -> int:
    run = plan.loaded.header.run
    return 1 if run.executor == "local" else min(run.episode_workers, run.concurrency)


def _crew(plan: Plan, job: Job, count: int, console: Console) -> Crew:
    run = plan.loaded.header.run
    slots = -(-run.concurrency // count)
    if run.executor == "local":
        return LocalCrew(job, slots)
    environment = environment_of(plan)
    return RayCrew(job, slots, count, run.ray_address, run.fit_gpus, environment, console)


def _engines(
    plan: Plan,
    done: set[str] | None,
    left: int,
    crew: Crew,
    preparation: Preparation,
    console: Console,
) -> RunEngines:
    """What is to run in which stage, and the engines for it; none of them is loaded yet."""
    spoken = plan if done is not None else preparation.engines_only()
    stages = (
        run_plan(spoken, crew.nodes, cpu=crew.cpu, done=done or ())
        if crew.nodes
        else without_engines(plan)
    )
    for reason in dict.fromkeys(stages.misfits.values()):
        cells = sum(found == reason for found in stages.misfits.values())
        console.print(f"[red]{cells} cells cannot run: {escape(reason)}[/]", soft_wrap=True)

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
    return RunEngines(stages, queue, crew, console)


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


def _conclude(
    outcome: Outcome,
    engines: Sequence[dict[str, Any]],
    caps: str | None,
    seconds: float,
    cache_mode: str,
    console: Console,
) -> None:
    tally = outcome.tally
    assert tally is not None
    counts = tally.counts
    for title, reason in outcome.unprepared.items():
        console.print(f"[red]{escape(f'{title} cannot be prepared: {reason}')}[/]", soft_wrap=True)
    console.print(
        f"{tally.settled:,} episodes ({tally.failed:,} failed"
        f"{f'; {tally.tried_again:,} attempts failed and were retried' * bool(tally.tried_again)}"
        f") in {duration(seconds)}, {counts.calls:,} calls{free_calls(counts.cached, cache_mode)}, "
        f"{token_words(counts.tokens, counts.uncounted)}",
        soft_wrap=True,
    )
    for line in [*engine_lines(engines), *([] if caps is None else [caps])]:
        console.print(escape(line), soft_wrap=True)
    if tally.losses:
        lost = tally.losses.values()
        console.print(
            f"{sum(one.calls for one in lost):,} calls were in engines that died and were "
            f"retried ({sum(one.seconds for one in lost):,.0f} call-seconds lost, "
            f"{sum(one.quarantined for one in lost):,} quarantined)",
            soft_wrap=True,
        )
