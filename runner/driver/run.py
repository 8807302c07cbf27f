"""`crsweep run`, `prepare` and `judge`: each opens, executes and closes a session."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from agents.core.errors import UsageError
from runner.driver.closing import close, nothing_to_run
from runner.driver.execution import execute
from runner.driver.judging import JudgingWork, Selection
from runner.driver.loading import load_plan, load_plan_of
from runner.driver.opening import open_session
from runner.driver.report import announce
from runner.driver.result import RunResult
from runner.driver.work import ArtifactWork, EpisodeWork, FindWork, find_settled
from sweeps.plan import Plan
from sweeps.storage.parts import PartDamaged


def run(
    sweep: Path,
    overrides: Sequence[str],
    *,
    retry: Sequence[str] = (),
    accept_source_change: bool,
    accept_artifact_change: bool = False,
    only_prepare: bool = False,
    wait_for_lease: float = 0.0,
    again: str = "",
    console: Console,
) -> RunResult:
    """Runs what is left of a sweep. Raises UsageError, DataError and StoreError.

    `retry` names error classes and blames whose failed episodes and judgements are rerun. With
    `only_prepare`, all artifacts of the plan are made and no episode is run. `wait_for_lease` is as
    in `open_session`. `again` is the command that runs the sweep, for the manifest.
    """
    plan = load_plan(sweep, overrides)
    _check_retry(plan, retry)
    accepted = {"accept_artifacts": accept_artifact_change, "console": console}
    pending: RunResult | None = None
    if plan.pending:  # cases are known once their profiles are written
        writing = partial(ArtifactWork.find, keys=plan.pending, **accepted)
        pending = _run(plan, writing, accept_source_change, again, console, wait_for_lease)
        plan = load_plan(sweep, overrides)
        if pending.left and (pending.left > len(pending.unprepared) or not plan.episodes):
            return pending
        if only_prepare and not plan.artifacts:
            return pending
    find_work: FindWork = (
        partial(ArtifactWork.find, **accepted)
        if only_prepare
        else partial(EpisodeWork.find, retry=retry, **accepted)
    )
    result = _run(plan, find_work, accept_source_change, again, console, wait_for_lease)
    if pending is not None and pending.left:
        unprepared = {**pending.unprepared, **result.unprepared}
        result = replace(result, left=result.left + pending.left, unprepared=unprepared)
    if only_prepare or not plan.judges:
        return result
    if result.left:
        console.print("dialogues are judged once all of them have run")
        return result
    judging = partial(JudgingWork.find, selection=Selection(), retry=retry, **accepted)
    return _run(plan, judging, accept_source_change, again, console)


def judge(
    what: str,
    overrides: Sequence[str],
    *,
    selection: Selection,
    retry: Sequence[str] = (),
    accept_source_change: bool,
    accept_artifact_change: bool = False,
    wait_for_lease: float = 0.0,
    again: str = "",
    console: Console,
) -> RunResult:
    """Judges stored dialogues. Raises the same errors as `run`.

    `what` is a sweep file, or the output folder of a sweep.
    """
    plan = load_plan_of(what, overrides)
    if not plan.judges:
        raise UsageError(
            f"{what}: there are no judges to run; name them in the sweep file "
            "(judges: [relevance]) or as an override (judges=[relevance])"
        )
    _check_retry(plan, retry)
    judging = partial(
        JudgingWork.find,
        selection=selection,
        retry=retry,
        accept_artifacts=accept_artifact_change,
        console=console,
    )
    return _run(plan, judging, accept_source_change, again, console, wait_for_lease)


def _check_retry(plan: Plan, retry: Sequence[str]) -> None:
    """Refuses a word that names no failure, before anything is changed."""
    if retry:
        with suppress(PartDamaged):  # it will be set aside, and the words are checked again
            find_settled(plan.loaded.out, retry)


def _run(
    plan: Plan,
    find_work: FindWork,
    accept_source_change: bool,
    again: str,
    console: Console,
    wait_for_lease: float = 0.0,
) -> RunResult:
    with open_session(
        plan,
        find_work,
        console,
        accept_source_change=accept_source_change,
        wait_for_lease=wait_for_lease,
    ) as session:
        if (result := nothing_to_run(session)) is not None:
            return result
        announce(session)
        return close(session, execute(session, again))
