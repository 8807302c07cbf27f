"""Opens a sweep folder for a command: takes its lease, repairs it, and finds what is left to run.

1. Everything that can be refused is refused before anything is written.
2. The steps under the lease run once, in order. A step that finds a damaged part is repeated after
   the part was set aside (`runner.driver.repair`); no other step is.
3. The `Session` carries the findings, so that they are computed only once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from agents.core.errors import StoreError
from runner.core.locations import check_cache_folder, places_of
from runner.driver.budget import Budget, budget_of
from runner.driver.environment import check_environment
from runner.driver.manifest import (
    check_sources,
    make_manifest,
    recipe_line,
    source_entries,
    write_cases,
)
from runner.driver.manifest_writer import ManifestWriter
from runner.driver.repair import compact_whole, repairing, set_aside
from runner.driver.work import FindWork, Work
from sweeps import manifest as manifests
from sweeps.manifest import Manifest
from sweeps.plan import Plan
from sweeps.storage import folder as folders
from sweeps.storage import parts
from sweeps.storage.folder import Folder
from sweeps.storage.records import SCHEMAS
from workers.cache.store import Places
from workers.processes.logs import log_to
from workers.results.compaction import remove_replaced
from workers.results.lease import FolderLease, holding


@dataclass(frozen=True)
class Session:
    """Everything known about a folder while it is open."""

    plan: Plan
    lease: FolderLease
    work: Work
    """Which of the command's tasks are done and left."""
    manifest: ManifestWriter
    calls: Places | None
    """Where completed calls are kept; None if no model is worth caching (`rules`)."""
    budget: Budget
    console: Console

    @property
    def folder(self) -> Folder:
        return self.lease.folder


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Makes SIGTERM, which job servers and schedulers send, end the block as Ctrl-C does.

    By default it would end the process at once, and the lease would have to expire.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def open_session(
    plan: Plan,
    find_work: FindWork,
    console: Console,
    *,
    accept_source_change: bool = False,
    wait_for_lease: float = 0.0,
) -> Iterator[Session]:
    """Opens the plan's folder and holds it until the block ends.

    Raises UsageError, DataError and StoreError. `wait_for_lease` is how many seconds to wait for a
    lease whose driver no longer renews it. An OSError in the block is a storage error, and becomes
    a StoreError.
    """
    calls = _check(plan, accept_source_change, console)

    def waiting(held: Mapping[str, Any]) -> None:
        console.print(
            f"waiting for the lease of {plan.loaded.out}: {holding(held)}",
            markup=False, soft_wrap=True,
        )  # fmt: skip

    lease = FolderLease.take(plan.loaded.out, wait=wait_for_lease, waiting=waiting)
    try:
        with terminated_as_interrupted():
            yield _open(plan, lease, find_work, calls, console)
    except OSError as error:
        if error.filename is None:  # nothing says that it was the output folder
            reason = error.strerror or error
            raise StoreError(f"the run in {lease.folder} was ended: {reason}") from error
        raise StoreError(
            f"cannot read or write {error.filename}: {error.strerror or error}"
        ) from error
    finally:
        lease.release()


def _check(plan: Plan, accept_source_change: bool, console: Console) -> Places | None:
    """Refuses whatever can be refused before anything is written. Returns where calls are kept, if
    anywhere."""
    check_environment(plan)
    out = plan.loaded.out
    if any(name.endswith(parts.SUFFIX) for name in out.names("episodes")):  # else nothing is mixed
        before = manifests.read(out)
        check_sources(plan, before, accept_source_change)
        if (line := recipe_line(before)) is not None:
            console.print(line, style="yellow", markup=False, soft_wrap=True)
    if (calls := places_of(plan, epoch=0)) is not None:
        check_cache_folder(calls, plan.loaded.origins)
    return calls


def _open(
    plan: Plan, lease: FolderLease, find_work: FindWork, calls: Places | None, console: Console
) -> Session:
    out = lease.folder
    log_to(out.logs, f"{lease.epoch:06d}-driver")
    before = manifests.read(out)
    if before is None and lease.epoch > 1:
        console.print(
            f"{escape(f'{out}/{manifests.FILE}')} is missing and is written again; whether "
            "plug-ins have changed since these episodes ran is unknown",
            style="bold red",
            soft_wrap=True,
        )
    out.remove_leftovers(SCHEMAS)
    set_aside(lease, console)
    repairing(lambda: remove_replaced(out), lease, console)
    manifest, _ = repairing(lambda: _describe(plan, lease, before), lease, console)
    work, _ = repairing(lambda: find_work(plan), lease, console)
    while work.left == 0 and work.completes and not compact_whole(lease, console):
        # Tasks of parts that are set aside during the merge are left to run.
        work, _ = repairing(lambda: find_work(plan), lease, console)
    calls = None if calls is None else replace(calls, epoch=lease.epoch)
    return Session(plan, lease, work, manifest, calls, budget_of(plan), console)


def _describe(plan: Plan, lease: FolderLease, before: Manifest | None) -> ManifestWriter:
    """Writes the sweep file as given, the cases if they have changed, and the manifest."""
    out = lease.folder
    folders.write(out, "sweep.yaml", plan.loaded.text.encode())
    cases_file = "" if before is None else before.cases_file
    there = cases_file in out.names("cases")
    if not there or before is None or before.sources != source_entries(plan):
        cases_file = write_cases(plan, out, lease.epoch)
    writer = ManifestWriter(lease, make_manifest(plan, lease.epoch, before, cases_file))
    writer.write()
    # A reader that opened the folder before this run still uses the old cases.
    named = {cases_file, before.cases_file if before else ""}
    for name in parts.live(out, "cases"):
        if name.removeprefix("cases/") not in named:
            out.delete(name)
    return writer
