"""Tables as a sweep file defines them: rows, columns, metrics, and marks of what is tied."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from agents.core.errors import UsageError, near
from analysis import published
from analysis.metrics.core import by_group
from analysis.results import Results
from analysis.statistics.table_marks import mark_ties
from analysis.tables.labels import with_short_labels
from analysis.tables.pivot import pivoted
from analysis.tables.render import sheet
from analysis.tables.sheets import Sheet
from analysis.tables.table import make_table
from analysis.tables.vs_published import table_with_published
from sweeps.schema import FigureSpec, TableSpec


def sheet_for(results: Results, spec: TableSpec, *, complete_only: bool = True) -> Sheet:
    """The table that `spec` describes. UsageError for metrics and axes that there are not."""
    if spec.published:
        theirs = published.read(spec.published)
        both = table_with_published(results, theirs, spec.metrics, complete_only=complete_only)
        return sheet(with_short_labels(both))
    metrics = spec.metrics or results.manifest.metrics
    metrics = by_group(metrics, spec.by) if spec.by else metrics
    table = make_table(results, metrics, complete_only=complete_only)
    marked = None
    if spec.ties:
        marked = mark_ties(results, table, spec.ties, complete_only=complete_only)
        table.notes[:0] = marked.notes
    columns = spec.columns
    rows = spec.rows or [axis for axis in table.axes if axis not in columns]
    return pivoted(with_short_labels(table), rows, columns, marked.marks if marked else None)


def table_named(results: Results, name: str) -> TableSpec:
    """The table of this name in the sweep file; UsageError if there is none."""
    return TableSpec(**_defined(results, "tables", name))


def figure_named(results: Results, name: str) -> FigureSpec:
    """The figure of this name in the sweep file; UsageError if there is none."""
    return FigureSpec(**_defined(results, "figures", name))


def _defined(results: Results, part: str, name: str) -> dict[str, Any]:
    known = results.manifest.config.get(part) or {}
    if name not in known:
        listed = ", ".join(known) or f"the sweep file had no `{part}:` when it was run"
        raise UsageError(f"there is no {part[:-1]} {name!r}{near(name, list(known))} ({listed})")
    kind = TableSpec if part == "tables" else FigureSpec
    try:
        return kind(**known[name]).model_dump()
    except (TypeError, ValidationError):
        raise UsageError(
            f"{results.folder}: the {part[:-1]} {name!r} in its manifest is unknown to this version"
        ) from None
