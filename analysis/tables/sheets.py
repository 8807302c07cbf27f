"""Sheets of text, drawn on the screen or written as Markdown and LaTeX.

Labels come from sweep files and may hold anything: each writer escapes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import rich.box
import rich.table
from rich.console import Console
from rich.markup import escape as escape_rich

UNDEFINED = "–"


class Cell(NamedTuple):
    """What a cell says, and its place in its column: 1 is bold, 2 underlined."""

    text: str
    place: int = 0


class Sheet(NamedTuple):
    """A table as it is printed. `labels` are the heads of the first columns, `figures` of the rest.

    Every row has a cell for each of them.
    """

    labels: Sequence[str]
    figures: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str]


def print_text(sheet: Sheet, console: Console) -> None:
    """Prints the sheet and its notes."""
    drawn = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for name in sheet.labels:
        drawn.add_column(_escape_text(name), overflow="fold")
    for name in sheet.figures:
        drawn.add_column(_escape_text(name), justify="right", overflow="fold")
    for row in _marked(sheet, _escape_text, "[bold]{}[/bold]", "[underline]{}[/underline]"):
        drawn.add_row(*row)
    print_whole(drawn, console)
    for note in sheet.notes:
        console.print(note, style="dim", markup=False, highlight=False, soft_wrap=True)


def print_whole(drawn: rich.table.Table, console: Console) -> None:
    """Prints a table; a pipe or a file has no width, so nothing is cut off there."""
    if not console.is_terminal:
        console = Console(file=console.file, width=10_000, highlight=False, emoji=False)
    console.print(drawn)


def markdown(sheet: Sheet) -> str:
    """A Markdown table, the notes below it."""
    lines = [
        _line(map(_escape_markdown, [*sheet.labels, *sheet.figures])),
        _line(["---"] * len(sheet.labels) + ["---:"] * len(sheet.figures)),
        *(_line(row) for row in _marked(sheet, _escape_markdown, "**{}**", "<u>{}</u>")),
        "",
        *(f"*{_escape_markdown(note)}*  " for note in sheet.notes),
    ]
    return "\n".join(lines)


def latex(sheet: Sheet) -> str:
    """A booktabs table (needs the package booktabs), the notes in small type below its figures.

    They are part of the table, so that no watermark is lost on the way into a paper.
    """
    head = [*sheet.labels, *sheet.figures]
    rows = _marked(sheet, _escape_latex, r"\textbf{{{}}}", r"\underline{{{}}}")
    lines = [
        rf"\begin{{tabular}}{{{'l' * len(sheet.labels)}{'r' * len(sheet.figures)}}}",
        r"\toprule",
        " & ".join(map(_escape_latex, head)) + r" \\",
        r"\midrule",
        *(" & ".join(row).replace(UNDEFINED, "--") + r" \\" for row in rows),
        r"\bottomrule",
        *(
            rf"\multicolumn{{{len(head)}}}{{l}}{{\footnotesize {_escape_latex(note)}}} \\"
            for note in sheet.notes
        ),
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def printable(text: str) -> str:
    """`text` on one line, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _marked(
    sheet: Sheet, escape: Callable[[str], str], bold: str, underline: str
) -> list[list[str]]:
    """Every row's cells, escaped, best and second marked."""
    marks = {0: "{}", 1: bold, 2: underline}
    return [[marks[cell.place].format(escape(cell.text)) for cell in row] for row in sheet.rows]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


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
