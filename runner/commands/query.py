"""`crsweep sql`: prints the answer to a query, for a screen, a pipe or a program."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import rich.box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.core.errors import UsageError
from agents.core.plural import many
from analysis import sandbox
from analysis.results import Results
from analysis.tables.sheets import printable

NULL = "NULL"
_MEMORY = "4GB"  # of one query
_GAP, _EDGES = 3, 2  # columns of the screen between two of a table, and at its edges
_NARROWEST = 8  # columns of the screen; where less is left for each, a row is many lines
_WHOLE = "cells are cut to the width of the terminal; use --csv or --json for full cells"

Rows = Sequence[Sequence[str | None]]


def show_query(
    folder: str,
    query: str,
    *,
    format: str,
    console: Console,
    parquet: Path | None = None,
    seconds: float = sandbox.SECONDS,
) -> None:
    """Prints the answer to one query, cut to the width of a terminal and in full elsewhere.

    With `parquet`, writes it to that file with its types instead. Raises UsageError.
    """
    if format not in ("text", "csv", "json"):
        raise UsageError(f"--format {format}: sql prints text, csv or json")
    results = Results.open(folder)
    results.confine(_MEMORY)
    with sandbox.limited(results.db, seconds):
        if parquet is not None:
            _write_parquet(results, query, parquet, console)
            return
        names, rows = results.select(query, as_json=format == "json")
    if format == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    elif format == "json":
        _print_json(names, rows)
    elif console.is_terminal:
        _print_fitted(names, rows, console)
    else:
        _print_whole(names, rows, console)


def _write_parquet(results: Results, query: str, path: Path, console: Console) -> None:
    """Writes the answer to a temporary file and renames it, so a file with that name is
    complete."""
    results.check_select(query)
    found = results.arrow(query)
    # SQL allows equal column names; files that are read by name do not.
    found = found.rename_columns(_distinct(found.column_names))
    aside = path.with_name(f".{path.name}.tmp")
    try:
        pq.write_table(found, aside, compression="zstd")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UsageError(f"--parquet {path}: {error.strerror or error}") from None
    console.print(f"{path}: {many(len(found), 'row')}", markup=False, soft_wrap=True)


def _distinct(names: Sequence[str]) -> list[str]:
    """Numbers equal names: `a`, `a_1`."""
    distinct: list[str] = []
    for name in names:
        number = 0
        while (key := f"{name}_{number}" if number else name) in distinct:
            number += 1
        distinct.append(key)
    return distinct


def _print_json(names: Sequence[str], rows: Rows) -> None:
    """Prints an array with one object per line. Equal names are numbered."""
    keys = _distinct(names)
    encoded = [json.dumps(key, ensure_ascii=False) for key in keys]
    lines = [
        "{" + ", ".join(f"{k}: {_strict(v)}" for k, v in zip(encoded, row, strict=True)) + "}"
        for row in rows
    ]
    print("[" + ",\n ".join(lines) + "]")


def _strict(value: str | None) -> str:
    """Replaces NaN and infinite numbers, which standard JSON does not have."""
    if value is None:
        return "null"
    if "NaN" not in value and "Infinity" not in value:
        return value
    return json.dumps(_finite(json.loads(value)), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_whole(names: Sequence[str], rows: Rows, console: Console) -> None:
    """Prints cells in full: a pipe or a file has no width."""
    heads = list(map(printable, names))
    shown = [["\n".join(map(printable, text.split("\n"))) for text in row] for row in _shown(rows)]
    widths = [
        max(cell_len(line) for text in column for line in text.split("\n"))
        for column in zip(heads, *shown, strict=True)
    ]
    table = Table(*map(escape, heads), box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for row in shown:
        table.add_row(*map(escape, row))
    width = sum(widths) + _GAP * (len(names) - 1) + _EDGES
    Console(file=console.file, width=width, highlight=False, emoji=False).print(table)


def _print_fitted(names: Sequence[str], rows: Rows, console: Console) -> None:
    """Prints one line per row, or one line per cell if there are too many columns for
    the screen."""
    heads = list(map(printable, names))
    shown = [list(map(printable, row)) for row in _shown(rows)]
    wanted = [max(map(cell_len, column)) for column in zip(heads, *shown, strict=True)]
    room = console.width - _EDGES - _GAP * (len(names) - 1)
    if room < sum(min(width, _NARROWEST) for width in wanted):
        cut = _print_cells(heads, shown, console)
    else:
        table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
        for head, width in zip(heads, _fitted(wanted, room), strict=True):
            table.add_column(escape(head), width=width, no_wrap=True, overflow="ellipsis")
        for row in shown:
            table.add_row(*map(escape, row))
        console.print(table)
        cut = sum(wanted) > room
    if cut:
        console.print(_WHOLE, style="dim", soft_wrap=True)


def _fitted(wanted: Sequence[int], room: int) -> list[int]:
    """The widths of columns: narrow ones keep theirs, and wide ones share the rest evenly."""
    widths = [0] * len(wanted)
    by_width = sorted(range(len(wanted)), key=lambda column: wanted[column])
    for left, column in zip(range(len(wanted), 0, -1), by_width, strict=True):
        widths[column] = min(wanted[column], room // left)
        room -= widths[column]
    return widths


def _print_cells(heads: Sequence[str], shown: Sequence[Sequence[str]], console: Console) -> bool:
    """Prints one line for each cell. Returns whether any was cut."""
    left = min(max(map(cell_len, heads)), console.width // 2)
    room = console.width - left - 2
    for number, row in enumerate(shown, start=1):
        console.rule(f"row {number:,}", align="left", style="dim")
        table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        for width in (left, room):
            table.add_column(width=width, no_wrap=True, overflow="ellipsis")
        for head, text in zip(heads, row, strict=True):
            table.add_row(escape(head), escape(text))
        console.print(table)
    return any(cell_len(text) > room for row in shown for text in row)


def _shown(rows: Rows) -> list[list[str]]:
    return [[NULL if value is None else value for value in row] for row in rows]
