"""Tables as sheets and CSV: the best of a column in bold, the second underlined."""

from __future__ import annotations

import csv
import io
from typing import Any

from analysis.metrics.core import Metric
from analysis.published import PrintedNumber
from analysis.tables.sheets import UNDEFINED, Sheet, SheetCell
from analysis.tables.table import Table, TableRow, Value


def places(table: Table, column: int) -> dict[int, int]:
    """Row -> 1 for the best value of a metric, 2 for the second; equal values share a place.

    Values are compared as they are printed, among rows with the same cases: another data set is
    another contest. Empty where fewer than two rows can be compared, or none should be.
    """
    metric = table.metrics[column]
    found: dict[int, int] = {}
    for source in {row.source for row in table.rows} if metric.better and table.comparable else ():
        shown = {
            index: round(row.values[column].mean, metric.digits)  # type: ignore[arg-type]
            for index, row in enumerate(table.rows)
            if row.source == source and row.values[column].mean is not None
        }
        ranked = sorted(set(shown.values()), reverse=metric.better == "higher")[:2]
        if len(shown) > 1:
            found |= {i: ranked.index(value) + 1 for i, value in shown.items() if value in ranked}
    return found


def formatted(value: Value, metric: Metric) -> str:
    """`0.525 ± 0.031`, or the word for undefined."""
    if value.mean is None:
        return UNDEFINED
    mean = f"{value.mean:,.{metric.digits}f}"
    if value.std is not None:
        return f"{mean} ± {value.std:,.{metric.digits}f}"
    return f"{mean} ± n/a{' (deterministic)' if value.deterministic else ''}"


def difference(value: Value, published: PrintedNumber | None) -> float | None:
    """Our value minus the published number; None if one of them is missing."""
    return None if value.mean is None or published is None else value.mean - published.value


def counted_of_planned(row: TableRow) -> str:
    return f"{row.counted:,} of {row.planned:,}"


def sheet(table: Table) -> Sheet:
    """The table for printing."""
    marks = [places(table, column) for column in range(len(table.metrics))]
    rows = []
    for index, row in enumerate(table.rows):
        cells = [SheetCell(label) for label in row.axes.values()]
        for column, (value, metric) in enumerate(zip(row.values, table.metrics, strict=True)):
            cells.append(SheetCell(formatted(value, metric), marks[column].get(index, 0)))
            if table.published:
                theirs = table.published[index][column]
                apart = difference(value, theirs)
                cells.append(SheetCell(theirs.marked if theirs else UNDEFINED))
                cells.append(
                    SheetCell(UNDEFINED if apart is None else f"{apart:+.{metric.digits}f}")
                )
        rows.append([*cells, SheetCell(counted_of_planned(row))])
    comparison = ["published", "difference"] if table.published else []
    heads = [head for metric in table.metrics for head in (metric.name, *comparison)]
    return Sheet(table.axes, [*heads, "episodes"], rows, table.notes)


def as_csv(table: Table) -> str:
    """Axes, then for each metric `<metric>`, `<metric>_std`, `<metric>_n`; full precision.

    Next to a paper's table also `<metric>_published` and `<metric>_difference`. Empty where
    undefined. `counted` and `planned` are episodes.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    comparison = ("_published", "_difference") if table.published else ()
    names = [f"{m.name}{part}" for m in table.metrics for part in ("", "_std", "_n", *comparison)]
    writer.writerow([*table.axes, *names, "counted", "planned"])
    for index, row in enumerate(table.rows):
        numbers: list[Any] = []
        for column, value in enumerate(row.values):
            numbers += [value.mean, value.std, value.episodes]
            if table.published:
                theirs = table.published[index][column]
                numbers += [theirs and theirs.text, difference(value, theirs)]
        cells = ["" if part is None else part for part in numbers]
        writer.writerow([*row.axes.values(), *cells, row.counted, row.planned])
    return out.getvalue()
