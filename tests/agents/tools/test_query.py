"""The SQL tool gives ids of the catalogue's items, and nothing else whatever it is asked."""

import asyncio
import gc
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.items import Catalogue, Item
from agents.core.tables import schema_text
from agents.tools import query
from agents.tools.query import LONGEST_QUERY, CatalogueQuery, QueryRefused
from tests.conftest import LAST_GUARD_SECONDS
from tests.fakes import CATALOGUE

TOOL = CatalogueQuery(CATALOGUE)
SECRET = "the value of a variable of the process"


def select(sql, tool=TOOL):
    return asyncio.run(tool.select(sql))


def assert_unharmed(sql, tool):
    """After `sql`; the text is one that was not asked for before, since answers are remembered."""
    found = select(f"SELECT item_id FROM items WHERE true -- after {HOSTILE.index(sql)}", tool)
    assert found == ("1", "2", "3", "4", "5")
    assert not any(Path("/tmp", name).exists() for name in ("stolen", "stolen.csv", "other.db"))


def refused(sql, tool=TOOL) -> str:
    found = select(sql, tool)
    assert isinstance(found, QueryRefused), found
    assert 0 < len(found.reason) <= 200
    assert "\n" not in found.reason
    return found.reason


@pytest.mark.parametrize(
    ("sql", "ids"),
    [
        ("SELECT item_id FROM items", ("1", "2", "3", "4", "5")),
        ("select item_id from items where list_contains(genre, 'Action');", ("2", "4")),
        ("SELECT item_id FROM items WHERE 'Action' = ANY(genre) AND decade = '1990s'", ("2",)),
        ("SELECT item_id FROM items WHERE 'Action' IN genre ORDER BY title DESC", ("2", "4")),
        ("SELECT item_id FROM items WHERE list_has_any(genre, ['Drama', 'Comedy'])", ("1", "5")),
        ("SELECT item_id FROM items WHERE title ILIKE '%amelie%' OR title LIKE 'Alien%' LIMIT 1",
         ("3",)),
        ("SELECT item_id FROM items, unnest(genre) AS g(name) WHERE name ILIKE 'thr%'", ("2",)),
        ("SELECT DISTINCT i.item_id FROM items i WHERE EXISTS (SELECT 1 FROM unnest(i.genre) "
         "AS t(g) WHERE lower(g) = 'horror')", ("3",)),
        ("WITH old AS (SELECT * FROM items WHERE decade < '1980s') SELECT item_id FROM old",
         ("1", "3")),
        ("SELECT item_id FROM items WHERE len(list_filter(genre, lambda x: x = 'Drama')) = 1",
         ("1",)),
        ("SELECT item_id FROM items WHERE genre::VARCHAR LIKE '%Romance%'", ("5",)),
        ("SELECT item_id FROM items WHERE array_to_string(genre, ' ') ILIKE '%thriller%'", ("2",)),
        ("SELECT item_id FROM items WHERE decade BETWEEN '1980s' AND '1990s' "
         "EXCEPT SELECT item_id FROM items WHERE decade = '1990s'", ("4",)),
        ("SELECT item_id FROM items WHERE title = 'x' -- nothing; DROP TABLE items", ()),
        ("SELECT item_id FROM main.items WHERE decade IN ('2000s') /* ; */", ("5",)),
    ],
)  # fmt: skip
def test_a_select_of_item_ids_gives_them_once_each_in_order(sql, ids):
    found = select(sql)
    assert found == ids if "ORDER" in sql or "EXCEPT" not in sql else set(found) == set(ids)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT title FROM items", "not an item_id"),
        ("SELECT item_id, title FROM items", "one column"),
        ("SELECT * FROM items", "one column"),
        ("SELECT count(*) FROM items", "one column"),
        ("SELECT 'no such item'", "not an item_id"),
        ("SELECT NULL::VARCHAR", "not an item_id"),
        ("", "one SELECT"),
        (";", "one SELECT"),
        ("nothing", "syntax error"),
        ("SELECT item_id FROM items WHERE", "syntax error"),
        ("SELECT item_id FROM items WHERE genres = 'x'", "genre"),
        ("SELECT item_id FROM items WHERE genre LIKE 3", "match"),
        ("SELECT item_id FROM items; SELECT item_id FROM items", "one SELECT"),
        ("SELECT item_id FROM items /* */; -- \nDROP TABLE items", "one SELECT"),
        ("SELECT item_id FROM films", "only table is items"),
        ("SELECT $1", "PARAMETER"),
    ],
)
def test_other_results_are_refused_with_a_reason(sql, reason):
    assert reason in refused(sql)


HOSTILE = (
    # writes
    "INSERT INTO items (item_id) VALUES ('9')",
    "WITH a AS (INSERT INTO items (item_id) VALUES ('9') RETURNING item_id) SELECT item_id FROM a",
    "WITH a AS (DELETE FROM items RETURNING item_id) SELECT item_id FROM a",
    "UPDATE items SET title = 'x'", "DELETE FROM items", "DROP TABLE items", "TRUNCATE items",
    "CREATE TABLE x AS SELECT 1", "CREATE VIEW x AS SELECT 1", "CREATE MACRO f() AS 1",
    "CREATE OR REPLACE TEMP TABLE items AS SELECT 1", "ALTER TABLE items ADD COLUMN x INT",
    "INSERT INTO information_schema.tables VALUES (1)", "CREATE SECRET s (TYPE s3)",
    "MERGE INTO items USING items i ON items.item_id = i.item_id WHEN MATCHED THEN DELETE",
    "BEGIN", "COMMIT", "ROLLBACK", "VACUUM", "CHECKPOINT",
    # files and network
    "SELECT content FROM read_text('/etc/passwd')", "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')", "SELECT file FROM glob('/*')",
    "SELECT * FROM '/etc/passwd'", 'SELECT * FROM "/etc/passwd"',
    "SELECT * FROM read_parquet('s3://bucket/key')", "SELECT * FROM 'https://example.com/a.csv'",
    "SELECT item_id FROM items UNION SELECT content FROM read_text('/etc/passwd')",
    "SELECT item_id FROM items WHERE title = (SELECT content FROM read_text('/etc/passwd'))",
    "COPY items TO '/tmp/stolen.csv'", "COPY items FROM '/etc/passwd'",
    "EXPORT DATABASE '/tmp/stolen'", "IMPORT DATABASE '/tmp/stolen'",
    "ATTACH '/tmp/other.db'", "ATTACH ':memory:' AS other", "DETACH memory", "USE memory",
    "INSTALL httpfs", "LOAD httpfs", "FORCE INSTALL httpfs", "LOAD '/tmp/x.duckdb_extension'",
    # settings, and what the process holds
    "SELECT getenv('HOME')", "SELECT current_setting('memory_limit')", "SELECT getvariable('x')",
    "SELECT name FROM duckdb_settings()", "SELECT * FROM duckdb_secrets()",
    "SELECT which_secret('s3://x', 's3')", "SELECT table_name FROM information_schema.tables",
    "SELECT name FROM sqlite_master", "SELECT * FROM duckdb_tables()", "SELECT version()",
    "SELECT path FROM pragma_database_list", "PRAGMA database_list", "PRAGMA version",
    "CALL pragma_version()", "SET memory_limit = '9GB'", "SET lock_configuration = false",
    "RESET memory_limit", "SET VARIABLE x = 1", "SELECT current_user", "SELECT USER",
    "SELECT * FROM SECRET", "SELECT * FROM leaked", "SELECT nextval('s')",
    "SELECT query FROM query('SELECT 1')", "SELECT * FROM query_table('items')",
    "SELECT json_execute_serialized_sql('')", "SELECT write_log('x')", "SELECT now()::VARCHAR",
    "SELECT item_id FROM items ORDER BY random()", "SELECT uuid()::VARCHAR",
    "SELECT item_id FROM items USING SAMPLE 3", "SELECT item_id FROM items TABLESAMPLE 10%",
    "DESCRIBE items", "SHOW TABLES", "SUMMARIZE items", "EXPLAIN SELECT item_id FROM items",
    "EXPLAIN ANALYZE SELECT item_id FROM items", "PREPARE x AS SELECT 1", "EXECUTE x",
    "PIVOT items ON decade", "SELECT item_id FROM memory.information_schema.items",
    "SELECT item_id FROM other.main.items", "SELECT add('1', '2')",
    # too much
    "WITH RECURSIVE a AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM a) SELECT x::VARCHAR FROM a",
    "SELECT repeat('x', 4000000000)", "SELECT x FROM range(100000000000) t(x)",
    "SELECT generate_series(1, 100000000000)::VARCHAR",
    "SELECT [[item_id], [item_id]]::VARCHAR FROM items",
    "SELECT item_id FROM items WHERE " + "title = 'x' OR " * 1000 + "true",
    "SELECT " + "(" * 900 + "1" + ")" * 900,
    "SELECT item_id FROM items WHERE " + "NOT " * 450 + "true",
    "SELECT item_id FROM items WHERE 1" + "+1" * 900 + " = 0",
    "SELECT item_id FROM items WHERE genre" + "[1]" * 600 + " = 'a'",
    "SELECT item_id FROM items WHERE " + "[" * 900 + "1" + "]" * 900 + " IS NULL",
    "SELECT i0.item_id FROM items i0" + "".join(f", items i{n}" for n in range(1, 120)),
    "SELECT '\ud800'", "SELECT item_id\0FROM items", "\x1b[2J",
)  # fmt: skip


@pytest.mark.parametrize("sql", HOSTILE)
def test_hostile_queries_are_refused_and_change_nothing(sql, monkeypatch):
    monkeypatch.setenv("SECRET", SECRET)
    leaked = [SECRET]  # noqa: F841 - a query must not find our variables
    if sql.endswith(" true"):  # not hostile, merely odd: it may pass
        assert select(sql) in (("1", "2", "3", "4", "5"),) or refused(sql)
    else:
        reason = refused(sql)
        assert SECRET not in reason
        assert "root:" not in reason
        assert os.environ["HOME"] not in reason
    assert_unharmed(sql, TOOL)


@pytest.fixture(scope="module")
def open_tool():
    """One for all queries: what one of them harms, the next ones find."""
    return CatalogueQuery(CATALOGUE, seconds=0.3)


@pytest.mark.parametrize("sql", [sql for sql in HOSTILE if "repeat" not in sql])
def test_the_database_alone_keeps_a_query_from_the_machine(sql, open_tool, monkeypatch):
    """The second wall, without the first: what is not refused by DuckDB shows the catalogue or
    DuckDB's own state, and nothing of files, variables or environment."""
    monkeypatch.setattr(query, "_why_not", lambda cursor, sql: "")
    monkeypatch.setenv("SECRET", SECRET)
    leaked = [SECRET]  # noqa: F841
    try:
        found = select(sql, open_tool)
    except (RuntimeError, UnicodeEncodeError):
        assert "\ud800" in sql  # why the first wall looks at characters
        return
    assert isinstance(found, QueryRefused) or set(found) <= set("12345")
    assert_unharmed(sql, open_tool)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        # Each took from 6 to 92 seconds over 8,678 products, and one of them 1.9 GB.
        *(
            (f"SELECT item_id FROM items ORDER BY {name}(title, lower(title))", f"'{name}'")
            for name in ("levenshtein", "damerau_levenshtein", "jaccard", "jaro_similarity")
        ),
        (
            "SELECT item_id FROM items WHERE len(list_transform(genre, lambda x: "
            "array_to_string(list_transform(genre, lambda y: x), ''))) = 3",
            "a lambda must not contain another lambda",
        ),
    ],
)
def test_what_an_interrupt_does_not_stop_is_refused(sql, reason):
    found = select(sql)
    assert isinstance(found, QueryRefused)
    assert reason in found.reason


BIG = Catalogue([Item(str(i), f"Film {i}") for i in range(3000)], noun="film")
ENDLESS = (
    "SELECT max(a.item_id) FROM items a, items b, items c WHERE "
    "strpos(a.title, b.title) + strpos(b.title, c.title) = 77"
)
RECURSIVE = (
    "WITH RECURSIVE a AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM a) "
    "SELECT max(x)::VARCHAR FROM a"
)


@pytest.mark.parametrize(("sql", "wall"), [(ENDLESS, True), (ENDLESS, False), (RECURSIVE, False)])
def test_an_endless_query_is_interrupted_without_blocking_the_event_loop(sql, wall, monkeypatch):
    if not wall:
        monkeypatch.setattr(query, "_why_not", lambda cursor, sql: "")
    ticked = threading.Event()

    class Timer(threading.Timer):
        """Its time is not up before the event loop has ticked."""

        def __init__(self, seconds, interrupt):
            super().__init__(seconds, lambda: ticked.wait() and interrupt())

    monkeypatch.setattr(query.threading, "Timer", Timer)
    tool = CatalogueQuery(BIG, seconds=0.4)

    async def both():
        running = asyncio.create_task(tool.select(sql))
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not running.done()
        ticked.set()
        return await running

    found = asyncio.run(both())
    assert found == QueryRefused("it ran longer than 0.4 seconds and was stopped")
    assert select("SELECT item_id FROM items LIMIT 2", tool) == ("0", "1")
    assert not [t for t in threading.enumerate() if isinstance(t, Timer)]


def test_a_query_that_wants_much_memory_is_refused():
    sql = "SELECT a.item_id FROM items a, items b, items c ORDER BY a.title, b.title, c.title"
    reason = refused(sql, CatalogueQuery(BIG, seconds=LAST_GUARD_SECONDS))
    assert reason == "it needs more memory than a query may use"


def test_a_result_of_too_many_rows_is_refused():
    tool = CatalogueQuery(BIG, seconds=LAST_GUARD_SECONDS)
    assert "rows" in refused("SELECT a.item_id FROM items a, items b", tool)


def test_equal_text_runs_once_also_when_asked_for_at_once_and_cancelled(monkeypatch):
    ran = []
    whole = CatalogueQuery._run
    begun, asked = threading.Event(), threading.Event()

    def counted(self, cursor, sql):
        ran.append(sql)
        begun.set()
        asked.wait()
        return whole(self, cursor, sql)

    monkeypatch.setattr(CatalogueQuery, "_run", counted)
    tool = CatalogueQuery(CATALOGUE, seconds=LAST_GUARD_SECONDS)
    sql = "SELECT item_id FROM items WHERE decade = '1990s'"

    async def three():
        first = asyncio.create_task(tool.select(sql))
        while not begun.is_set():  # noqa: ASYNC110  (set by a thread)
            await asyncio.sleep(0.001)
        first.cancel()
        others = [asyncio.create_task(tool.select(sql)) for _ in range(2)]
        await asyncio.sleep(0)  # both have asked
        asked.set()
        return await asyncio.gather(*others)

    assert asyncio.run(three()) == [("2",), ("2",)]
    assert select(sql, tool) == ("2",)
    assert ran == [sql]


def test_results_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(query, "_MOST_CACHED", 3)
    tool = CatalogueQuery(CATALOGUE)
    for limit in range(8):
        assert len(select(f"SELECT item_id FROM items LIMIT {limit}", tool)) == min(limit, 5)
    assert len(tool._results) == 3


def test_a_catalogue_has_one_tool_in_a_process_which_goes_with_it():
    catalogue = Catalogue([Item("1", "One")], noun="film")
    assert CatalogueQuery.of(catalogue) is CatalogueQuery.of(catalogue)
    kept = len(query._TOOLS._made)
    del catalogue
    gc.collect()
    assert len(query._TOOLS._made) == kept - 1


def test_the_schema_names_columns_types_and_example_values():
    assert schema_text(TOOL.table).splitlines() == [
        "Table items, one row per item:",
        "- item_id VARCHAR",
        "- title VARCHAR",
        "- genre VARCHAR[]; values: Action | Drama | Thriller | Horror | Comedy | Romance",
        "- decade VARCHAR; values: 1970s | 1990s | 1980s | 2000s",
    ]


def test_a_column_of_many_values_shows_the_commonest():
    items = [Item(str(i), f"Film {i}", {"tag": (f"t{i % 40}", "all")}) for i in range(90)]
    column = CatalogueQuery(Catalogue(items, noun="film")).table.columns[2]
    assert (column.name, column.type, column.distinct, len(column.values)) == (
        "tag", "VARCHAR[]", 41, 20)  # fmt: skip
    assert column.values[0] == "all"
    assert "some of its values: all | t0" in schema_text(TOOL.table.__class__("items", (column,)))


def test_odd_items_become_a_table_that_can_be_queried():
    odd = (
        Item("1", "'; DROP TABLE items; --", {"select": ("a'b",), "Release Date": ("x" * 10_000,)}),
        Item("2", "{{ 7 * 7 }} <b>\ud800", {"user": ("y",), "item_id": ("z",), "1st!": ("q",)}),
        Item("3", "t" * 10_000, {"": ("e",), "title": ("f",), "TITLE": ("g",)}, "d" * 10_000, 3.5),
    )
    tool = CatalogueQuery(Catalogue(odd, noun="thing"))
    names = [column.name for column in tool.table.columns]
    assert len(names) == len(set(names)) == 12
    assert max(map(len, schema_text(tool.table).splitlines())) < 200
    for name in names:
        assert len(select(f"SELECT item_id FROM items WHERE {name} IS NOT NULL", tool)) >= 1
    assert select("SELECT item_id FROM items WHERE select_ = 'a''b'", tool) == ("1",)
    assert select("SELECT item_id FROM items WHERE price > 3", tool) == ("3",)
    assert select("SELECT item_id FROM items WHERE title LIKE '%DROP TABLE%'", tool) == ("1",)
    assert select("SELECT item_id FROM items WHERE len(title) > 1000", tool) == ()


@settings(max_examples=150)
@given(st.text(max_size=LONGEST_QUERY + 50) | st.sampled_from(HOSTILE).map(lambda s: s[:-1]))
def test_any_text_gives_ids_or_a_reason(sql):
    found = select(sql)
    if isinstance(found, QueryRefused):
        assert len(found.reason) <= 200
    else:
        assert set(found) <= set("12345")
