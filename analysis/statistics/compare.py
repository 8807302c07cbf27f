"""Comparisons between two values of an axis, paired by case.

The unit is the case: values are averaged within a case first, over seeds and over pairs of cells
that differ in this axis alone, because (case, seed) pairs of one case are no independent
observations. The interval is a percentile bootstrap over cases, the test a sign-flip permutation
over cases, corrected by Holm over everything that is compared at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agents.core.errors import UsageError, near
from analysis.metrics.core import MACRO, POOLED
from analysis.results import Results
from analysis.statistics.significance import holm
from analysis.tables.labels import brief
from analysis.tables.table import make_table, metrics_of, scored_sql

RESAMPLES = 10_000
_SEED = 0  # of the resampling alone: the same results give the same interval


@dataclass(frozen=True)
class Comparison:
    """`difference` is the mean of `first` minus `second` over cases, [low, high] its 95 % interval.

    `p` is two-sided, `p_holm` corrected over all that is compared at once. `correlation` is the
    one between the two over cases (what common random numbers bought), None where one is constant.
    """

    metric: str
    axis: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    cases: int
    correlation: float | None


def compare_all(
    results: Results, metrics: Sequence[str], axis: str, baseline: str | None = None
) -> list[Comparison]:
    """Every pair of values of `axis`; with a `baseline`, each other value minus that one.

    `baseline` is a value of the axis, or its short label. UsageError for an unknown axis or
    baseline, or an axis of a single value.
    """
    values = _values(results, axis)
    if len(values) < 2:
        raise UsageError(f"the axis {axis!r} has one value; there is nothing to compare")
    pairs = list(itertools.combinations(values, 2))
    if baseline is not None:
        against = _value_named(baseline, values, axis)
        pairs = [(value, against) for value in values if value != against]
    found = []
    for metric in metrics:
        by_cell = _by_cell(results, metric)
        found += [_compare(results, by_cell, metric, axis, *pair) for pair in pairs]
    corrected = holm([comparison.p for comparison in found])
    return [replace(c, p_holm=p) for c, p in zip(found, corrected, strict=True)]


def compare(results: Results, metric: str, axis: str, first: str, second: str) -> Comparison:
    """Two values of `axis`. UsageError for an axis or a value that the sweep does not have."""
    values = _values(results, axis)
    pair = [_value_named(value, values, axis) for value in (first, second)]
    return _compare(results, _by_cell(results, metric), metric, axis, *pair)


def _value_named(name: str, values: Sequence[str], axis: str) -> str:
    """The value of this name or short label."""
    short = brief(values).short
    named = {label: value for value, label in short.items()} | {value: value for value in values}
    if name not in named:
        known = list(short.values())
        raise UsageError(
            f"the axis {axis!r} has no value {name!r}{near(name, known)} "
            f"(values: {', '.join(known)})"
        )
    return named[name]


def _values(results: Results, axis: str) -> list[str]:
    if axis not in results.axes:
        known = f"axes: {', '.join(results.axes)}" if results.axes else "the grid has no axes"
        raise UsageError(f"there is no axis {axis!r}{near(axis, results.axes)} ({known})")
    return list(dict.fromkeys(c.axes[axis] for c in results.manifest.cells if axis in c.axes))


def _compare(
    results: Results, by_cell: ByCell, metric: str, axis: str, first: str, second: str
) -> Comparison:
    a, b = _paired(by_cell, _partners(results, axis, first, second))
    if not len(a):
        raise UsageError(f"no case has {metric} for both {axis}={first} and {axis}={second}")
    differences = a - b
    rng = np.random.default_rng(_SEED)
    low, high = np.quantile(_bootstrap_means(differences, rng), [0.025, 0.975])
    varies = len(a) > 2 and a.std() > 0 and b.std() > 0
    p = _sign_flip(differences, rng)
    return Comparison(
        metric,
        axis,
        first,
        second,
        float(differences.mean()),
        float(low),
        float(high),
        p,
        p,
        len(a),
        float(np.corrcoef(a, b)[0, 1]) if varies else None,
    )


ByCell = dict[str, dict[str, float]]  # cell -> case -> the metric, averaged over seeds


def _by_cell(results: Results, metric: str) -> ByCell:
    make_table(results, [metric])  # fills `scored` with the complete blocks
    (read,) = metrics_of(results, [metric])
    if read.group == MACRO:
        raise UsageError(
            f"{metric} is no mean over cases, which comparisons need; compare {POOLED} or one group"
        )
    with results.joins_as_written():
        rows = results.query(
            "SELECT c.cell_id, c.source_id || ':' || p.case_id, avg(s.num / s.den) "
            f"FROM ({scored_sql(read)}) s JOIN plan_cells c USING (cell) "
            "JOIN cases p ON p.source_id = c.source_id AND p.position = s.position "
            "WHERE s.den > 0 AND s.num IS NOT NULL GROUP BY ALL"
        ).fetchall()
    found: ByCell = {}
    for cell_id, case, value in rows:
        found.setdefault(cell_id, {})[case] = value
    return found


def _partners(results: Results, axis: str, first: str, second: str) -> list[tuple[str, str]]:
    """Pairs of cells that differ in `axis` alone.

    A cell without a partner says nothing of the difference: it would bring in another axis.
    Axes that merely go along with the two values (zipped ones) need not agree.
    """
    sides = [
        [c for c in results.manifest.cells if c.axes.get(axis) == value]
        for value in (first, second)
    ]
    others = [
        other
        for other in results.axes
        if any(len({c.axes.get(other) for c in side}) > 1 for side in sides)
    ]
    by_context = [
        {(c.source_id, *(c.axes.get(other) for other in others)): c.cell_id for c in side}
        for side in sides
    ]
    return [
        (by_context[0][key], by_context[1][key]) for key in by_context[0].keys() & by_context[1]
    ]


def _paired(by_cell: ByCell, partners: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Both sides' values by case, averaged over the pairs of cells that have the case."""
    sums: dict[str, list[float]] = {}
    for first, second in sorted(partners):
        ours, theirs = by_cell.get(first, {}), by_cell.get(second, {})
        for case in ours.keys() & theirs.keys():
            total = sums.setdefault(case, [0.0, 0.0, 0])
            total[0] += ours[case]
            total[1] += theirs[case]
            total[2] += 1
    # Sorted, so that the resampling of one folder is the same every time.
    rows = np.array([sums[case] for case in sorted(sums)]).reshape(-1, 3)
    return rows[:, 0] / rows[:, 2], rows[:, 1] / rows[:, 2]


def _bootstrap_means(differences: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of resamples of the cases, in chunks that bound the memory."""
    size = len(differences)
    chunk = max(1, 4_000_000 // size)
    means = [
        differences[rng.integers(0, size, (min(chunk, RESAMPLES - start), size))].mean(axis=1)
        for start in range(0, RESAMPLES, chunk)
    ]
    return np.concatenate(means)


def _sign_flip(differences: np.ndarray, rng: np.random.Generator) -> float:
    """Two-sided p of the mean under random signs; the observed one counts as one of them."""
    size = len(differences)
    observed = abs(differences.mean())
    chunk = max(1, 4_000_000 // size)
    as_large = 0
    for start in range(0, RESAMPLES, chunk):
        signs = rng.integers(0, 2, (min(chunk, RESAMPLES - start), size)) * 2 - 1
        as_large += int(np.sum(np.abs((signs * differences).mean(axis=1)) >= observed - 1e-12))
    return (as_large + 1) / (RESAMPLES + 1)
