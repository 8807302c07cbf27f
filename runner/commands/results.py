"""`crsweep table` and `crsweep compare`: what they print."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from agents.core.errors import UsageError
from analysis import published
from analysis.metrics.core import by_group
from analysis.results import Results
from analysis.statistics import agreement, corrected, pairs
from analysis.statistics.defined_tables import sheet_for, table_named
from analysis.tables import render, sheets
from analysis.tables.labels import with_short_labels
from analysis.tables.table import make_table
from analysis.tables.vs_published import table_with_published
from sweeps.schema import TableSpec

_WRITERS = {"markdown": sheets.markdown, "latex": sheets.latex, "html": sheets.html_table}


def show_table(
    results: Results,
    *,
    metrics: Sequence[str],
    format: str,
    everything: bool,
    console: Console,
    published_table: str | None = None,
    by: Sequence[str] = (),
) -> None:
    """The table of a sweep folder, next to `published_table`; in CSV the notes go to stderr.

    With `by`, each metric for each group of users by these, and over all groups.
    """
    if published_table is not None:
        table = table_with_published(
            results, published.read(published_table), metrics, complete_only=not everything
        )
    else:
        metrics = metrics or results.manifest.metrics
        metrics = by_group(metrics, by) if by else metrics
        table = make_table(results, metrics, complete_only=not everything)
    if format == "csv":
        _print_csv(render.as_csv(table), table.notes)
        return
    _print(render.sheet(with_short_labels(table)), format, console)


def show_pivot(
    results: Results,
    *,
    name: str | None,
    rows: Sequence[str],
    columns: Sequence[str],
    metrics: Sequence[str],
    ties: str | None,
    format: str,
    everything: bool,
    console: Console,
    by: Sequence[str] = (),
) -> None:
    """A table with chosen rows and columns, or one that the sweep file defines; options go first.

    Raises UsageError for an unknown name or axis.
    """
    spec = table_named(results, name) if name else TableSpec()
    if spec.published and (rows or columns or ties or by):
        raise UsageError(
            f"the table {name!r} has the rows and columns of {spec.published}; leave --rows, "
            "--columns, --by and --ties out"
        )
    given = {
        "rows": list(rows),
        "columns": list(columns),
        "metrics": list(metrics),
        "by": list(by),
        "ties": ties,
    }
    changed = {key: value for key, value in given.items() if value}
    sheet = sheet_for(results, spec.model_copy(update=changed), complete_only=not everything)
    if format == "csv":
        _print_csv(sheets.as_csv(sheet), sheet.notes)
    else:
        _print(sheet, format, console)


def show_pairs(results: Results, *, format: str, everything: bool, console: Console) -> None:
    """Wins, losses and ties of the pairwise judges; in CSV the notes go to stderr."""
    table = pairs.make_pairs(results, complete_only=not everything)
    if format == "csv":
        _print_csv(pairs.as_csv(table), table.notes)
        return
    _print(pairs.sheet(table), format, console)


def show_corrected(
    results: Results,
    *,
    metrics: Sequence[str],
    format: str,
    everything: bool,
    console: Console,
    by: Sequence[str] = (),
) -> None:
    """Judged metrics, raw and corrected by labels of people; in CSV the notes go to stderr.

    With `by`, also within each group of users by these.
    """
    named = metrics or results.manifest.metrics
    named = by_group(named, by, compared=True) if by else named
    table = corrected.make_corrected(results, named, complete_only=not everything)
    if format == "csv":
        _print_csv(corrected.as_csv(table), table.notes)
        return
    _print(corrected.sheet(table), format, console)


def show_agreement(results: Results, *, judge: str | None, format: str, console: Console) -> None:
    """How far judges and people agree; in CSV the notes go to stderr."""
    table = agreement.make_agreement(results, judge)
    if format == "csv":
        _print_csv(agreement.as_csv(table), table.notes)
        return
    _print(agreement.sheet(table), format, console)


def _print_csv(text: str, notes: Sequence[str]) -> None:
    print(text, end="")
    for note in notes:
        print(note, file=sys.stderr)


def _print(sheet: sheets.Sheet, format: str, console: Console) -> None:
    if format == "text":
        sheets.print_text(sheet, console)
    else:
        print(_WRITERS[format](sheet))
