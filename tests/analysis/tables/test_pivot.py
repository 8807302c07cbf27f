"""Tables with chosen rows and columns, marks of ties, and every format."""

from __future__ import annotations

import random
import re

import pytest

from agents.core.errors import UsageError
from analysis.results import Results
from analysis.statistics.defined_tables import sheet_for
from analysis.statistics.table_marks import mark_ties
from analysis.tables import sheets
from analysis.tables.table import make_table
from sweeps.schema import TableSpec
from tests.analysis.builder import Built, Cell, grid_of


def results(folder, *, cases=30, weak=0.3) -> Results:
    """Two domains x agents a, b, c: in `film` a wins nearly always, in `song` all are alike."""
    rng = random.Random(1)
    cells = [
        Cell(f"{d}/{a}", {"domain": d, "agent": a}, d) for d in ("film", "song") for a in "abc"
    ]
    built = Built(cells, case_ids=[f"u{n}" for n in range(cases)])
    for cell in cells:
        chance = 0.95 if cell.cell_id == "film/a" else weak
        for case_id in built.case_ids:
            for seed in built.seeds:
                won = rng.random() < chance
                built.episode(cell, case_id, seed, success_turn=2 if won else None)
    return Results.open(built.write(folder))


def test_axes_go_down_and_across_with_the_metrics_last(tmp_path):
    found = results(tmp_path)
    sheet = sheet_for(
        found, TableSpec(rows=["agent"], columns=["domain"], metrics=["sr@5", "at_fail_t"])
    )
    assert sheet.labels == ["agent"]
    assert sheet.levels == [
        ("film", "sr@5"), ("film", "at_fail_t"), ("song", "sr@5"), ("song", "at_fail_t"),
        ("", "episodes"),
    ]  # fmt: skip
    table = make_table(found, ["sr@5", "at_fail_t"])
    means = {(r.axes["domain"], r.axes["agent"]): r.values for r in table.rows}
    for row in sheet.rows:
        agent = row[0].text
        for cell, (domain, metric) in zip(row[1:5], sheet.levels, strict=False):
            value = means[domain, agent][0 if metric == "sr@5" else 1]
            assert cell.text.startswith(f"{value.mean:.{3 if metric == 'sr@5' else 2}f} ± ")
        assert row[5].text == "180 of 180"
    assert [row[1].place for row in sheet.rows if row[0].text == "a"] == [1]


def test_groups_of_users_are_rows_or_columns_with_their_own_coverage(tmp_path):
    built = Built(grid_of("a", "b", backbones=["m"]), seeds=[0])
    built.groups = {"u0": ["Active"], "u1": ["Active"], "u2": ["Passive"], "u3": ["Neutral"]}
    for cell in built.cells:
        for case_id in built.case_ids:
            built.episode(cell, case_id, 0, success_turn=1 if case_id < "u2" else None)
    found = Results.open(built.write(tmp_path))
    spec = TableSpec(rows=["group", "agent"], metrics=["sr@5"], by=["openness"])
    shown = {
        tuple(c.text for c in row[:2]): [c.text for c in row[2:]]
        for row in sheet_for(found, spec).rows
    }
    assert shown["Active", "a"] == ["1.000 ± n/a", "2 of 2"]
    assert shown["Passive", "b"] == ["0.000 ± n/a", "1 of 1"]
    assert shown["overall_macro", "a"] == ["0.333 ± n/a", "4 of 4"]
    spec = TableSpec(rows=["agent"], columns=["group", "metric"], metrics=["sr@5"], by=["openness"])
    assert sheet_for(found, spec).levels[:2] == [("Active", "sr@5"), ("Neutral", "sr@5")]
    with pytest.raises(UsageError, match="no axis 'group'"):
        sheet_for(found, TableSpec(rows=["agent", "group"], metrics=["sr@5"]))


def test_metrics_may_be_rows_and_lead_the_columns(tmp_path):
    found = results(tmp_path, cases=3)
    spec = TableSpec(rows=["metric", "domain"], columns=["agent"], metrics=["sr@5", "sr@1"])
    sheet = sheet_for(found, spec)
    assert [(r[0].text, r[1].text) for r in sheet.rows] == [
        ("sr@5", "film"), ("sr@1", "film"), ("sr@5", "song"), ("sr@1", "song"),
    ]  # fmt: skip
    sheet = sheet_for(found, TableSpec(columns=["metric", "domain"], metrics=["sr@5", "sr@1"]))
    assert [levels[0] for levels in sheet.levels[:4]] == ["sr@5", "sr@5", "sr@1", "sr@1"]
    assert sheet.labels == ["agent"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TableSpec(rows=["agent"]), "put domain into the rows or columns too"),
        (TableSpec(rows=["agnt"]), "did you mean 'agent'"),
        (TableSpec(rows=["agent"], columns=["agent"]), "named twice"),
        (TableSpec(columns=["agent", "domain"]), "at least one axis for the rows"),
        (TableSpec(rows=["agent"], columns=["domain"], ties="agnt"), "no axis 'agnt'"),
    ],
)
def test_a_table_that_cannot_be_says_why(tmp_path, spec, message):
    with pytest.raises(UsageError, match=message):
        sheet_for(results(tmp_path, cases=2), spec)


def test_the_best_is_starred_and_ties_are_marked_within_their_context(tmp_path):
    found = results(tmp_path)
    table = make_table(found, ["sr@5"])
    marked = mark_ties(found, table, "agent")
    by_cell = {
        (row.axes["domain"], row.axes["agent"]): marked.marks.get((index, 0), "")
        for index, row in enumerate(table.rows)
    }
    assert by_cell == {
        ("film", "a"): "*", ("film", "b"): "", ("film", "c"): "",
        ("song", "a"): "≈", ("song", "b"): "≈", ("song", "c"): "≈",
    }  # fmt: skip
    (legend,) = marked.notes
    assert "* significantly better than every other value of agent; ≈ the best, and" in legend


def test_marks_of_lower_is_better_and_of_undefined_metrics(tmp_path):
    found = results(tmp_path)
    table = make_table(found, ["at_fail_t", "hr@50_turn"])
    marks = mark_ties(found, table, "agent").marks
    assert marks[0, 0] == "*"
    assert not any(metric == 1 for _, metric in marks)


def test_one_case_ties_everything_and_an_axis_of_one_value_is_refused(tmp_path):
    found = results(tmp_path, cases=1)
    table = make_table(found, ["sr@5"])
    assert set(mark_ties(found, table, "agent").marks.values()) == {"≈"}
    with pytest.raises(UsageError, match="no two rows differ in 'domain' alone"):
        mark_ties(found, table, "domain")


def test_every_format_has_the_heads_the_marks_and_the_notes(tmp_path):
    spec = TableSpec(rows=["agent"], columns=["domain"], metrics=["sr@5"], ties="agent")
    sheet = sheet_for(results(tmp_path), spec)
    assert sheets.as_csv(sheet).splitlines()[0] == "agent,film sr@5,song sr@5,episodes"
    assert re.search(r"^a,0.\d{3} ± 0.\d{3} \*,0.\d{3} ± 0.\d{3} ≈,", sheets.as_csv(sheet), re.M)
    assert re.search(r"\| a \| \*\*0.\d{3} ± 0.\d{3}\*\* \\\* \|", sheets.markdown(sheet))
    latex = sheets.latex(sheet)
    assert r" & film & song &  \\\cmidrule(lr){2-2}\cmidrule(lr){3-3}" in latex
    assert r"\textsuperscript{*}" in latex
    assert r"\textsuperscript{$\approx$}" in latex
    assert "≈" not in latex
    page = sheets.html_table(sheet)
    assert '<th scope="col" rowspan="2">agent</th>' in page
    assert re.search(r"<td><b>0.\d{3} ± 0.\d{3}</b><sup>\*</sup></td>", page)
    assert "<li>" in page


def test_shared_heads_span_their_columns_and_html_escapes_every_text():
    hostile = "<script>alert(1)</script>&"
    sheet = sheets.Sheet(
        [hostile],
        ["x a", "x b", "episodes"],
        [
            [
                sheets.SheetCell(hostile),
                sheets.SheetCell("1", 1, "<"),
                sheets.SheetCell("2"),
                sheets.SheetCell("3"),
            ]
        ],
        [hostile],
        [(hostile, "a"), (hostile, "b"), ("", "episodes")],
    )
    page = sheets.html_table(sheet)
    assert "<script>" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;") == 4
    assert 'colspan="2">&lt;script' in page
    assert "<b>1</b><sup>&lt;</sup>" in page
    assert r"\multicolumn{2}{c}{\textless{}script" in sheets.latex(sheet)


def test_a_sweep_without_a_finished_episode_gives_an_empty_table(tmp_path):
    cells = [Cell(a, {"agent": a}) for a in "ab"]
    found = Results.open(Built(cells).write(tmp_path))
    sheet = sheet_for(found, TableSpec(rows=["agent"], metrics=["sr@5"], ties="agent"))
    assert [[cell.text for cell in row] for row in sheet.rows] == [
        ["a", "–", "0 of 12"],
        ["b", "–", "0 of 12"],
    ]
