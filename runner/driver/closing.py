"""Closes a session: merges parts, cleans up the call cache, and reports how the run went."""

from __future__ import annotations

import time

from rich.markup import escape

from runner.core.locations import store_of
from runner.driver.execution import Execution, after_the_last_commit
from runner.driver.opening import Session
from runner.driver.repair import compact_whole
from runner.driver.report import conclude
from runner.driver.result import RunResult
from workers.cache.store import settle, tidy
from workers.results.bundles import write_part


def nothing_to_run(session: Session) -> RunResult | None:
    """The result of a session with nothing to run: nothing is left, or a cap is reached."""
    work, reached = session.work, None
    if work.left == 0:
        if work.completes and session.calls is not None:
            settle(session.calls)
        session.console.print(work.nothing_left())
    elif (reached := session.budget.reached()) is not None:
        session.console.print(f"no {work.noun}s were started: {escape(reached)}", soft_wrap=True)
    else:
        return None
    needs = session.budget.needs()
    return RunResult(session.folder, work.noun, work.planned, work.left, None, reached, needs=needs)


def close(session: Session, execution: Execution) -> RunResult:
    """Finishes the folder and returns the result. Errors from here on do not fail the run."""
    work, unfinished, whole = session.work, [*execution.unfinished], True
    with after_the_last_commit("training curves cannot be stored", unfinished):
        _store_curves(session)
    with after_the_last_commit("parts cannot be merged", unfinished):
        whole = compact_whole(session.lease, session.console)
    left = work.left_after(execution.tally, whole=whole)
    # If calls could not be sealed, their journals are the only copy.
    if session.calls is not None and execution.sealed:
        with after_the_last_commit("the call cache cannot be cleaned up", unfinished):
            tidy(session.calls, complete=left == 0 and work.completes)
    result = RunResult(
        session.folder,
        work.noun,
        work.planned,
        left,
        execution.tally,
        execution.stopped,
        work.preparation.failed,
        session.budget.needs(),
        execution.unavailable,
        tuple(dict.fromkeys(unfinished)),
    )
    conclude(session, result, execution, time.monotonic() - execution.started)
    return result


def _store_curves(session: Session) -> None:
    """Copies the training curves of the plan's artifacts into the folder, each once."""
    plan, folder = session.plan, session.lease.folder
    if not plan.artifacts:
        return
    store = store_of(plan.loaded.header.artifacts)
    there = folder.names("curves")
    for key in plan.artifacts:
        about = store.about(key)
        if about is None or not about.curve:
            continue
        ending = f"-{key}-{about.digest}.parquet"
        if not any(name.endswith(ending) for name in there):
            bundle = f"{session.lease.epoch:06d}{ending}".removesuffix(".parquet")
            rows = [
                {"artifact_key": key, "digest": about.digest, **point._asdict()}
                for point in about.curve
            ]
            stamp = {"bundle_id": bundle, "driver_epoch": session.lease.epoch}
            write_part(folder, f"curves/{bundle}.parquet", "curves", rows, stamp)
