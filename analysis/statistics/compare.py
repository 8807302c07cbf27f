"""Comparisons between the values of an axis, paired by case.

The unit is the case: values are averaged within a case first, over seeds and over pairs of cells
that differ in this axis alone, because (case, seed) pairs of one case are not independent
observations. Rates have Newcombe's interval, other metrics that of t over cases; the test flips
signs over cases. Where what is trained differs between seeds, dialogues of one seed
share it: interval and test then cluster by case and by seed. Holm's correction is over everything
that is compared at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from agents.core.errors import UsageError
from analysis.metrics.core import Metric
from analysis.results import Results
from analysis.statistics.estimates import Estimate, difference_test, estimate
from analysis.statistics.resampling import RESAMPLES
from analysis.statistics.scores import (
    Scores,
    paired,
    partners,
    read_scores,
    value_named,
    values_of,
)
from analysis.statistics.significance import LEVEL, holm
from analysis.tables.table import count_of, group_sizes, metrics_of
from analysis.tables.table_notes import beyond_the_end


@dataclass(frozen=True)
class Bounds:
    """The difference if all missing episodes had failed, and if all had succeeded."""

    if_failed: float
    if_succeeded: float
    conclusion_holds: bool
    """In both cases the direction, and whether it is significant, are as observed."""


@dataclass(frozen=True)
class Comparison(Estimate):
    """`first` minus `second`; `p_holm` is `p`, corrected over all that is compared at once.

    `counted` of the `planned` pairs of episodes (case, seed, pair of cells) have a value on both
    sides. `bounds` are of rates only, None where nothing is missing.
    """

    metric: str = ""
    axis: str = ""
    first: str = ""
    second: str = ""
    p_holm: float = 1.0
    counted: int = 0
    planned: int = 0
    bounds: Bounds | None = None


class Ties(NamedTuple):
    """The best value of an axis for a metric, and those that are not significantly worse."""

    metric: str
    best: str
    tied: list[str]


class Comparisons(NamedTuple):
    found: list[Comparison]
    ties: list[Ties]
    """By metric; empty with a baseline, which leaves most pairs untested."""
    notes: list[str]


def compare_all(
    results: Results, metrics: Sequence[str], axis: str, baseline: str | None = None
) -> Comparisons:
    """Every pair of values of `axis`; with a `baseline`, each other value minus that one.

    `baseline` is a value of the axis, or its short label. UsageError for an unknown axis or
    baseline, an axis of a single value, or if no pair has a case in common.
    """
    values = values_of(results, axis)
    if len(values) < 2:
        raise UsageError(f"the axis {axis!r} has one value; there is nothing to compare")
    pairs = list(itertools.combinations(values, 2))
    if baseline is not None:
        against = value_named(baseline, values, axis)
        pairs = [(value, against) for value in values if value != against]
    found: list[Comparison] = []
    read = metrics_of(results, metrics)
    notes = beyond_the_end(results, read)
    missing: list[str] = []
    trained = trained_apart(results)
    resamples = max(RESAMPLES, 400 * len(pairs) * len(metrics))
    for metric in read:
        source = Values(results, metric, trained, resamples)
        for pair in pairs:
            one = source.compare(axis, *pair)
            if one is None:
                missing.append(_nothing_common(results, metric.name, axis, *pair))
            else:
                found.append(one)
    if not found:
        raise UsageError(missing[0])
    corrected = holm([comparison.p for comparison in found])
    found = [replace(c, p_holm=p) for c, p in zip(found, corrected, strict=True)]
    better = {metric.name: metric.better for metric in read}
    ties = [
        ties_of([c for c in found if c.metric == name], lower=better[name] == "lower")
        for name in dict.fromkeys(c.metric for c in found)
        if baseline is None and better[name] is not None
    ]
    return Comparisons(found, ties, [*missing, *notes])


def compare(results: Results, metric: str, axis: str, first: str, second: str) -> Comparison:
    """Compares two values of `axis`. Raises UsageError for an axis or value that the sweep does not
    have."""
    values = values_of(results, axis)
    pair = [value_named(value, values, axis) for value in (first, second)]
    (read,) = metrics_of(results, [metric])
    found = Values(results, read, trained_apart(results), RESAMPLES).compare(axis, *pair)
    if found is None:
        raise UsageError(_nothing_common(results, metric, axis, *pair))
    return found


def _nothing_common(results: Results, metric: str, axis: str, first: str, second: str) -> str:
    """Why two values cannot be compared, after their scores were read."""
    why = ""
    lacking = count_of(results, "without_block")
    if 0 < lacking < len(results.manifest.cells):
        why = "; cells that have nothing finished under some seed are left out"
    elif not count_of(results, "scored") and count_of(results, "episodes"):
        why = "; comparisons use cases that every cell and seed has finished, and there is none yet"
    return f"no case has {metric} for both {axis}={first} and {second}{why}"


def ties_of(comparisons: Sequence[Comparison], *, lower: bool) -> Ties:
    """The value that is better than most others, and those that the tests do not distinguish from
    it."""
    score: dict[str, float] = {}
    for c in comparisons:
        gain = -c.difference if lower else c.difference
        score[c.first] = score.get(c.first, 0.0) + gain
        score[c.second] = score.get(c.second, 0.0) - gain
    best = max(score, key=lambda value: score[value])
    tied = [
        c.second if c.first == best else c.first
        for c in comparisons
        if best in (c.first, c.second) and c.p_holm >= LEVEL
    ]
    return Ties(comparisons[0].metric, best, tied)


def trained_apart(results: Results) -> set[int]:
    """The cells whose seeds used different artifacts, so that the dialogues of a seed share what it
    trained."""
    rows = results.query(
        "SELECT cell FROM episodes WHERE artifacts IS NOT NULL AND cardinality(artifacts) > 0 "
        "GROUP BY cell HAVING count(DISTINCT hash(artifacts::VARCHAR)) > 1"
    ).fetchall()
    return {cell for (cell,) in rows}


class Values:
    """The values of one metric, read once for all pairs."""

    def __init__(
        self,
        results: Results,
        metric: Metric,
        trained: set[int],
        resamples: int,
        complete_only: bool = True,
    ) -> None:
        self._results, self._metric = results, metric
        self._trained, self._resamples = trained, resamples
        self._scores = read_scores(results, metric, complete_only=complete_only)
        self._all: Scores | None = None

    @property
    def _whole(self) -> Scores:
        """The values of incomplete cases too."""
        if self._all is None:
            self._all = read_scores(self._results, self._metric, complete_only=False)
        return self._all

    def compare(self, axis: str, first: str, second: str) -> Comparison | None:
        """The comparison of two values; None if no case has a value on both sides."""
        pairs = partners(self._results, axis, first, second)
        sides = paired(self._scores, pairs)
        if not len(sides.first):
            return None
        found = self._estimate(self._scores, pairs)
        both = [np.isfinite(self._scores.values[list(pair)]).all(axis=0) for pair in pairs]
        return Comparison(
            **vars(found),
            metric=self._metric.name,
            axis=axis,
            first=first,
            second=second,
            p_holm=found.p,
            counted=int(sum(each.sum() for each in both)),
            planned=self._planned(pairs),
            bounds=self._bounds(pairs, found),
        )

    def test(self, cells: tuple[int, int]) -> tuple[float, float] | None:
        """The difference of two cells and its p; None if no case has a value in both."""
        sides = paired(self._scores, [cells])
        if not len(sides.first):
            return None
        shared = not self._trained.isdisjoint(cells)
        return difference_test(sides, shared=shared, resamples=self._resamples)

    def _estimate(self, scores: Scores, pairs: Sequence[tuple[int, int]]) -> Estimate:
        shared = any(cell in self._trained for pair in pairs for cell in pair)
        return estimate(
            paired(scores, pairs),
            most=self._metric.most,
            shared=shared,
            resamples=self._resamples,
        )

    def _planned(self, pairs: Iterable[tuple[int, int]]) -> int:
        cells = self._results.manifest.cells
        planned = self._results.planned
        if self._metric.group:
            size = group_sizes(self._results, self._metric.group)
            planned = {c.cell_id: len(c.seeds) * size.get(c.source_id, 0) for c in cells}
        return sum(min(planned[cells[cell].cell_id] for cell in pair) for pair in pairs)

    def _bounds(self, pairs: Sequence[tuple[int, int]], found: Estimate) -> Bounds | None:
        # Which missing cases belong to a group is not known here.
        if self._metric.most is None or self._metric.group:
            return None
        involved = sorted({cell for pair in pairs for cell in pair})
        if not self._whole.missing[involved].any():
            return None
        filled = [
            self._estimate(self._whole.filled(value), pairs) for value in (0.0, self._metric.most)
        ]
        return Bounds(
            filled[0].difference,
            filled[1].difference,
            all(_verdict(each) == _verdict(found) for each in filled),
        )


def _verdict(found: Estimate) -> int:
    """1 or -1 for a significant difference, by its sign; else 0."""
    return int(np.sign(found.difference)) if found.p < LEVEL else 0
