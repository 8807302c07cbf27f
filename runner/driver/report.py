"""What a run prints at its start and at its end."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.markup import escape

from agents.core.plural import many
from runner.core.dataset_summary import remark_lines
from runner.core.formatting import duration
from runner.core.invocation import program
from runner.core.locations import call_cache_folder, free_calls
from runner.driver.execution import Execution
from runner.driver.opening import Session
from runner.driver.progress import KindTally, token_words
from runner.driver.result import RunResult
from runner.placement.describe import engine_lines
from sweeps.storage.folder import LocalFolder
from workers.cache import journal
from workers.cache.entries import Damage


def announce(session: Session) -> None:
    """Prints what is about to be run."""
    plan, console = session.plan, session.console
    cases = sum(len(source) for source in plan.sources)
    console.print(
        f"{escape(plan.loaded.header.name)}: {many(len(plan.cells), 'cell')}, "
        f"{many(cases, 'case')}, {session.work.summary()}",
        soft_wrap=True,
    )
    for line in remark_lines(plan):
        console.print(line, markup=False, soft_wrap=True)
    _announce_journal(session)
    if missing := session.work.preparation.missing:
        console.print(f"{missing:,} of {len(session.work.artifacts):,} artifacts must be made")


def _announce_journal(session: Session) -> None:
    """Prints where completed calls are kept, if that is not in the sweep's folder."""
    if session.calls is None or isinstance(session.folder, LocalFolder):
        return
    moved = session.plan.loaded.header.cache.journal is not None
    session.console.print(
        f"completed calls are in {session.calls.folder / journal.FOLDER} until the sweep is "
        "complete: "
        + (
            "keep this folder"
            if moved
            else "keep this folder and resume from the same working folder, or you pay for these "
            "calls again (to keep them elsewhere, such as on a disk that outlives this machine, "
            "set `cache.journal`)"
        ),
        markup=False,
        soft_wrap=True,
    )


def conclude(session: Session, result: RunResult, execution: Execution, seconds: float) -> None:
    """Prints how the run went. `seconds` is its duration so far."""
    console, tally, cache = session.console, execution.tally, session.plan.loaded.header.cache
    counts = tally.counts
    settled = ", ".join(_settled(kind, one) for kind, one in tally.kinds.items())
    console.print(
        f"{settled} in {duration(seconds)}, {many(counts.calls, 'call')}"
        f"{free_calls(counts.cached, cache.mode)}, "
        f"{token_words(counts.tokens, counts.uncounted)}",
        soft_wrap=True,
    )
    caps = session.budget.line()
    for line in [*engine_lines(execution.engines), *([] if caps is None else [caps])]:
        console.print(escape(line), soft_wrap=True)
    if tally.losses:
        lost = tally.losses.values()
        console.print(
            f"lost when engines died, and retried: {many(sum(one.calls for one in lost), 'call')} "
            f"({sum(one.seconds for one in lost):,.0f} call-seconds lost, "
            f"{sum(one.quarantined for one in lost):,} quarantined)",
            soft_wrap=True,
        )
    for line in _damage_lines(tally.damage, cache.path):
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def _settled(kind: str, tally: KindTally) -> str:
    """`12 episodes (1 failed)`."""
    again = f"; {many(tally.tried_again, 'failed attempt')} retried" if tally.tried_again else ""
    return f"{many(tally.settled, kind)} ({tally.failed:,} failed{again})"


def _damage_lines(damage: Damage, path: str | None) -> Iterator[str]:
    """Lines on what a run paid for again; `path` is the cache's path in the sweep file."""
    if damage.calls:
        where = f" --path {shlex.quote(str(call_cache_folder(path)))}" if path else ""
        yield (
            f"paid for again, because the call cache is damaged: {many(damage.calls, 'call')}; "
            f"`{program()} cache verify{where}` names the files"
        )
    if damage.files:
        yield (
            f"partly unreadable: {many(len(damage.files), 'file')} of the call cache, whose lost "
            f"calls are paid for again: {', '.join(sorted(damage.files))}"
        )
