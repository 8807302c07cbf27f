"""Opens a sweep folder for a run: repairs it, and finds what is done."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from agents.core.errors import UsageError
from runner.driver import manifest as sweep_folder
from runner.driver.failures import to_run_again
from sweeps import manifest as manifests
from sweeps.manifest import Manifest
from sweeps.plan import Plan
from sweeps.storage import folder as folders
from sweeps.storage import parts
from sweeps.storage.folder import Folder
from sweeps.storage.parts import PartDamaged, PartForeign
from workers.results.bundles import committed
from workers.results.compaction import compact
from workers.results.lease import FolderLease
from workers.results.repair import mend

# What becomes of what a damaged part held; what lost turns or calls is counted.
_THEN = {
    "episodes": ", and what it committed is run again",
    "turns": "",
    "calls": "",
    "cases": ", and is written again",
}


def settled_episodes(folder: Folder, retry: Sequence[str] = ()) -> set[str]:
    """Ids of the episodes in `folder` that a run leaves alone. UsageError if it is damaged."""
    try:
        return find_settled(folder, retry)
    except PartDamaged as error:
        raise UsageError(error.message) from None


def find_settled(folder: Folder, retry: Sequence[str] = ()) -> set[str]:
    """The same, but PartDamaged for what a run sets aside."""
    with refusing_foreign():
        return committed(folder) - to_run_again(folder, retry)


@contextmanager
def refusing_foreign() -> Iterator[None]:
    """What is not ours stays as it is: the same command would only meet it again."""
    try:
        yield
    except PartForeign as error:
        raise UsageError(error.message) from None


def compact_whole(out: Folder, lease: FolderLease, console: Console) -> bool:
    """Merges parts, and sets aside those that cannot be read; whether there were none."""
    whole = True
    while True:
        try:
            compact(out, lease)
            return whole
        except PartDamaged as error:
            whole = False
            set_aside(out, lease, console, [error.name])


def set_aside(
    out: Folder, lease: FolderLease, console: Console, damaged: Collection[str] = ()
) -> None:
    """Sets damaged parts aside, and says so."""
    with refusing_foreign():
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


def begin(plan: Plan, out: Folder, epoch: int, before: Manifest | None) -> Manifest:
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
