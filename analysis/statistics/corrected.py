"""The table of judged metrics, raw and corrected by the labels of people, one row per cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from agents.core.errors import UsageError
from analysis.metrics.core import MACRO, Metric
from analysis.results import Results
from analysis.statistics import draws
from analysis.statistics.prediction_powered import Corrected, Labelled
from analysis.tables.labels import short_labels
from analysis.tables.sheets import UNDEFINED, Sheet, SheetCell
from analysis.tables.table import metrics_of
from analysis.tables.table_notes import watermarks
from analysis.tables.verdicts import has_labels_for

_ORDER_BIAS = "order_bias"  # people see a pair in one order


class CorrectedRow(NamedTuple):
    """One metric of one cell; `found` is None with less than two labelled cases."""

    axes: dict[str, str]
    metric: str
    digits: int
    found: Corrected | None


class CorrectedTable(NamedTuple):
    axes: list[str]
    rows: list[CorrectedRow]
    notes: list[str]


def correctable(metrics: Sequence[Metric]) -> list[Metric]:
    """Those of `metrics` that labels of people can correct."""
    return [
        metric
        for metric in metrics
        if metric.judge is not None
        and metric.group != MACRO  # no mean over cases
        and metric.name.partition("@")[0] != _ORDER_BIAS
    ]


def has_labels(results: Results, metric: Metric) -> bool:
    """Whether people have answered any question of the judge that `metric` reads."""
    assert metric.judge is not None
    assert metric.judge.plugin is not None  # filled in by `judged_by`
    return has_labels_for(results, metric.judge.plugin)


def labels_of_people(results: Results, metrics: Sequence[str]) -> dict[str, Labelled]:
    """Name -> values of each of `metrics` that people have labelled something for."""
    return {
        metric.name: Labelled(results, metric)
        for metric in correctable(metrics_of(results, list(dict.fromkeys(metrics))))
        if has_labels(results, metric)
    }


def make_corrected(
    results: Results, metrics: Sequence[str], *, complete_only: bool = True
) -> CorrectedTable:
    """A row for each cell and judged metric that people have labelled.

    UsageError if none of `metrics` is one.
    """
    judged = correctable(metrics_of(results, metrics))
    if not judged:
        help_with = (
            "name one with --metric" if results.manifest.judges else "the sweep has no judge"
        )
        raise UsageError(
            f"labels by people correct only judged metrics, found {', '.join(metrics)}; {help_with}"
        )
    chosen = [metric for metric in judged if has_labels(results, metric)]
    if not chosen:
        names = ", ".join(metric.name for metric in judged)
        raise UsageError(
            f"{results.folder} has no labels by people for the judged metrics ({names}); "
            "collect some with `crsweep annotate export`"
        )
    rows = []
    for metric in chosen:
        labels = Labelled(results, metric, complete_only=complete_only)
        for index, cell in enumerate(results.manifest.cells):
            axes = {axis: cell.axes.get(axis, "") for axis in results.axes}
            rows.append(CorrectedRow(axes, metric.name, metric.digits, labels.cell(index)))
    notes = [
        "raw: the judge's mean over all episodes; people: from labelled episodes alone; corrected: "
        "prediction-powered, L x the judge's mean over all + the mean of people - L x judge over "
        "the labelled; 95 % interval clustered by case",
        "labelled: episodes of which people labelled everything that the judge was asked; "
        f"{UNDEFINED} with fewer than two labelled cases. They must be a random sample",
        *draws.remarks(results),
        *watermarks(results),
    ]
    return CorrectedTable(list(results.axes), rows, notes)


def sheet(table: CorrectedTable) -> Sheet:
    """The table as it is printed."""
    labels = {axis: short_labels(row.axes[axis] for row in table.rows) for axis in table.axes}
    rows = [
        [
            *(SheetCell(labels[axis].short[row.axes[axis]]) for axis in table.axes),
            SheetCell(row.metric),
            *map(SheetCell, _figures(row)),
        ]
        for row in table.rows
    ]
    words = [f"{axis} {'; '.join(b.left_out)}" for axis, b in labels.items() if b.left_out]
    left_out = [f"left out above: {'; '.join(words)}"] if words else []
    figures = ["raw", "people", "corrected", "95 % interval", "L", "labelled"]
    return Sheet([*table.axes, "metric"], figures, rows, [*left_out, *table.notes])


def as_csv(table: CorrectedTable) -> str:
    """Full precision; empty where too little is labelled."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [
        "raw", "people", "corrected", "error", "low", "high", "weight", "labelled",
        "labelled_cases", "episodes",
    ]  # fmt: skip
    writer.writerow([*table.axes, "metric", *names])
    for row in table.rows:
        values = [""] * len(names)
        if row.found is not None:
            values = [getattr(row.found, name) for name in names]
        writer.writerow([*row.axes.values(), row.metric, *values])
    return out.getvalue()


def _figures(row: CorrectedRow) -> list[str]:
    found = row.found
    if found is None:
        return [UNDEFINED] * 6
    raw, people, corrected, low, high = (
        f"{value:.{row.digits}f}"
        for value in (found.raw, found.people, found.corrected, found.low, found.high)
    )
    counted = f"{found.labelled:,} of {found.episodes:,}"
    return [raw, people, corrected, f"[{low}, {high}]", f"{found.weight:.2f}", counted]
