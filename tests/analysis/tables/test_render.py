"""Each format: marks, escaping, and nothing cut off."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from analysis.metrics.core import parse_metric
from analysis.tables import render, sheets
from analysis.tables.table import Table, TableRow, Value

HOSTILE = "[red]a[/red]|b_c & 50%$#{}~^\\<i>\x1b[31m\nx,\"y'"


def table(*means: float | None, metric: str = "sr@5", labels: list[str] | None = None) -> Table:
    names = labels or [f"row{n}" for n in range(len(means))]
    rows = [
        TableRow({"roles.agent": name}, [Value(mean, 0.03125, False, 40, 3)], 40, 60)
        for name, mean in zip(names, means, strict=True)
    ]
    return Table(["roles.agent"], [parse_metric(metric)], rows, ["a note with 50% & more"])


def printed(found: Table, *, terminal: bool, width: int = 100) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)
    sheets.print_text(render.sheet(found), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_best_is_first_and_ties_as_printed_share_a_place():
    assert render.places(table(0.1, 0.5, 0.3, None), 0) == {1: 1, 2: 2}
    assert render.places(table(0.5, 0.50001, 0.3), 0) == {0: 1, 1: 1, 2: 2}
    assert render.places(table(2.0, 5.0, 3.0, metric="at_fail_t"), 0) == {0: 1, 2: 2}
    assert render.places(table(0.5, None), 0) == {}


def test_rows_of_two_data_sets_are_two_contests():
    found = table(0.1, 0.2, 0.8, 0.9)
    rows = [
        TableRow(r.axes, r.values, 40, 60, source=s)
        for r, s in zip(found.rows, "xxyy", strict=True)
    ]
    assert render.places(Table(found.axes, found.metrics, rows), 0) == {0: 2, 1: 1, 2: 2, 3: 1}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Value(0.5, 0.25, False, 4, 2), "0.500 ± 0.250"),
        (Value(0.5, None, False, 4, 1), "0.500 ± n/a"),
        (Value(0.5, None, True, 4, 2), "0.500 ± n/a (deterministic)"),
        (Value(None, None, False, 0, 0), "–"),
    ],
)
def test_figures_show_what_is_not_there(value, text):
    assert render.formatted(value, parse_metric("sr@5")) == text


def test_text_in_a_pipe_is_one_line_a_row_and_whole():
    lines = printed(table(0.5, labels=["x" * 300]), terminal=False, width=20).splitlines()
    assert any("x" * 300 in line and "0.500 ± 0.031" in line for line in lines)


def test_text_in_a_narrow_terminal_folds_and_loses_nothing():
    shown = printed(table(0.5, 0.25, labels=["abcdefghij" * 3, "z"]), terminal=True, width=30)
    kept = "".join(line[:10].strip() for line in shown.splitlines())
    assert "…" not in shown
    assert "0.031" in shown
    assert sum(kept.count(letter) for letter in "bcdefghij") >= 9


def test_hostile_labels_stay_text():
    shown = printed(table(0.5, labels=[HOSTILE]), terminal=False)
    assert "[red]a[/red]|b_c" in shown
    assert "\x1b" not in shown


def test_markdown_marks_and_escapes():
    lines = sheets.markdown(
        render.sheet(table(0.5, 0.25, None, labels=[HOSTILE, "b", "c"]))
    ).splitlines()
    assert lines[0] == r"| roles.agent | sr@5 | episodes |"
    assert "**0.500 ± 0.031**" in lines[2]
    assert r"\[red\]a\[/red\]\|b\_c" in lines[2]
    assert lines[3] == "| b | <u>0.250 ± 0.031</u> | 40 of 60 |"
    assert lines[4] == "| c | – | 40 of 60 |"
    assert lines[6].startswith("*bold: the best of its column")
    assert lines[6].endswith("; underlined: the second*  ")
    assert lines[7] == "*a note with 50% & more*  "


@pytest.mark.parametrize("written", [sheets.markdown, sheets.latex, sheets.html_table])
def test_the_legend_says_what_marks_are_where_there_are_any(written):
    several, alone = (written(render.sheet(table(*means))) for means in ((0.5, 0.25), (0.5,)))
    assert all(several.count(words) == 1 for words in sheets.LEGEND)
    assert not any(words in alone for words in sheets.LEGEND)


def test_on_a_screen_the_legend_is_there_if_bold_can_be_seen():
    for system, seen in (("standard", True), (None, False)):
        console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=system)  # type: ignore[arg-type]
        sheets.print_text(render.sheet(table(0.5, 0.25)), console)
        assert ("bold: the best" in console.file.getvalue()) is seen  # type: ignore[attr-defined]


def test_columns_that_do_not_fit_come_further_down_with_the_labels_that_differ():
    names = [f"sr@{n}" for n in range(1, 10)]
    rows = [
        TableRow({"domain": "film", "agent": name}, [Value(0.5, 0.25, False, 4, 2)] * 9, 4, 4)
        for name in ("ask", "tool")
    ]
    lines = printed(
        Table(["domain", "agent"], [parse_metric(n) for n in names], rows), terminal=True, width=80
    ).splitlines()
    assert max(map(len, lines)) <= 80
    assert [sum(line.count(f"sr@{n}") for line in lines) for n in range(1, 10)] == [1] * 9
    assert sum(line.count("0.500 ± 0.250") for line in lines) == 18
    blocks = [line for line in lines if line.strip().startswith(("film", "ask"))]
    assert [line.split()[0] for line in blocks] == ["film", "film", "ask", "ask"]


def test_latex_marks_and_escapes():
    text = sheets.latex(render.sheet(table(0.5, 0.25, None, labels=[HOSTILE, "b_1", "c"])))
    assert r"\textbf{0.500 $\pm$ 0.031}" in text
    assert r"b\_1 & \underline{0.250 $\pm$ 0.031} & 40 of 60 \\" in text
    assert r"c & -- & 40 of 60 \\" in text
    row = next(line for line in text.splitlines() if "red" in line)
    assert row.startswith("{[}red]")  # a bare [ would be an option of the line break before it
    assert r"\& 50\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}" in row
    assert all(word in text for word in (r"\toprule", r"\midrule", r"\bottomrule"))


def test_csv_has_three_columns_a_metric_and_full_precision():
    values = [Value(1 / 3, 0.1, False, 40, 3), Value(None, None, False, 0, 0)]
    found = Table(
        ["a"],
        [parse_metric("sr@5"), parse_metric("at_fail_t")],
        [TableRow({"a": HOSTILE}, values, 40, 60)],
    )
    (row,) = csv.DictReader(io.StringIO(render.as_csv(found), newline=""))
    assert row["a"] == HOSTILE
    assert float(row["sr@5"]) == 1 / 3
    assert (row["sr@5_std"], row["sr@5_n"]) == ("0.1", "40")
    assert (row["at_fail_t"], row["at_fail_t_std"], row["at_fail_t_n"]) == ("", "", "0")
    assert (row["counted"], row["planned"]) == ("40", "60")
