"""Marks in tables: what is significantly better than the rest, and what is tied with the best."""

from __future__ import annotations

import itertools
from collections.abc import Set
from typing import NamedTuple

from agents.core.errors import UsageError, near
from analysis.results import Results
from analysis.statistics.compare import Values, trained_apart
from analysis.statistics.resampling import RESAMPLES
from analysis.statistics.significance import LEVEL, holm
from analysis.tables.table import Table

BEST, TIED = "*", "≈"


class Marked(NamedTuple):
    marks: dict[tuple[int, int], str]
    """(row, metric) of the table -> its mark."""
    notes: list[str]
    """The legend."""


class _Test(NamedTuple):
    metric: int
    pair: tuple[int, int]
    difference: float
    p: float


def mark_ties(results: Results, table: Table, axis: str, *, complete_only: bool = True) -> Marked:
    """Marks among the cells that differ only in `axis`, with one contest per metric.

    Every pair of a contest is tested, because the data decide which value is best; Holm's
    correction is over the whole table. `table` has a row for each cell of `results`, in order.
    Raises UsageError for an unknown axis, or one with a single value.
    """
    contests = _contests(table, axis)
    trained = trained_apart(results)
    number = len(table.metrics) * sum(len(c) * (len(c) - 1) // 2 for c in contests)
    tests: list[_Test] = []
    for index, metric in enumerate(table.metrics):
        if metric.better is None:
            continue
        values = Values(results, metric, trained, max(RESAMPLES, 400 * number), complete_only)
        for contest in contests:
            for pair in itertools.combinations(contest, 2):
                found = values.test(pair)
                if found is not None:
                    tests.append(_Test(index, pair, *found))
    corrected = holm([test.p for test in tests])
    p_of = {(test.metric, test.pair): p for test, p in zip(tests, corrected, strict=True)}
    marks: dict[tuple[int, int], str] = {}
    for index, metric in enumerate(table.metrics):
        for contest in contests:
            means = {row: table.rows[row].values[index].mean for row in contest}
            known = [row for row, mean in means.items() if mean is not None]
            if metric.better is None or len(known) < 2:
                continue
            sign = 1 if metric.better == "higher" else -1
            best = max(known, key=lambda row: sign * (means[row] or 0.0))
            against = {
                row: p_of.get((index, (min(row, best), max(row, best))))
                for row in known
                if row != best
            }
            tied = [row for row, p in against.items() if p is None or p >= LEVEL]
            if tied:
                marks |= {(row, index): TIED for row in (best, *tied)}
            else:
                marks[best, index] = BEST
    return Marked(marks, _legend(axis, set(marks.values())))


def _contests(table: Table, axis: str) -> list[tuple[int, ...]]:
    if axis not in table.axes:
        raise UsageError(
            f"there is no axis {axis!r}{near(axis, table.axes)} "
            f"(axes: {', '.join(table.axes) or 'none'})"
        )
    found: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(table.rows):
        others = (label for name, label in row.axes.items() if name != axis)
        found.setdefault((row.source, *others), []).append(index)
    contests = [tuple(rows) for rows in found.values() if len(rows) > 1]
    if not contests:
        raise UsageError(f"no two rows differ in {axis!r} alone; there is nothing to test")
    return contests


def _legend(axis: str, used: Set[str]) -> list[str]:
    words = {
        BEST: f"significantly better than every other value of {axis}",
        TIED: "the best, and what is not significantly different from it",
    }
    shown = "; ".join(f"{mark} {words[mark]}" for mark in (BEST, TIED) if mark in used)
    if not shown:
        return []
    return [f"{shown} (p < {LEVEL}, tests over cases, Holm over all pairs of this table)"]
