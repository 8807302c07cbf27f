"""Sheets of text, drawn on the screen or written as CSV, Markdown, LaTeX and HTML.

Labels come from sweep files and may hold anything: each writer escapes them.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import rich.box
import rich.table
from rich.console import Console
from rich.markup import escape as escape_rich

UNDEFINED = "–"


class Cell(NamedTuple):
    """What a cell says, its place in its column (1 is bold, 2 underlined), and a mark after it."""

    text: str
    place: int = 0
    mark: str = ""


class Sheet(NamedTuple):
    """A table as it is printed. `labels` are the heads of the first columns, `figures` of the rest.

    Every row has a cell for each of them. `levels` are the heads of `figures` in several lines, a
    tuple for each figure, where neighbours share the upper ones; empty where there is one line.
    """

    labels: Sequence[str]
    figures: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str]
    levels: Sequence[tuple[str, ...]] = ()


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
    width = len(sheet.labels) + len(sheet.figures)
    rows = _marked(
        sheet, _escape_latex, r"\textbf{{{}}}", r"\underline{{{}}}", r"\textsuperscript{{{}}}"
    )
    lines = [
        rf"\begin{{tabular}}{{{'l' * len(sheet.labels)}{'r' * len(sheet.figures)}}}",
        r"\toprule",
        *_latex_heads(sheet),
        r"\midrule",
        *(" & ".join(row).replace(UNDEFINED, "--") + r" \\" for row in rows),
        r"\bottomrule",
        *(
            rf"\multicolumn{{{width}}}{{p{{0.95\linewidth}}}}"
            rf"{{\footnotesize {_escape_latex(note)}}} \\"
            for note in sheet.notes
        ),
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def html_table(sheet: Sheet) -> str:
    """A `<table>` and a list of its notes, without styles or scripts; every text is escaped."""
    rows = _marked(sheet, html.escape, "<b>{}</b>", "<u>{}</u>", "<sup>{}</sup>")
    lines = ["<table>", "<thead>"]
    lines += [f"<tr>{''.join(cells)}</tr>" for cells in _html_heads(sheet)]
    lines += ["</thead>", "<tbody>"]
    for row in rows:
        labels = "".join(f'<th scope="row">{cell}</th>' for cell in row[: len(sheet.labels)])
        lines.append(
            f"<tr>{labels}{''.join(f'<td>{c}</td>' for c in row[len(sheet.labels) :])}</tr>"
        )
    lines += ["</tbody>", "</table>"]
    if sheet.notes:
        notes = "".join(f"<li>{html.escape(printable(note))}</li>" for note in sheet.notes)
        lines.append(f'<ul class="notes">{notes}</ul>')
    return "\n".join(lines)


def as_csv(sheet: Sheet) -> str:
    """What the sheet shows, without its notes; marks follow their figures."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*sheet.labels, *sheet.figures])
    writer.writerows([f"{c.text}{c.mark and f' {c.mark}'}" for c in row] for row in sheet.rows)
    return out.getvalue()


def _latex_heads(sheet: Sheet) -> list[str]:
    if not sheet.levels:
        return [" & ".join(map(_escape_latex, [*sheet.labels, *sheet.figures])) + r" \\"]
    lines, depth = [], len(sheet.levels[0])
    for level in range(depth):
        last = level == depth - 1
        cells = [_escape_latex(label) if last else "" for label in sheet.labels]
        rules, at = [], len(sheet.labels) + 1
        for text, span in _spans(sheet.levels, level):
            inner = _escape_latex(text)
            cells.append(inner if span == 1 else rf"\multicolumn{{{span}}}{{c}}{{{inner}}}")
            if not last and text:
                rules.append(rf"\cmidrule(lr){{{at}-{at + span - 1}}}")
            at += span
        lines.append(" & ".join(cells) + r" \\" + "".join(rules))
    return lines


def _html_heads(sheet: Sheet) -> list[list[str]]:
    levels = sheet.levels or [(name,) for name in sheet.figures]
    depth = len(levels[0]) if levels else 1
    down = f' rowspan="{depth}"' if depth > 1 else ""
    rows = []
    for level in range(depth):
        labels = [f'<th scope="col"{down}>{html.escape(printable(x))}</th>' for x in sheet.labels]
        cells = labels if level == 0 else []
        for text, span in _spans(levels, level):
            across = f' colspan="{span}"' if span > 1 else ""
            cells.append(
                f'<th scope="col" class="figure"{across}>{html.escape(printable(text))}</th>'
            )
        rows.append(cells)
    return rows


def _spans(levels: Sequence[tuple[str, ...]], level: int) -> list[tuple[str, int]]:
    """The heads of one level, and how many neighbouring columns share each."""
    if levels and level == len(levels[0]) - 1:
        return [(heads[level], 1) for heads in levels]
    return [
        (upper[-1], len(list(group))) for upper, group in groupby(levels, lambda h: h[: level + 1])
    ]


def printable(text: str) -> str:
    """`text` on one line, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _marked(
    sheet: Sheet, escape: Callable[[str], str], bold: str, underline: str, raised: str = " {}"
) -> list[list[str]]:
    """Every row's cells, escaped, best and second marked, with the marks after them."""
    marks = {0: "{}", 1: bold, 2: underline}

    def text(cell: Cell) -> str:
        shown = marks[cell.place].format(escape(printable(cell.text)))
        return shown + (raised.format(escape(cell.mark)) if cell.mark else "")

    return [[text(cell) for cell in row] for row in sheet.rows]


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
    "±": r"$\pm$", "≈": r"$\approx$",
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}",  # at the start of a row it would be an option of the \\ before it
    **{character: "\\" + character for character in "&%$#_{}"},
}  # fmt: skip


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in printable(text))
