"""Failed episodes and judgements of a sweep folder, and which of them run again.

The attempt that counts for a task is its earliest done one, or its latest failed one if there is
none. Infrastructure failures are retried by every run. Any other failure would repeat, so it is an
outcome, and runs again only if `--retry` names its error class or its blame.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator, Sequence
from typing import get_args

from agents.core import errors
from agents.core.errors import (
    AgentError,
    Blame,
    CriticError,
    CrsweepError,
    ReplyInvalid,
    UsageError,
    UserError,
    near,
)
from analysis.results import Results
from analysis.tables.false_successes import cell_names
from runner.core.invocation import program
from runner.core.locations import journals_of
from sweeps import manifest as manifests
from sweeps.load import cache_of
from sweeps.schema import Cache
from sweeps.storage.folder import Folder
from sweeps.storage.records import EPISODE, JUDGEMENT
from workers.cache import journal
from workers.results.bundles import WOULD_REPEAT

_SHOWN = 200  # characters of an example
_OF_REPLIES = frozenset({ReplyInvalid.__name__})
"""Failures that the same replies would cause again, even if something else was fixed."""
_OF_CODE = frozenset(kind.__name__ for kind in (AgentError, UserError, CriticError))
"""Failures of a plug-in's code. After a fix, the next run asks for `--accept-source-change`."""

_FAILED_TASKS = {
    EPISODE: "SELECT episode_id, blame, error_class FROM attempts "
    "ANTI JOIN superseded USING (attempt_id) WHERE status = 'failed'",
    JUDGEMENT: "SELECT task_id, first(blame ORDER BY driver_epoch DESC, ended DESC), "
    "first(error_class ORDER BY driver_epoch DESC, ended DESC) FROM all_judgements "
    "WHERE annotator IS NULL GROUP BY task_id HAVING bool_and(status = 'failed')",
}
"""Kind of task -> SQL for id, blame and error class of each task whose counting attempt failed."""


def to_run_again(folder: Folder, retry: Sequence[str], kind: str = EPISODE) -> set[str]:
    """The ids of failed tasks to run again: infrastructure failures, and those that `retry` names.

    Raises UsageError for a word that is neither a blame nor an error class of a task.
    """
    found: list[tuple[str, str, str]] = []
    if manifests.read(folder) is not None:
        found = Results.open(folder).query(_FAILED_TASKS[kind]).fetchall()
    known = {*get_args(Blame), *_classes(), *(error for _, _, error in found)}
    for word in retry:
        if word not in known:
            raise UsageError(
                f"--retry {word}: no such blame or error class{near(word, known)} "
                "(expected a blame: "
                f"{', '.join(get_args(Blame))}; or an error class: "
                f"{', '.join(sorted(known - set(get_args(Blame))))})"
            )
    return {
        task
        for task, blame, error in found
        if blame not in WOULD_REPEAT or blame in retry or error in retry
    }


def _classes() -> Iterator[str]:
    """The names of errors that can end an attempt; a UsageError is raised before any attempt
    begins."""
    for name, found in inspect.getmembers(errors, inspect.isclass):
        if issubclass(found, CrsweepError) and found not in (CrsweepError, UsageError):
            yield name


_FAILED = {
    EPISODE: "SELECT blame, error_class, count(*), arg_min(error, attempt_id), "
    "arg_min({'case_id': case_id, 'seed': seed, 'cell': cell}, attempt_id) "
    "FROM episodes WHERE status = 'failed' GROUP BY ALL ORDER BY 3 DESC, 2, 1",
    JUDGEMENT: "SELECT blame, error_class, count(*), arg_min(error, judging_id), min(judging_id) "
    "FROM judgements WHERE status = 'failed' GROUP BY ALL ORDER BY 3 DESC, 2, 1",
}


def failure_lines(results: Results, command: str, kind: str = EPISODE) -> list[str]:
    """Lines on the failed tasks of the plan: how many, why, an example, and the command to rerun
    them.

    The most frequent come first. `command` runs such tasks (`crsweep run ...`); it needs more
    options if the cache would replay what failed.
    """
    found = results.query(_FAILED[kind]).fetchall()
    lines: list[str] = []
    named: set[str] = set()
    cells = cell_names(results) if found and kind == EPISODE else []
    noun = "" if kind == EPISODE else f" ({kind}s)"
    for blame, error_class, count, error, one in found:
        if blame in WOULD_REPEAT and error_class in named:
            then = f"--retry {error_class} above reruns them too"
        elif blame in WOULD_REPEAT:
            named.add(error_class)
            when, more = "", ""
            if error_class in _OF_REPLIES:
                when, more = _asking_again(results)
            elif error_class in _OF_CODE:
                when = " (with --accept-source-change if you have changed its code)"
            then = f"to rerun them{when}: {command} --retry {error_class}{more}"
        else:
            then = "the next run retries them"
        lines.append(f"  {count:,} x {error_class}{noun}, blame {blame}; {then}")
        example = one
        if kind == EPISODE:
            where = [cells[one["cell"]], f"case {one['case_id']}", f"seed {one['seed']}"]
            example = ", ".join(filter(None, where))
        lines.append(f"    for example {example}: {str(error)[:_SHOWN]}")
    return lines


def view_line(results: Results) -> str:
    """Where to read failed dialogues."""
    return f"  to read them: {program()} view {shlex.quote(str(results.folder))}"


def _asking_again(results: Results) -> tuple[str, str]:
    """When a run can ask the model again, and which options its command needs for that."""
    try:
        wanted = cache_of(results.manifest.config)
    except UsageError:  # a variable is not set here; to turn off what is off does no harm
        wanted = Cache()
    off = wanted.mode == "off"
    if journal.files(
        journals_of(results.folder, wanted)
    ):  # they serve in any mode, to survive crashes
        when = " (once all other episodes are done; until then the same replies are replayed)"
    else:
        when = "" if off else " (the cache would replay the same replies)"
    # `cache=off` would forget where the journals are.
    turn_off = " cache=off" if wanted.journal is None else " cache.mode=off"
    return when, "" if off else turn_off
