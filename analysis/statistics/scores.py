"""The values of a metric by cell, case and seed, from which comparisons are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from agents.core.errors import UsageError, near
from analysis.metrics.core import MACRO, POOLED, Metric
from analysis.results import Results
from analysis.tables.labels import short_labels
from analysis.tables.table import make_groups, make_scored, scored_sql


class Scores(NamedTuple):
    """`values` has the shape (cells, cases, seeds): cases by position in their source, seeds in the
    order of the plan; NaN where there is no value.

    Cells share a seed if sampling and training are the same: only agents with memory have an order,
    and they are compared with agents without. Where one cell has several orders of the same
    sampling and training, the order counts as well.
    """

    values: np.ndarray
    missing: np.ndarray
    """Of the same shape: episodes of the plan that are unfinished, or not failed by the agent."""
    sources: list[str]
    """By cell. Cases of different sources are different cases."""

    def filled(self, value: float) -> Scores:
        """The same, with `value` for each missing episode."""
        values = np.where(self.missing, value, self.values)
        return Scores(values, np.zeros_like(self.missing), self.sources)


def read_scores(results: Results, metric: Metric, *, complete_only: bool = True) -> Scores:
    """The values of `metric`, of complete blocks unless `complete_only` is false.

    Raises UsageError for a metric that is not a mean over cases.
    """
    if metric.group == MACRO:
        raise UsageError(
            f"{metric.name} is not a mean over cases, which comparisons need; compare {POOLED} or "
            "one group"
        )
    manifest = results.manifest
    with results.joins_as_written():
        make_scored(results, complete_only, attempts=bool(metric.per_attempt or metric.clean))
        if metric.group:
            make_groups(results)
        found = results.query(
            "SELECT s.cell, s.position, s.repetition, "
            "CASE WHEN s.den > 0 THEN s.num / s.den END::DOUBLE AS value "
            f"FROM ({scored_sql(metric)}) s"
        ).fetchnumpy()
        counted = results.query(
            "SELECT cell, position, repetition FROM scored WHERE ours"
        ).fetchnumpy()
    keys = _keys([cell.seeds for cell in manifest.cells])
    every = dict.fromkeys(key for own in keys for key in own)
    number = {key: index for index, key in enumerate(every)}
    # Repetitions are numbered over all cells, in the order of the plan.
    seed_of = np.array([number[key] for own in keys for key in own], int)
    samples = {source.source_id: source.sample for source in manifest.sources}
    shape = (len(manifest.cells), max(samples.values(), default=0), len(number))
    values, missing = np.full(shape, np.nan), np.zeros(shape, bool)
    for index, cell in enumerate(manifest.cells):
        planned = [number[key] for key in keys[index]]
        missing[index, : samples[cell.source_id], planned] = True
    if len(found["cell"]):
        at = (found["cell"], found["position"], seed_of[found["repetition"]])
        values[at] = np.ma.filled(found["value"], np.nan)
    if len(counted["cell"]):
        missing[counted["cell"], counted["position"], seed_of[counted["repetition"]]] = False
    return Scores(values, missing, [cell.source_id for cell in manifest.cells])


def _keys(seeds: Sequence[Sequence[Sequence[int]]]) -> list[list[tuple[int, ...]]]:
    """By cell: what says which of its repetitions is which, with the order only where it must."""
    without_order = [[tuple(each[:2]) for each in own] for own in seeds]
    if all(len(set(own)) == len(own) for own in without_order):
        return without_order
    return [[tuple(each) for each in own] for own in seeds]


def values_of(results: Results, axis: str) -> list[str]:
    """The values of an axis. Raises UsageError for an axis that the sweep does not have."""
    if axis not in results.axes:
        known = f"axes: {', '.join(results.axes)}" if results.axes else "the grid has no axes"
        raise UsageError(f"there is no axis {axis!r}{near(axis, results.axes)} ({known})")
    return list(dict.fromkeys(c.axes[axis] for c in results.manifest.cells if axis in c.axes))


def value_named(name: str, values: Sequence[str], axis: str) -> str:
    """The value with this name or short label. Raises UsageError with a near match."""
    short = short_labels(values).short
    named = {label: value for value, label in short.items()} | {value: value for value in values}
    if name not in named:
        known = list(short.values())
        raise UsageError(
            f"the axis {axis!r} has no value {name!r}{near(name, known)} "
            f"(values: {', '.join(known)})"
        )
    return named[name]


def partners(results: Results, axis: str, first: str, second: str) -> list[tuple[int, int]]:
    """Pairs of cells that differ only in `axis`.

    A cell without a partner says nothing about the difference: it would bring in another axis. Axes
    that merely change together with the two values (zipped ones) need not agree.
    """
    cells = list(enumerate(results.manifest.cells))
    sides = [[(n, c) for n, c in cells if c.axes.get(axis) == value] for value in (first, second)]
    others = [
        other
        for other in results.axes
        if any(len({c.axes.get(other) for _, c in side}) > 1 for side in sides)
    ]
    by_context = [
        {(c.source_id, *(c.axes.get(other) for other in others)): n for n, c in side}
        for side in sides
    ]
    return [
        (number, by_context[1][key])
        for key, number in by_context[0].items()
        if key in by_context[1]
    ]


class Sides(NamedTuple):
    """Two sides paired by case.

    `first` and `second` are the cases' means over seeds and pairs of cells, of shape (cases,);
    `apart` their difference by seed, of shape (cases, seeds), NaN where a side has no value.
    """

    first: np.ndarray
    second: np.ndarray
    apart: np.ndarray


def paired(scores: Scores, pairs: Sequence[tuple[int, int]]) -> Sides:
    """Both sides of the pairs of cells, over the cases of which both have a value."""
    by_source: dict[str, list[tuple[int, int]]] = {}
    for pair in pairs:
        by_source.setdefault(scores.sources[pair[0]], []).append(pair)
    found = [_of_source(scores.values, chosen) for _, chosen in sorted(by_source.items())]
    if not found:
        nothing = np.empty(0)
        return Sides(nothing, nothing, np.empty((0, scores.values.shape[2])))
    return Sides(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _of_source(values: np.ndarray, pairs: Sequence[tuple[int, int]]) -> Sides:
    cases = values.shape[1]
    totals, counts = np.zeros((2, cases)), np.zeros(cases)
    apart, times = np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
    for pair in pairs:
        sides = values[list(pair)]
        known = np.isfinite(sides)
        each = known.sum(axis=2)
        means = np.where(known, sides, 0).sum(axis=2) / np.maximum(each, 1)
        both = (each > 0).all(axis=0)
        totals += np.where(both, means, 0)
        counts += both
        together = known.all(axis=0)
        apart += np.where(together, sides[0] - sides[1], 0)
        times += together
    has = counts > 0
    by_seed = np.divide(apart, times, out=np.full(apart.shape, np.nan), where=times > 0)
    return Sides(totals[0, has] / counts[has], totals[1, has] / counts[has], by_seed[has])
