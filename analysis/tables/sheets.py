"""Tables as sheets of text, printed on the screen or written as CSV, Markdown, LaTeX and HTML.

Labels come from sweep files and may contain anything, so each writer escapes them.
"""

from __future__ import annotations

import csv
import html
import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

import rich.box
import rich.table
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape as escape_rich

UNDEFINED = "–"
"""What is written where there is no value."""
_GAP = 3  # between two columns
_HEAD, _LABEL = 8, 24  # widths to which heads are wrapped, and labels folded, on narrow terminals
LEGEND = ("bold: the best of its column (same metric, same cases)", "underlined: the second")


class SheetCell(NamedTuple):
    """The text of a cell, its rank in its column (1 is bold, 2 underlined), and a mark after it."""

    text: str
    place: int = 0
    mark: str = ""


class Sheet(NamedTuple):
    """A table as it is printed: columns of labels, then columns of values.

    `labels` and `value_heads` are their heads; every row has a cell for each. `levels` are the
    heads of the values in several lines, a tuple for each, where neighbours share the upper ones;
    empty if there is one line.
    """

    labels: Sequence[str]
    value_heads: Sequence[str]
    rows: Sequence[Sequence[SheetCell]]
    notes: Sequence[str]
    levels: Sequence[tuple[str, ...]] = ()


def clock(seconds: float) -> str:
    """Seconds since the epoch as UTC; `UNDEFINED` where no calendar has them."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return UNDEFINED


def print_text(sheet: Sheet, console: Console) -> None:
    """Prints the sheet and its notes; on a terminal, columns that do not fit follow
    further down."""
    rows = _marked(sheet, _escape_text, "[bold]{}[/bold]", "[underline]{}[/underline]")
    for labels, values in _blocks(sheet, console):
        drawn = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
        heads = [_head(sheet, column, console) for column in values]
        most = max((len(lines) for lines in heads), default=1)
        for column in labels:
            lines = [*[""] * (most - 1), printable(sheet.labels[column])]
            drawn.add_column(escape_rich("\n".join(lines)), overflow="fold")
        for lines in heads:
            lines = [*[""] * (most - len(lines)), *lines]
            drawn.add_column(escape_rich("\n".join(lines)), justify="right", no_wrap=True)
        for row in rows:
            shown = [*labels, *(len(sheet.labels) + column for column in values)]
            drawn.add_row(*(row[column] for column in shown))
        print_whole(drawn, console)
    shows_styles = console.is_terminal and console.color_system is not None
    for note in (*(_legend(sheet) if shows_styles else ()), *sheet.notes):
        console.print(note, style="dim", markup=False, highlight=False, soft_wrap=True)


def _blocks(sheet: Sheet, console: Console) -> Iterator[tuple[list[int], range]]:
    """The labels and values that fit next to each other.

    Labels that are the same in all rows are in the first block alone.
    """
    labels, count, start = list(range(len(sheet.labels))), len(sheet.value_heads), 0
    if not console.is_terminal or not count:
        yield labels, range(count)
        return
    widths = [_value_width(sheet, column, console) for column in range(count)]
    while start < count:
        room = console.width - sum(_label_width(sheet, column) for column in labels)
        end = start + 1
        while end < count and sum(widths[start : end + 1]) <= room:
            end += 1
        yield labels, range(start, end)
        start = end
        several = [n for n in labels if len({row[n].text for row in sheet.rows}) > 1]
        labels = several or labels


def _label_width(sheet: Sheet, column: int) -> int:
    """At the least: longer labels may be folded."""
    texts = [sheet.labels[column], *(row[column].text for row in sheet.rows)]
    return min(_LABEL, max(map(cell_len, texts))) + _GAP


def _value_width(sheet: Sheet, column: int, console: Console) -> int:
    cells = [_width(row[len(sheet.labels) + column]) for row in sheet.rows]
    return max([*cells, *map(cell_len, _head(sheet, column, console))]) + _GAP


def _head(sheet: Sheet, column: int, console: Console) -> list[str]:
    """The lines of a head; on a terminal not much wider than what is below."""
    if not console.is_terminal:
        return [printable(sheet.value_heads[column])]
    width = max([_HEAD, *(_width(row[len(sheet.labels) + column]) for row in sheet.rows)])
    levels = (
        sheet.levels[column] if sheet.levels else (sheet.value_heads[column].replace("[", " ["),)
    )
    return [
        line
        for level in levels
        for line in textwrap.wrap(printable(level), width, break_long_words=False) or [""]
    ]


def _width(cell: SheetCell) -> int:
    return cell_len(printable(cell.text)) + (1 + cell_len(cell.mark) if cell.mark else 0)


def _legend(sheet: Sheet) -> list[str]:
    """Explains bold and underlined values, if there are any."""
    places = {cell.place for row in sheet.rows for cell in row}
    words = [words for place, words in enumerate(LEGEND, 1) if place in places]
    return ["; ".join(words)] if words else []


def print_whole(drawn: rich.table.Table, console: Console) -> None:
    """Prints a table; nothing is cut for a pipe or a file, which have no width."""
    if not console.is_terminal:
        console = Console(file=console.file, width=10_000, highlight=False, emoji=False)
    console.print(drawn)


def markdown(sheet: Sheet) -> str:
    """A Markdown table, the notes below it."""
    lines = [
        _line(map(_escape_markdown, [*sheet.labels, *sheet.value_heads])),
        _line(["---"] * len(sheet.labels) + ["---:"] * len(sheet.value_heads)),
        *(_line(row) for row in _marked(sheet, _escape_markdown, "**{}**", "<u>{}</u>")),
        "",
        *(f"*{_escape_markdown(note)}*  " for note in _noted(sheet)),
    ]
    return "\n".join(lines)


def latex(sheet: Sheet) -> str:
    """A booktabs table (needs the package booktabs), the notes in small type below.

    They are part of the table, so that no watermark is lost on the way into a paper.
    """
    width = len(sheet.labels) + len(sheet.value_heads)
    rows = _marked(
        sheet, _escape_latex, r"\textbf{{{}}}", r"\underline{{{}}}", r"\textsuperscript{{{}}}"
    )
    lines = [
        rf"\begin{{tabular}}{{{'l' * len(sheet.labels)}{'r' * len(sheet.value_heads)}}}",
        r"\toprule",
        *_latex_heads(sheet),
        r"\midrule",
        *(" & ".join(row).replace(UNDEFINED, "--") + r" \\" for row in rows),
        r"\bottomrule",
        *(
            rf"\multicolumn{{{width}}}{{p{{0.95\linewidth}}}}"
            rf"{{\footnotesize {_escape_latex(note)}}} \\"
            for note in _noted(sheet)
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
    if _noted(sheet):
        notes = "".join(f"<li>{html.escape(printable(note))}</li>" for note in _noted(sheet))
        lines.append(f'<ul class="notes">{notes}</ul>')
    return "\n".join(lines)


def as_csv(sheet: Sheet) -> str:
    """What the sheet shows, without notes; marks follow their values."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*sheet.labels, *sheet.value_heads])
    writer.writerows([f"{c.text}{c.mark and f' {c.mark}'}" for c in row] for row in sheet.rows)
    return out.getvalue()


def _noted(sheet: Sheet) -> list[str]:
    return [*_legend(sheet), *sheet.notes]


def _latex_heads(sheet: Sheet) -> list[str]:
    if not sheet.levels:
        return [" & ".join(map(_escape_latex, [*sheet.labels, *sheet.value_heads])) + r" \\"]
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
    levels = sheet.levels or [(name,) for name in sheet.value_heads]
    depth = len(levels[0]) if levels else 1
    down = f' rowspan="{depth}"' if depth > 1 else ""
    rows = []
    for level in range(depth):
        labels = [f'<th scope="col"{down}>{html.escape(printable(x))}</th>' for x in sheet.labels]
        cells = labels if level == 0 else []
        for text, span in _spans(levels, level):
            across = f' colspan="{span}"' if span > 1 else ""
            cells.append(
                f'<th scope="col" class="value"{across}>{html.escape(printable(text))}</th>'
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
    """`text` on one line, without characters that control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _marked(
    sheet: Sheet, escape: Callable[[str], str], bold: str, underline: str, raised: str = " {}"
) -> list[list[str]]:
    """Every row's cells, escaped, best and second marked, with the marks after them."""
    marks = {0: "{}", 1: bold, 2: underline}

    def text(cell: SheetCell) -> str:
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
