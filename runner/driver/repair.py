"""Damaged parts of a folder: set aside where they are found, and the step that found them repeated.

A part whose footer can be read may have damaged pages, which show where they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.markup import escape

from agents.core.errors import UsageError
from sweeps.storage import parts
from sweeps.storage.parts import PartDamaged, PartForeign
from sweeps.storage.records import COMMITS
from workers.results.compaction import compact
from workers.results.lease import FolderLease
from workers.results.repair import repair_folder

T = TypeVar("T")


@contextmanager
def refusing_foreign() -> Iterator[None]:
    """What is not ours stays as it is: the same command would only meet it again."""
    try:
        yield
    except PartForeign as error:
        raise UsageError(error.message) from None


def set_aside(lease: FolderLease, console: Console, damaged: Collection[str] = ()) -> None:
    """Sets aside the parts that are known to be damaged and those found to be, and says so."""
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
            f"[bold red]{count:,} attempts lost {lost}; their {kind}s are run again[/]",
            soft_wrap=True,
        )


def _then(table: str) -> str:
    """What becomes of what a damaged part of `table` held; what lost rows is counted."""
    if table == "cases":
        return ", and is written again"
    commits = any(commit.table == table for commit in COMMITS.values())
    return ", and what it committed is run again" if commits else ""


def repairing(step: Callable[[], T], lease: FolderLease, console: Console) -> tuple[T, bool]:
    """The result of `step`, and whether it met no damage.

    A part that it finds damaged is set aside, and it alone is repeated.
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
    """Merges parts, and sets aside those that cannot be read; whether there were none."""
    return repairing(lambda: compact(lease.folder, lease), lease, console)[1]
