"""Tables as text, CSV, Markdown and LaTeX: the best of a column in bold, the second underlined.

Labels come from sweep files and may hold anything: each renderer escapes them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from typing import Any

import rich.box
import rich.table
from rich.console import Console
from rich.markup import escape as escape_rich

from analysis.metrics.core import Metric
from analysis.published import Figure
from analysis.tables.table import Table, TableRow, Value

UNDEFINED = "–"


def places(table: Table, column: int) -> dict[int, int]:
    """Row -> 1 for the best value of a metric, 2 for the second; equal values share a place.

    Values are compared as they are printed, among rows with the same cases: another data set is
    another contest. Empty where fewer than two rows can be compared.
    """
    metric = table.metrics[column]
    found: dict[int, int] = {}
    for source in {row.source for row in table.rows} if metric.better else ():
        shown = {
            index: round(row.values[column].mean, metric.digits)  # type: ignore[arg-type]
            for index, row in enumerate(table.rows)
            if row.source == source and row.values[column].mean is not None
        }
        ranked = sorted(set(shown.values()), reverse=metric.better == "higher")[:2]
        if len(shown) > 1:
            found |= {i: ranked.index(value) + 1 for i, value in shown.items() if value in ranked}
    return found


def figure(value: Value, metric: Metric, plus_minus: str = " ± ") -> str:
    """`0.525 ± 0.031`, or what stands for what is undefined."""
    if value.mean is None:
        return UNDEFINED
    mean = f"{value.mean:,.{metric.digits}f}"
    if value.std is not None:
        return f"{mean}{plus_minus}{value.std:,.{metric.digits}f}"
    return f"{mean}{plus_minus}n/a{' (deterministic)' if value.deterministic else ''}"


def difference(value: Value, published: Figure | None) -> float | None:
    """Ours minus the published figure, None where one of them is not there."""
    return None if value.mean is None or published is None else value.mean - published.value


def coverage(row: TableRow) -> str:
    return f"{row.counted:,} of {row.planned:,}"


def print_text(table: Table, console: Console) -> None:
    """Prints the table and its notes."""
    drawn = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for axis in table.axes:
        drawn.add_column(_escape_text(axis), overflow="fold")
    for name in _figure_heads(table):
        drawn.add_column(_escape_text(name), justify="right", overflow="fold")
    for cells in _marked(
        table, _escape_text, "[bold]{}[/bold]", "[underline]{}[/underline]", " ± "
    ):
        drawn.add_row(*cells)
    print_whole(drawn, console)
    for note in table.notes:
        console.print(note, style="dim", markup=False, highlight=False, soft_wrap=True)


def print_whole(drawn: rich.table.Table, console: Console) -> None:
    """Prints a table; a pipe or a file has no width, so nothing is cut off there."""
    if not console.is_terminal:
        console = Console(file=console.file, width=10_000, highlight=False, emoji=False)
    console.print(drawn)


def markdown(table: Table) -> str:
    """A Markdown table, the notes below it."""
    figures = _figure_heads(table)
    lines = [
        _line(map(_escape_markdown, [*table.axes, *figures])),
        _line(["---"] * len(table.axes) + ["---:"] * len(figures)),
        *(_line(row) for row in _marked(table, _escape_markdown, "**{}**", "<u>{}</u>", " ± ")),
        "",
        *(f"*{_escape_markdown(note)}*  " for note in table.notes),
    ]
    return "\n".join(lines)


def latex(table: Table) -> str:
    """A booktabs table (needs the package booktabs), the notes in small type below its figures.

    They are part of the table, so that no watermark is lost on the way into a paper.
    """
    head = [*table.axes, *_figure_heads(table)]
    rows = _marked(table, _escape_latex, r"\textbf{{{}}}", r"\underline{{{}}}", r" $\pm$ ")
    lines = [
        rf"\begin{{tabular}}{{{'l' * len(table.axes)}{'r' * (len(head) - len(table.axes))}}}",
        r"\toprule",
        " & ".join(map(_escape_latex, head)) + r" \\",
        r"\midrule",
        *(" & ".join(row).replace(UNDEFINED, "--") + r" \\" for row in rows),
        r"\bottomrule",
        *(
            rf"\multicolumn{{{len(head)}}}{{l}}{{\footnotesize {_escape_latex(note)}}} \\"
            for note in table.notes
        ),
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def as_csv(table: Table) -> str:
    """Axes, then for each metric `<metric>`, `<metric>_std`, `<metric>_n`; full precision.

    Next to a paper's table also `<metric>_published` and `<metric>_difference`. Empty where
    undefined. `counted` and `planned` are episodes.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    beside = ("_published", "_difference") if table.published else ()
    names = [f"{m.name}{part}" for m in table.metrics for part in ("", "_std", "_n", *beside)]
    writer.writerow([*table.axes, *names, "counted", "planned"])
    for index, row in enumerate(table.rows):
        figures: list[Any] = []
        for column, value in enumerate(row.values):
            figures += [value.mean, value.std, value.episodes]
            if table.published:
                theirs = table.published[index][column]
                figures += [theirs and theirs.text, difference(value, theirs)]
        cells = ["" if part is None else part for part in figures]
        writer.writerow([*row.axes.values(), *cells, row.counted, row.planned])
    return out.getvalue()


def _marked(
    table: Table, escape: Callable[[str], str], bold: str, underline: str, plus_minus: str
) -> list[list[str]]:
    """Every row's cells, escaped, best and second marked."""
    marks = [places(table, column) for column in range(len(table.metrics))]
    rows = []
    for index, row in enumerate(table.rows):
        cells = [escape(label) for label in row.axes.values()]
        for column, (value, metric) in enumerate(zip(row.values, table.metrics, strict=True)):
            text = figure(value, metric, plus_minus)
            place = marks[column].get(index)
            cells.append({1: bold, 2: underline}.get(place or 0, "{}").format(text))
            if table.published:
                theirs = table.published[index][column]
                apart = difference(value, theirs)
                cells.append(escape(theirs.marked) if theirs else UNDEFINED)
                cells.append(UNDEFINED if apart is None else f"{apart:+.{metric.digits}f}")
        rows.append([*cells, coverage(row)])
    return rows


def _figure_heads(table: Table) -> list[str]:
    """The heads right of the axes."""
    beside = ["published", "difference"] if table.published else []
    return [*(head for metric in table.metrics for head in (metric.name, *beside)), "episodes"]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def printable(text: str) -> str:
    """`text` on one line, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _escape_text(text: str) -> str:
    return escape_rich(printable(text))


def _escape_markdown(text: str) -> str:
    text = printable(text)
    for character in "\\`*_[]<>|":
        text = text.replace(character, "\\" + character)
    return text


_LATEX = {
    "±": r"$\pm$",
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}",  # at the start of a row it would be an option of the \\ before it
    **{character: "\\" + character for character in "&%$#_{}"},
}  # fmt: skip


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in printable(text))
