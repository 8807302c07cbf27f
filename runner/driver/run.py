"""`crsweep run` and `crsweep prepare`: a session is opened, executed and closed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from rich.console import Console

from runner.driver.closing import close, nothing_to_run
from runner.driver.execution import execute
from runner.driver.loading import load_plan
from runner.driver.opening import open_session
from runner.driver.report import announce
from runner.driver.result import RunResult
from runner.driver.work import ArtifactWork, EpisodeWork, FindWork, find_settled
from sweeps.storage.parts import PartDamaged


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
) -> RunResult:
    """Runs what is left of a sweep. Raises UsageError, DataError and StoreError.

    `retry` names error classes and blames whose failed episodes are run again. With
    `only_prepare` all artifacts of the plan are made, and no episode is run. `again` is the command
    that runs the sweep, for readers of the manifest.
    """
    plan = load_plan(sweep, overrides)
    if retry:  # a word that names no failure is refused before anything is touched
        with suppress(PartDamaged):  # it is set aside, and the words are looked at again
            find_settled(plan.loaded.out, retry)
    accepted = {"accept_artifacts": accept_artifact_change, "console": console}
    find_work: FindWork = (
        partial(ArtifactWork.find, **accepted)
        if only_prepare
        else partial(EpisodeWork.find, retry=retry, **accepted)
    )
    with open_session(
        plan, find_work, console, accept_source_change=accept_source_change
    ) as session:
        if (result := nothing_to_run(session)) is not None:
            return result
        announce(session)
        return close(session, execute(session, again))
