"""Comparisons between two values of an axis, paired by case.

The unit is the case: values are averaged over seeds and over the other axes within a case first,
because (case, seed) pairs of one case are no independent observations. The interval is a
percentile bootstrap over cases, the test a sign-flip permutation over cases, corrected by Holm
over the pairs of one axis.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from agents.core.errors import UsageError, near
from analysis.metrics.core import Metric, parse
from analysis.results import Results, quoted
from analysis.table import make_table, scored_sql

RESAMPLES = 10_000
_SEED = 0  # of the resampling alone: the same results give the same interval


@dataclass(frozen=True)
class Comparison:
    """`difference` is the mean of `first` minus `second` over cases, [low, high] its 95 % interval.

    `p` is two-sided, `p_holm` corrected over all pairs of the axis. `correlation` is the realised
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


def compare_all(results: Results, metric: str, axis: str) -> list[Comparison]:
    """Every pair of values of `axis`. UsageError for an unknown axis, or one of a single value."""
    if axis not in results.axes:
        raise UsageError(
            f"there is no axis {axis!r}{near(axis, results.axes)} (axes: {', '.join(results.axes)})"
        )
    parsed = parse(metric)
    make_table(results, [metric])  # fills `scored` with the complete blocks
    values = list(dict.fromkeys(c.axes[axis] for c in results.manifest.cells if axis in c.axes))
    if len(values) < 2:
        raise UsageError(f"the axis {axis!r} has one value; there is nothing to compare")
    found = [_compare(results, parsed, axis, *pair) for pair in itertools.combinations(values, 2)]
    return _holm(found)


def _compare(results: Results, metric: Metric, axis: str, first: str, second: str) -> Comparison:
    by_case = _by_case(results, metric, axis)
    shared = sorted(by_case.get(first, {}).keys() & by_case.get(second, {}).keys())
    if not shared:
        raise UsageError(f"no case has {metric.name} for both {axis}={first} and {axis}={second}")
    a = np.array([by_case[first][case] for case in shared])
    b = np.array([by_case[second][case] for case in shared])
    differences = a - b
    rng = np.random.default_rng(_SEED)
    low, high = np.quantile(_bootstrap_means(differences, rng), [0.025, 0.975])
    varies = len(shared) > 2 and a.std() > 0 and b.std() > 0
    p = _sign_flip(differences, rng)
    return Comparison(
        metric.name,
        axis,
        first,
        second,
        float(differences.mean()),
        float(low),
        float(high),
        p,
        p,
        len(shared),
        float(np.corrcoef(a, b)[0, 1]) if varies else None,
    )


def _by_case(results: Results, metric: Metric, axis: str) -> dict[str, dict[str, float]]:
    """Axis value -> case -> the metric, averaged over seeds and the other axes."""
    rows = results.db.execute(
        f"SELECT c.{quoted(axis)}, c.source_id || ':' || s.case_id, avg(s.num / s.den) "
        f"FROM ({scored_sql(metric)}) s JOIN plan_cells c USING (cell_id) "
        "WHERE s.den > 0 GROUP BY ALL"
    ).fetchall()
    found: dict[str, dict[str, float]] = {}
    for label, case, value in rows:
        found.setdefault(label, {})[case] = value
    return found


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


def _holm(found: list[Comparison]) -> list[Comparison]:
    """The step-down correction over all comparisons of one table."""
    corrected, least = {}, 0.0
    for rank, index in enumerate(sorted(range(len(found)), key=lambda i: found[i].p)):
        least = max(least, min(1.0, found[index].p * (len(found) - rank)))
        corrected[index] = least
    return [replace(c, p_holm=corrected[i]) for i, c in enumerate(found)]
