"""`crsweep sql`: values in DuckDB's own words, whole or cut to the screen."""

from __future__ import annotations

import csv
import io
import json

import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len

from agents.core.errors import UsageError
from analysis.results import Results
from runner.commands.query import show_query
from tests.analysis.builder import Built, grid_of
from tests.runner.commands.test_results import printed, screen

LONG = "a title that is longer than any screen is wide " * 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0", "u1"])
    for case_id in built.case_ids:
        built.episode(built.cells[0], case_id, 0, started=1_700_000_000.5)
    return built.write(tmp_path_factory.mktemp("sweep"))


VALUES = {
    "to_timestamp(1700000000.5)": ("2023-11-14 22:13:20.5+00", "2023-11-14 22:13:20.5+00"),
    "to_timestamp(0) + interval 1 day": ("1970-01-02 00:00:00+00", "1970-01-02 00:00:00+00"),
    "to_timestamp(3600) - to_timestamp(0)": ("01:00:00", "01:00:00"),
    "'-infinity'::timestamptz": ("-infinity", "-infinity"),
    "interval '1 month 2 days'": ("1 month 2 days", "1 month 2 days"),
    "timestamp '290308-12-21 (BC) 00:00:00'": ("290308-12-21 (BC) 00:00:00",) * 2,
    "1.10::decimal(10,2)": ("1.10", 1.1),
    "{'at': to_timestamp(0), 'b': null}": (
        "{'at': '1970-01-01 00:00:00+00', 'b': NULL}",
        {"at": "1970-01-01 00:00:00+00", "b": None},
    ),
    "'\\xAA\\x00b'::blob": ("\\xAA\\x00b", "\\xAA\\x00b"),
    "'nan'::double": ("nan", None),
    "['inf'::float, 1]": ("[inf, 1.0]", [None, 1.0]),
    "'NaN'": ("NaN", "NaN"),
    "hugeint '170141183460469231731687303715884105727'": (str(2**127 - 1), 2**127 - 1),
    "[map {'a': to_timestamp(0)}, map {}]": (
        "[{a='1970-01-01 00:00:00+00'}, {}]",
        [{"a": "1970-01-01 00:00:00+00"}, {}],
    ),
    "true": ("true", True),
    "'é\n\"x\"'": ('é\n"x"', 'é\n"x"'),
}  # fmt: skip


@pytest.mark.parametrize("sql", VALUES)
def test_values_are_what_duckdb_says(folder, capsys, sql):
    text, value = VALUES[sql]
    show_query(str(folder), f"select {sql} as v, null as n", format="csv", console=screen())
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [["v", "n"], [text, ""]]
    show_query(str(folder), f"select {sql} as v, null as n", format="json", console=screen())
    assert json.loads(capsys.readouterr().out) == [{"v": value, "n": None}]


def test_times_are_utc_whatever_the_machine_says(folder, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    found = Results.open(folder).select("select to_timestamp(started) from episodes limit 1")
    assert found == (["to_timestamp(started)"], [("2023-11-14 22:13:20.5+00",)])


@pytest.mark.parametrize(
    ("query", "names", "rows"),
    [
        ("select 1 as a, 2 as a", ["a", "a"], [("1", "2")]),
        ("select 1 as a; -- done;", ["a"], [("1",)]),
        ("/* ; */ select 'é;' as \"a;b\" ;", ["a;b"], [("é;",)]),
        ("select 1 as a -- no end", ["a"], [("1",)]),
        ("with answer as (select 1 as a) select * from answer", ["a"], [("1",)]),
        ("from range(3) order by 1 desc", ["range"], [("2",), ("1",), ("0",)]),
        ("values (1), (null)", ["col0"], [("1",), (None,)]),
        ("select count(*) from episodes where false", ["count_star()"], [("0",)]),
        ("select case_id from episodes where false", ["case_id"], []),
    ],
)
def test_any_form_of_a_query_is_answered(folder, query, names, rows):
    assert Results.open(folder).select(query) == (names, rows)


@pytest.mark.parametrize("query", ["explain select 1", "describe episodes", "summarize cells"])
def test_what_explains_is_answered_too(folder, query):
    assert Results.open(folder).select(query)[1]


@pytest.mark.parametrize("query", ["select * from folder", "select * from text", "select 1/'x'"])
def test_an_error_is_one_line_of_duckdb_and_no_name_is_a_variable_of_this_program(folder, query):
    with pytest.raises(UsageError, match="SQL: "):
        Results.open(folder).select(query)


def test_equal_names_stay_apart_in_json(folder, capsys):
    query = "select 1 as a, 2 as a, 3 as a_1 from range(2)"
    show_query(str(folder), query, format="json", console=screen())
    assert json.loads(capsys.readouterr().out) == [{"a": 1, "a_1": 2, "a_1_1": 3}] * 2
    show_query(str(folder), f"{query} where false", format="json", console=screen())
    assert json.loads(capsys.readouterr().out) == []


def shown(folder, query: str, *, width: int, terminal: bool) -> list[str]:
    console = screen(width, terminal=terminal)
    show_query(str(folder), query, format="text", console=console)
    return [line.rstrip() for line in printed(console).splitlines() if line.strip()]


def test_long_cells_are_cut_to_the_terminal_and_short_columns_stay_whole(folder):
    query = (
        f"select case_id, '{LONG}' as prompt, 'one\ntwo' as reply, 7 as n from episodes order by 1"
    )
    head, rule, *rows, note = shown(folder, query, width=60, terminal=True)
    assert head.split() == ["case_id", "prompt", "reply", "n"]
    assert [cell_len(line) <= 60 for line in (head, rule, *rows)] == [True] * 4
    for row, case_id in zip(rows, ["u0", "u1"], strict=True):
        assert row.split()[0] == case_id
        assert "a title that is longer than" in row
        assert row.endswith(("…   one two   7", "… one two   7"))
    assert note == "cells are cut to the width of the terminal; use --csv or --json for full cells"


def test_a_row_of_many_columns_is_a_line_a_cell(folder):
    lines = shown(
        folder, f"select *, '{LONG}' as words from episodes limit 1", width=60, terminal=True
    )
    assert lines[0].startswith("row 1 ")
    assert "success_rule     user_accepts" in lines
    assert "blame            NULL" in lines
    assert lines[-2].startswith("words            a title") and lines[-2].endswith("…")
    assert all(cell_len(line) <= 60 for line in lines[:-1])


def test_what_fits_is_not_said_to_be_cut(folder):
    lines = shown(folder, "select case_id, turns from episodes order by 1", width=60, terminal=True)
    assert [line.split() for line in lines[2:]] == [["u0", "5"], ["u1", "5"]]


def test_a_pipe_gets_every_cell_whole_without_what_steers_a_terminal(folder):
    long = LONG * 40  # 15,000 characters
    lines = shown(
        folder, f"select '{long}x' as a, 'one\ntwo' as b, '\x1b[2J' as c", width=60, terminal=False
    )
    assert lines[2].startswith(f" {long}x   one ")
    assert lines[3].strip() == "two"
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("format", ["markdown", "latex", "xml"])
def test_other_formats_are_refused(folder, format):
    with pytest.raises(UsageError, match=f"--format {format}: sql prints text, csv or json"):
        show_query(str(folder), "select 1", format=format, console=screen())


def test_parquet_keeps_types_and_numbers_equal_names(folder, tmp_path):
    console, path = screen(), tmp_path / "answer.parquet"
    query = "select success, ended as a, turns as a, targets from episodes order by case_id"
    show_query(str(folder), query, format="text", console=console, parquet=path)
    found = pq.read_table(path)
    assert found.column_names == ["success", "a", "a_1", "targets"]
    assert [str(kind) for kind in found.schema.types] == [
        "bool",
        "double",
        "int16",
        "list<element: string>",
    ]
    assert len(found) == 2
    assert "2 rows" in printed(console)


def test_a_parquet_file_that_cannot_be_written_is_named(folder, tmp_path):
    path = tmp_path / "missing" / "answer.parquet"
    with pytest.raises(UsageError, match=r"--parquet .*answer\.parquet: "):
        show_query(str(folder), "select 1", format="text", console=screen(), parquet=path)
