"""What of a folder counts, and what is wrong with it in one line."""

from __future__ import annotations

import shutil

import duckdb
import pyarrow.parquet as pq
import pytest

from agents.core.errors import CrsweepError, StoreError, UsageError
from analysis.results import Results
from analysis.tables.table import make_table
from sweeps.storage.parts import REPLACES
from sweeps.storage.records import metadata
from tests.analysis.builder import Built, Cell, grid_of


def one_cell(**changes) -> Built:
    return Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0"], **changes)


def winners(results: Results) -> list[tuple]:
    return results.query("SELECT attempt_id, status FROM episodes ORDER BY 1").fetchall()


def test_the_earliest_done_attempt_wins_whatever_a_stray_worker_adds(tmp_path):
    built = one_cell()
    cell = built.cells[0]
    built.failed(cell, "u0", 0, "infrastructure", attempt=0, driver_epoch=1, ended=1.0)
    built.episode(cell, "u0", 0, attempt=1, driver_epoch=2, ended=9.0, success_turn=2)
    built.episode(cell, "u0", 0, attempt=2, driver_epoch=2, ended=10.0)
    built.episode(cell, "u0", 0, attempt=3, driver_epoch=3, ended=1.0)
    results = Results.open(built.write(tmp_path))
    assert winners(results) == [("a/s-u0-0-1", "done")]
    assert results.query("SELECT count(*) FROM attempts").fetchone() == (4,)
    assert make_table(results, ["sr@5"]).rows[0].values[0].mean == 1.0


def test_the_latest_failure_counts_if_no_attempt_is_done(tmp_path):
    built = one_cell()
    for attempt, (epoch, ended) in enumerate([(1, 5.0), (2, 1.0), (2, 4.0), (1, 9.0)]):
        built.failed(
            built.cells[0], "u0", 0, "agent", attempt=attempt, driver_epoch=epoch, ended=ended
        )
    assert winners(Results.open(built.write(tmp_path))) == [("a/s-u0-0-2", "failed")]


def test_cells_seeds_and_cases_that_the_plan_dropped_do_not_count(tmp_path):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0", "u1"], sample=1)
    for cell in [*built.cells, Cell("old", {"agent": "old"})]:
        for case_id in built.case_ids:
            for seed in (0, 1):
                built.episode(cell, case_id, seed)
    assert winners(Results.open(built.write(tmp_path))) == [("a/s-u0-0-0", "done")]


def test_a_compacted_file_hides_the_parts_it_was_made_of(tmp_path):
    built = one_cell()
    built.episode(built.cells[0], "u0", 0, success_turn=1)
    folder = built.write(tmp_path)
    (part,) = (folder / "episodes").iterdir()
    whole = pq.read_table(part).replace_schema_metadata(metadata({REPLACES: f'["{part.name}"]'}))
    pq.write_table(whole, folder / "episodes" / "compact-0001.parquet")
    results = Results.open(folder)
    assert results.query("SELECT count(*) FROM attempts").fetchone() == (1,)


def test_a_folder_without_parts_gives_an_empty_table(tmp_path):
    names = ["sr@5", "at_success_only", "dsr_pooled@5", "hr@50_turn", "recall@3", "tokens@agent"]
    table = make_table(Results.open(one_cell().write(tmp_path)), names)
    assert [v.mean for v in table.rows[0].values] == [None] * len(names)
    assert (table.rows[0].counted, table.rows[0].planned) == (0, 1)


NAMES = [
    "seed=3", "agent=x", "it's",
    'a"b', "r[1]*", "ä b", "50%", "%41", "a#b", "a;b", "a{b,c}", "a\\b",
    "a\nb", "~", "-x", ":car:", "a[b]", "a[!x]", "a[]", "][", "a?", "a*", "**", "$HOME",
    "[red]a[/]",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_the_folder_changes_nothing(tmp_path, name):
    built = one_cell()
    for decoy in ("ab", "ac", "a", "r1x", "aA", "A"):  # what a pattern of that name would find
        other = one_cell()
        other.episode(other.cells[0], "u0", 0)
        other.write(tmp_path / decoy / "out")
    built.episode(built.cells[0], "u0", 0, success_turn=1)
    results = Results.open(built.write(tmp_path / name / "out"))
    assert make_table(results, ["sr@5"]).rows[0].values[0].mean == 1.0
    assert results.select("select count(*) from attempts")[1] == [("1",)]


def test_a_folder_named_like_a_home_is_read_from_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = one_cell()
    built.episode(built.cells[0], "u0", 0)
    built.write(tmp_path / "~" / "out")
    assert winners(Results.open("./~/out")) == [("a/s-u0-0-0", "done")]


@pytest.mark.parametrize("axis", ["success", 'a"b', "it's", "roles.agent; DROP TABLE x"])
def test_axes_and_values_may_hold_anything(tmp_path, axis):
    cells = [Cell(f"c'{n}", {axis: value}, f"it's {n}") for n, value in enumerate(["x'", '"y'])]
    built = Built(cells, seeds=[0], case_ids=["u0"])
    for cell in cells:
        built.episode(cell, "u0", 0, success_turn=1)
    results = Results.open(built.write(tmp_path))
    assert [row.axes for row in make_table(results, ["sr@1"]).rows] == [c.axes for c in cells]
    assert [row.values[0].mean for row in make_table(results, ["sr@1"]).rows] == [1.0, 1.0]


def test_thinking_and_fingerprint_of_calls_can_be_asked_for(tmp_path):
    built = one_cell()
    calls = [{"thinking": "Hm.", "fingerprint": "f1"}, {}]
    built.episode(built.cells[0], "u0", 0, calls=calls)
    results = Results.open(built.write(tmp_path))
    found = results.db.execute("SELECT thinking, fingerprint FROM calls ORDER BY ALL").fetchall()
    assert found == [("Hm.", "f1"), (None, None)]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "contains no sweep"),
        ("{", "is not a manifest of crsweep"),
        ("[]", "is not a manifest of crsweep"),
        ('{"schema_version": 2}', "is not a manifest of crsweep"),
        ('{"schema_version": 99}', "has schema version 99; this crsweep reads 5"),
    ],
)
def test_a_folder_that_is_no_sweep_is_refused_in_one_line(tmp_path, manifest, message):
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UsageError, match=message) as raised:
        Results.open(tmp_path)
    assert "\n" not in raised.value.message


def test_a_file_given_as_the_folder_is_refused(tmp_path):
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("name: x")
    with pytest.raises(UsageError, match="found the file"):
        Results.open(sweep)


def test_what_does_not_fit_into_memory_is_not_written_into_the_current_folder(
    tmp_path, monkeypatch
):
    current = tmp_path / "current"
    current.mkdir()
    monkeypatch.chdir(current)
    built = one_cell()
    built.episode(built.cells[0], "u0", 0)
    results = Results.open(built.write(tmp_path / "out"))
    results.query("SET memory_limit = '60MB'")
    results.query("CREATE TEMP TABLE large AS SELECT hash(range) AS a FROM range(12000000)")
    (spilt,) = results.query("SELECT sum(size) FROM duckdb_temporary_files()").fetchone()
    assert spilt > 0
    assert list(current.iterdir()) == []


def test_only_tables_are_joined_in_the_order_written(tmp_path):
    results = Results.open(one_cell().write(tmp_path))
    setting = "SELECT current_setting('disabled_optimizers')"
    make_table(results, ["sr@5"])
    assert results.query(setting).fetchall() == [("",)]
    with pytest.raises(UsageError), results.joins_as_written():
        assert results.query(setting).fetchall() != [("",)]
        results.query("SELECT nothing")
    assert results.query(setting).fetchall() == [("",)]


@pytest.mark.parametrize("oldest", [2, 3])
def test_a_foreign_part_is_named_also_among_parts_of_older_versions(tmp_path, oldest):
    built = one_cell()
    built.episode(built.cells[0], "u0", 0)
    built.write(tmp_path, oldest_parts=oldest)
    duckdb.sql("SELECT 1 AS x").write_parquet(str(tmp_path / "episodes" / "z.parquet"))
    with pytest.raises(StoreError, match=r"z\.parquet has schema version none"):
        Results.open(tmp_path)


@pytest.mark.parametrize("table", ["episodes", "turns", "cases"])
def test_a_broken_part_or_a_missing_file_is_one_clear_line(tmp_path, table):
    built = one_cell()
    built.episode(built.cells[0], "u0", 0)
    folder = built.write(tmp_path)
    if table == "cases":
        shutil.rmtree(folder / "cases")
    else:
        (folder / table / "broken.parquet").write_bytes(b"half")
    with pytest.raises(CrsweepError, match=r"\.parquet") as raised:
        make_table(Results.open(folder), ["dsr_pooled@5"])
    assert "\n" not in raised.value.message
