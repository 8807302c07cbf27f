"""SQL that a person types reads the results of its sweep, and nothing else."""

from __future__ import annotations

import duckdb
import pytest

from agents.core.errors import StoreError, UsageError
from analysis import sandbox
from analysis.results import Results
from analysis.viewer import conditions
from tests.analysis.builder import Built, grid_of
from tests.analysis.viewer.reading import SLOW, Browser, attempts_on

SECRET = "not for anyone"
CROSS_JOIN = "(select count(*) from range(1000000) a, range(1000000) b) > 0"


@pytest.fixture
def place(tmp_path):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0])
    for case in built.case_ids:
        built.episode(built.cells[0], case, 0, success_turn=1 if case == "u1" else None)
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "sweepy").mkdir()  # its name starts like the folder's
    (tmp_path / "sweepy" / "secret.csv").write_text(SECRET)
    return built.write(tmp_path / "sweep").parent


def hostile(place) -> list[str]:
    """Tables and values that are none of the sweep's; as part of a SELECT."""
    secret, inside = place / "secret.txt", place / "sweep"
    return [
        f"(select content from read_text('{secret}'))",
        f"(select content from read_blob('{inside}/../secret.txt')) is not null",
        f"(select count(*) from read_csv('{place}/sweepy/secret.csv')) >= 0",
        f"(select count(*) from '{place}/sweepy/secret.csv') >= 0",
        f"(select count(*) from glob('{place}/*')) >= 0",
        f"(select count(*) from glob('{inside}/../*')) >= 0",
        f"(select count(*) from read_parquet('{inside}/../*')) >= 0",
        "getenv('HOME') is not null",
        "(select count(*) from duckdb_secrets()) >= 0",
        "(select count(*) from query('select 1')) >= 0",
        "(select count(*) from sniff_csv('/etc/passwd')) >= 0",
        f"exists (with a as (copy (select 1) to '{inside}/x.csv') select 1)",
        "exists (with a as (delete from cells returning *) select 1 from a)",
        f"true; copy (select 1) to '{inside}/x.csv'",
        f"true); attach '{place}/other.db'; select (1",
        "true); set memory_limit = '100GB'; select (1",
        "true) union select attempt_id from episodes where (true",
        "true) -- ",
        "",
    ]


def untouched(place) -> bool:
    there = {path.name for path in place.rglob("*") if path.suffix in (".csv", ".db", ".txt")}
    return there == {"secret.txt", "secret.csv"}


def test_sql_at_the_command_line_gets_nothing_from_elsewhere(place, crsweep):
    results = Results.open(place / "sweep")
    results.confine("256MB")
    for text in hostile(place):
        with pytest.raises(UsageError, match="SQL: ") as refused:
            results.select(f"select 1 from episodes where {text}")
        assert SECRET not in str(refused.value)
    for text in (
        f"attach '{place}/other.db'",
        "set memory_limit = '100GB'",
        "install httpfs",
        "pragma database_list",
        "create table t (a int)",
        "drop view episodes",
        "select 1; select 2",
        "call pragma_version()",
        f"explain analyze copy (select 1) to '{place}/sweep/x.csv'",
        "",
    ):
        with pytest.raises(UsageError, match="SQL: "):
            results.select(text)
    done = crsweep("sql", place / "sweep", f"copy episodes to '{place}/x.csv'", check=2)
    assert done.stderr == "error: SQL: expected one query that only reads (SELECT)\n"
    done = crsweep("sql", place / "sweep", f"select {CROSS_JOIN}", "--timeout", "0.3", check=2)
    assert "took longer than 0.3 s (raise it with --timeout)" in done.stderr
    assert untouched(place)


def test_without_the_parser_the_connection_still_opens_no_file_elsewhere(place):
    results = Results.open(place / "sweep")
    results.confine("256MB")
    secret = place / "secret.txt"
    for text in (
        f"select content from read_text('{secret}')",
        f"select content from read_text('{place}/sweep/../secret.txt')",
        f"select * from read_csv('{place}/sweepy/secret.csv')",
        f"select * from glob('{place}/sweep/../*')",
        f"copy (select 1) to '{place}/x.csv'",
        f"with a as (copy (select 1) to '{place}/x.csv') select 1",
        f"attach '{place}/other.db'",
        "install httpfs",
        "load httpfs",
        "set memory_limit = '100GB'",
        "set enable_external_access = true",
        "reset allowed_directories",
    ):
        with pytest.raises(duckdb.Error) as refused:
            results.db.cursor().execute(text).fetchall()
        assert SECRET not in str(refused.value)
    assert untouched(place)
    assert len(results.select("select * from episodes")[1]) == 4


def test_conditions_in_the_viewer_get_nothing_from_elsewhere(place):
    browser = Browser(place / "sweep")
    results = Results.open(place / "sweep")
    results.confine("256MB")
    for text in hostile(place):
        with pytest.raises(UsageError, match="SQL: "):
            conditions.chosen(results, text)
    text = f"(select content from read_text('{place}/secret.txt')) is not null"
    page = browser.get("/episodes", expected=400, where=text)
    assert "the table function 'read_text' is not allowed" in page.text
    found = browser.get("/episodes", where="success and case_id <> 'u0' -- the only one")
    assert attempts_on(found) == ["a/s-u1-0-0"]
    assert untouched(place)


def test_a_condition_that_never_ends_is_ended(place):
    browser = Browser(place / "sweep", seconds=0.5)
    page = browser.get("/episodes", expected=400, where=CROSS_JOIN)
    assert "took longer than 0.5 s" in page.text
    assert CROSS_JOIN in page.text  # to be corrected


def test_a_condition_ends_with_the_page_that_asked_for_it(place):
    asked = iter([False, False, True])
    with pytest.raises(UsageError, match="the page was left"):
        conditions.matching(
            str(place / "sweep"), CROSS_JOIN, seconds=SLOW, cancelled=lambda: next(asked)
        )


def test_memory_is_limited_for_values_that_duckdb_does_not_count(place):
    text = (
        "length(list_transform(range(64), "
        "lambda x: repeat(repeat('x', 10000), 10000 + x::int))::varchar) > 0"
    )
    with pytest.raises(UsageError, match=r"[Mm]emory"):
        conditions.matching(str(place / "sweep"), text, seconds=SLOW, cancelled=lambda: False)


def test_a_damaged_part_is_named(place):
    part = next((place / "sweep" / "episodes").iterdir())
    part.write_bytes(b"PAR1 no longer")
    with pytest.raises(StoreError, match=part.name):
        conditions.matching(str(place / "sweep"), "true", seconds=SLOW, cancelled=lambda: False)


def test_the_time_of_a_query_is_limited(place):
    results = Results.open(place / "sweep")
    with (
        pytest.raises(UsageError, match=r"took longer than 0\.2 s"),
        sandbox.limited(results.db, 0.2),
    ):
        results.select(f"select {CROSS_JOIN}")
    with sandbox.limited(results.db, SLOW):
        assert results.select("select 1") == (["1"], [("1",)])


ALLOWED = [
    "explain select 1",
    "explain (select 1)",
    "explain analyze select count(*) from episodes",
    "explain (format json) select 1",
    "describe episodes",
    "summarize cells",
    "show tables",
    "from cells",
    "values (1)",
    "select 1 union all select 2",
    "with recursive t(n) as (values (1) union all select n + 1 from t where n < 5) from t",
    "select a.cell from cells a positional join cells b",
    "from episodes tablesample 10%",
    "select unnest([1, 2]), x from range(2) r(x)",
    "select key from turns, json_each(turns.extra)",
    "select sum(turns) over (partition by cell) from episodes qualify row_number() over () = 1",
    "select columns('.*_tokens') from episodes limit 10%",
]


def test_queries_that_read_are_allowed(place):
    results = Results.open(place / "sweep")
    results.confine("256MB")
    for text in ALLOWED:
        results.select(text)
