"""Failed episodes of a sweep folder: what they are, and which of them are to run again.

An episode stands on its earliest `done` attempt, else on its latest failed one. A failure that
infrastructure is to blame for is tried again by every run; any other would repeat, so it is an
outcome, and runs again only where `--retry` names its error class or its blame.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import get_args

from agents.core import errors
from agents.core.errors import Blame, CrsweepError, ReplyInvalid, UsageError, near
from analysis.results import Results
from runner.core.locations import journals_of
from sweeps import manifest as manifests
from sweeps.load import cache_of
from sweeps.schema import Cache
from sweeps.storage.folder import Folder
from workers.cache import journal
from workers.results.bundles import WOULD_REPEAT

_SHOWN = 200  # characters of an example
_OF_REPLIES = frozenset({ReplyInvalid.__name__})
"""Failures that the same replies would cause again, whatever else was fixed."""

_STANDING = "attempts ANTI JOIN superseded USING (attempt_id) WHERE status = 'failed'"


def to_run_again(folder: Folder, retry: Sequence[str]) -> set[str]:
    """Ids of failed episodes that a run takes up again: of infrastructure, and what `retry` names.

    UsageError for a word that is neither a blame nor a class that an episode can fail of.
    """
    found: list[tuple[str, str, str]] = []
    if manifests.read(folder) is not None:
        query = f"SELECT episode_id, blame, error_class FROM {_STANDING}"
        found = Results.open(folder).query(query).fetchall()
    known = {*get_args(Blame), *_classes(), *(kind for _, _, kind in found)}
    for word in retry:
        if word not in known:
            raise UsageError(
                f"--retry {word}: no episode fails of that{near(word, known)} (expected a blame: "
                f"{', '.join(get_args(Blame))}; or an error class: "
                f"{', '.join(sorted(known - set(get_args(Blame))))})"
            )
    return {
        episode
        for episode, blame, kind in found
        if blame not in WOULD_REPEAT or blame in retry or kind in retry
    }


def _classes() -> Iterator[str]:
    """Names of the errors that can end an attempt; a UsageError comes before any begins."""
    for name, found in inspect.getmembers(errors, inspect.isclass):
        if issubclass(found, CrsweepError) and found not in (CrsweepError, UsageError):
            yield name


def failure_lines(results: Results, command: str) -> list[str]:
    """Words for the failed episodes of the plan: how many, of what, an example, and what runs
    them again. The most frequent come first.

    `command` is the `crsweep run ...` of the sweep. It needs more where the cache would only
    replay what failed.
    """
    rows = results.query(
        "SELECT blame, error_class, count(*), min(attempt_id), arg_min(error, attempt_id) "
        "FROM episodes WHERE status = 'failed' GROUP BY ALL ORDER BY 3 DESC, 2, 1"
    ).fetchall()
    lines: list[str] = []
    told: set[str] = set()
    for blame, kind, count, attempt, error in rows:
        if blame in WOULD_REPEAT and kind in told:
            then = f"--retry {kind} above runs them again too"
        elif blame in WOULD_REPEAT:
            told.add(kind)
            when, more = _asking_anew(results) if kind in _OF_REPLIES else ("", "")
            then = f"to run them again{when}: {command} --retry {kind}{more}"
        else:
            then = "the next run retries them"
        lines.append(f"  {count:,} x {kind}, blame {blame}; {then}")
        lines.append(f"    for example {attempt}: {str(error)[:_SHOWN]}")
    return lines


def _asking_anew(results: Results) -> tuple[str, str]:
    """When a run can ask the model itself again, and what its command needs for that."""
    try:
        wanted = cache_of(results.manifest.config)
    except UsageError:  # a variable is not set here; to turn off what is off does no harm
        wanted = Cache()
    off = wanted.mode == "off"
    if journal.files(
        journals_of(results.folder, wanted)
    ):  # they serve in any mode, to survive crashes
        when = " (once no other episode is left; until then the same replies are replayed)"
    else:
        when = "" if off else " (the cache would replay the same replies)"
    # `cache=off` would forget where the journals are.
    turn_off = " cache=off" if wanted.journal is None else " cache.mode=off"
    return when, "" if off else turn_off
