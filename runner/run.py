"""`crsweep run`: from a plan to committed episodes."""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape

from agents.core.errors import StoreError, UsageError
from analysis.metrics.core import parse
from runner import folder as sweep_folder
from runner.caching import check_folder, check_match, places_of
from runner.crew import Crew, LocalCrew, RayCrew
from runner.engines import RunEngines, engine_lines, run_plan, without_engines
from runner.progress import ProgressDisplay, Tally, duration
from runner.scheduler import LeaseQueue, drive
from sweeps import manifest as manifests
from sweeps.load import Loaded, load
from sweeps.manifest import Manifest
from sweeps.plan import Plan, make_plan
from workers.cache.store import settle, tidy
from workers.episodes import Job, job_of
from workers.lease import FolderLease
from workers.logs import log_to
from workers.models import declare
from workers.store import committed, committed_by, remove_leftovers

log = logging.getLogger(__name__)

COMPLETE, BAD_INPUT, INCOMPLETE = 0, 2, 3


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `left` episodes of the plan are still to be run."""

    folder: Path
    planned: int
    left: int
    tally: Tally | None

    @property
    def exit_code(self) -> int:
        return COMPLETE if self.left == 0 else INCOMPLETE


def prepare(sweep: Path, overrides: Sequence[str]) -> Plan:
    """Loads, checks and expands a sweep, its metrics too. Nothing is written."""
    loaded = load(sweep, overrides)
    check_metrics(loaded)
    plan = make_plan(loaded, declare)
    check_match(plan)
    sweep_folder.check_is_ours(loaded.out, loaded.header.name)
    return plan


def check_metrics(loaded: Loaded) -> bool:
    """Checks the names of the metrics; whether one of them needs the probe."""
    probe = False
    names = loaded.header.metrics
    for index, name in enumerate(names):
        if name in names[:index]:
            raise loaded.origins.refuse(("metrics", index), f"{name!r} stands here twice")
        try:
            probe = parse(name).needs_probe or probe
        except UsageError as error:
            raise loaded.origins.refuse(("metrics", index), error.message) from None
    return probe


def run(
    sweep: Path, overrides: Sequence[str], *, accept_source_change: bool, console: Console
) -> Outcome:
    """Runs what is left of a sweep. Raises UsageError, DataError and StoreError."""
    plan = prepare(sweep, overrides)
    out = plan.loaded.out
    sweep_folder.check_sources(plan, manifests.read(out), accept_source_change)
    if (places := places_of(plan, epoch=0)) is not None:
        check_folder(places, plan.loaded.origins)
    lease = FolderLease.take(out)
    try:
        log_to(out / "logs", f"{lease.epoch:06d}-driver")
        manifest = manifests.read(out)
        remove_leftovers(out)
        try:
            done = committed(out)
        except StoreError as error:  # the same command would only meet it again
            raise UsageError(error.message) from None
        left = plan.episodes if not done else sum(1 for _ in plan.refs(done))
        manifest = _begin(plan, out, lease.epoch, manifest)
        if left == 0:
            if (places := places_of(plan, lease.epoch)) is not None:
                settle(places)
            console.print(f"nothing to do: all {plan.episodes:,} episodes are done")
            return Outcome(out, plan.episodes, 0, None)
        _announce(plan, left, console)
        started = time.monotonic()

        def note(engines: Sequence[dict[str, Any]]) -> None:
            if not lease.lost.is_set():
                noted = {"engines": [*manifest.engines, *engines]}
                sweep_folder.write_manifest(out, manifest.model_copy(update=noted))

        tally, engines = asyncio.run(_run(plan, lease, done, left, console, note))
        ended = {"ended": time.time(), "engines": [*manifest.engines, *engines]}
        sweep_folder.write_manifest(out, manifest.model_copy(update=ended))
        outcome = Outcome(out, plan.episodes, left - tally.settled + tally.open, tally)
        if (places := places_of(plan, lease.epoch)) is not None:
            tidy(places, complete=outcome.left == 0)
        _conclude(outcome, engines, time.monotonic() - started, console)
        return outcome
    except OSError as error:
        raise StoreError(f"cannot write {error.filename or out}: {error.strerror}") from error
    finally:
        lease.release()


def _begin(plan: Plan, out: Path, epoch: int, before: Manifest | None) -> Manifest:
    """Writes the sweep file as given, the cases, and the manifest that describes the plan."""
    (out / "sweep.yaml").write_text(plan.loaded.text, encoding="utf-8")
    manifest = sweep_folder.make_manifest(plan, epoch, before)
    if before is None or before.sources != manifest.sources:
        cases_file = sweep_folder.write_cases(plan, out, epoch)
        manifest = manifest.model_copy(update={"cases_file": cases_file})
    sweep_folder.write_manifest(out, manifest)
    return manifest


def _announce(plan: Plan, left: int, console: Console) -> None:
    cases = sum(len(source) for source in plan.sources)
    done = plan.episodes - left
    console.print(
        f"{escape(plan.loaded.header.name)}: {len(plan.cells)} cells, {cases:,} cases, "
        f"{plan.episodes:,} episodes{f', {done:,} done' if done else ''}, {left:,} to run",
        soft_wrap=True,
    )


async def _run(
    plan: Plan,
    lease: FolderLease,
    done: set[str],
    left: int,
    console: Console,
    note: Callable[[Sequence[dict[str, Any]]], None],
) -> Ended:
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
        engines = _engines(plan, done, crew, console)
        workers = [await crew.spawn() for _ in range(count)]
        with ProgressDisplay(left, console) as display:
            conducting = engines.start(stopping)
            noting = asyncio.create_task(engines.keep_noting(job.epoch, note))
            await drive(
                workers,
                engines.queue,
                display,
                stopping,
                lost=crew.lost,
                left_behind=lambda name: committed_by(job.folder, job.epoch, name),
                replace=crew.spawn,
                epoch=job.epoch,
            )
        noting.cancel()
        await engines.end(conducting)
        entries = engines.entries(job.epoch)
        await crew.seal()
    finally:
        lease.when_lost = None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        crew.close()
    if lease.lost.is_set():
        raise StoreError(f"another driver has taken over {lease.folder}; this one stopped")
    return Ended(display.tally, entries)


class Ended(NamedTuple):
    """How the dialogues of a run went, and what its engines did."""

    tally: Tally
    engines: list[dict[str, Any]]


def _worker_count(plan: Plan) -> int:
    run = plan.loaded.header.run
    return 1 if run.executor == "local" else min(run.episode_workers, run.concurrency)


def _crew(plan: Plan, job: Job, count: int, console: Console) -> Crew:
    run = plan.loaded.header.run
    slots = -(-run.concurrency // count)
    if run.executor == "local":
        return LocalCrew(job, slots)
    return RayCrew(job, slots, count, run.ray_address, console)


def _engines(plan: Plan, done: set[str], crew: Crew, console: Console) -> RunEngines:
    """What is to run in which stage, and the engines for it; none of them is loaded yet."""
    stages = (
        run_plan(plan, crew.nodes, cpu=crew.cpu, done=done) if crew.nodes else without_engines(plan)
    )
    for reason in dict.fromkeys(stages.misfits.values()):
        cells = sum(found == reason for found in stages.misfits.values())
        console.print(f"[red]{cells} cells cannot run: {escape(reason)}[/]", soft_wrap=True)
    queue = LeaseQueue(
        [plan.refs(done, part.cells) for part in stages.stages],
        plan.loaded.header.retries.episode,
        opened=0,
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
    outcome: Outcome, engines: Sequence[dict[str, Any]], seconds: float, console: Console
) -> None:
    tally = outcome.tally
    assert tally is not None
    console.print(
        f"{tally.settled:,} episodes ({tally.failed:,} failed) in {duration(seconds)}, "
        f"{tally.calls:,} calls, {tally.tokens:,} tokens"
    )
    for (blame, kind), count in tally.failures.most_common():
        example = tally.examples[blame, kind][:200]
        console.print(f"  {count:,} x {kind}, blame {blame}: {escape(example)}", soft_wrap=True)
    for line in engine_lines(engines):
        console.print(escape(line), soft_wrap=True)
    if tally.losses:
        lost = tally.losses.values()
        console.print(
            f"{sum(one.calls for one in lost):,} calls were in engines that died and were tried "
            f"again ({sum(one.seconds for one in lost):,.0f} call-seconds lost, "
            f"{sum(one.quarantined for one in lost):,} quarantined)",
            soft_wrap=True,
        )


def resume_hint(argv: Sequence[str]) -> str:
    """How to go on: the command that was given."""
    program, *words = argv
    own_script = Path(program).name == "crsweep"
    return f"to go on: {program if own_script else 'python -m runner'} {shlex.join(words)}"
