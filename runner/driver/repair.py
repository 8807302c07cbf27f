"""Sets damaged parts of a folder aside when they are found, and repeats the step that found them.

A part with a readable footer may still have damaged pages, which are noticed when they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.markup import escape

from agents.core.errors import UsageError
from agents.core.plural import many
from sweeps.storage import parts
from sweeps.storage.parts import PartDamaged, PartForeign
from sweeps.storage.records import COMMITS
from workers.results.compaction import compact
from workers.results.lease import FolderLease
from workers.results.repair import repair_folder

T = TypeVar("T")


@contextmanager
def refusing_foreign() -> Iterator[None]:
    """Refuses files that are not ours, because the same command would only meet them again."""
    try:
        yield
    except PartForeign as error:
        raise UsageError(error.message) from None


def set_aside(lease: FolderLease, console: Console, damaged: Collection[str] = ()) -> None:
    """Sets aside the damaged parts that are known or found, and prints which."""
    out = lease.folder
    with refusing_foreign():
        found = repair_folder(out, lease, damaged)
    for name in found.damaged:
        console.print(
            f"[bold red]{escape(f'{out}/{name}')} is damaged; renamed it to "
            f"{escape(name)}{parts.DAMAGED}{_then(name.partition('/')[0])}[/]",
            soft_wrap=True,
        )
    for kind, count in found.uncommitted.items():
        lost = " or ".join(need.table for need in reversed(COMMITS[kind].needs))
        console.print(
            f"[bold red]{many(count, 'attempt')} lost {lost}; their {kind}s are run again[/]",
            soft_wrap=True,
        )


def _then(table: str) -> str:
    """What happens to the content of a damaged part of `table`; tasks that lost rows
    are counted."""
    if table == "cases":
        return ", and is written again"
    commits = any(commit.table == table for commit in COMMITS.values())
    return ", and what it committed is run again" if commits else ""


def repairing(step: Callable[[], T], lease: FolderLease, console: Console) -> tuple[T, bool]:
    """Runs `step`, and returns its result and whether it met no damage.

    A part that it finds damaged is set aside, and only this step is repeated.
    """
    whole = True
    while True:
        try:
            with refusing_foreign():
                return step(), whole
        except PartDamaged as error:
            whole = False
            set_aside(lease, console, [error.name])


def compact_whole(lease: FolderLease, console: Console) -> bool:
    """Merges parts and sets aside unreadable ones. Returns whether there were none."""
    return repairing(lambda: compact(lease.folder, lease), lease, console)[1]
