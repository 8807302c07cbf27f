"""The SQL query tool: one SELECT over the catalogue, and nothing else.

InteRecAgent (Huang et al. 2023) and MACRec narrow the items by SQL that a model writes (AF-IRS,
sections 5.1.5 and 5.4.2). A model's SQL is untrusted text, so it has to pass three barriers:

1. DuckDB parses it, and only what is on a list passes: one SELECT that reads the table `items`
   with functions that look at values. What is not on the list is refused, known or not. Functions
   that make long values are not: `repeat('x', 4000000000)` takes a minute and 4 GB of memory,
   whatever the limits of DuckDB (2.0) and its interrupt. Nor are distances of texts, which take
   seconds for the 2,048 rows between two looks at the interrupt, nor lambdas within lambdas.
2. It runs in a database that holds the catalogue alone, in a read-only transaction, with no
   access to files, network, extensions, settings or variables of this process.
3. Time, memory, rows and the length of the text are bounded; a query that runs on is interrupted.

What is refused is an answer (`QueryRefused`), with a reason to show to the model, never an error.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa

from agents.core.items import Catalogue, Item
from agents.core.per_object import PerObject
from agents.core.syntax_trees import syntax_nodes
from agents.core.tables import CatalogueTable, Column, column_of

LONGEST_QUERY = 2000
"""Characters; a longer query is refused."""

_SECONDS = 2.0  # an honest query over a catalogue takes milliseconds
_LONGEST_TEXT = 1000  # characters of a text in the table: what a row costs is bounded
_LONGEST_REASON = 200
_MOST_ROWS = 200_000  # read from one result, ids named twice included
_MOST_TABLES = 12  # in one query: planning how to join many takes long, and cannot be interrupted
_MOST_CACHED = 4096
_RESERVED = ("item_id", "title", "description", "price")

# Tables and parts of a SELECT, kinds of expression, and functions that a query may use.
_NODE_NAMES = (
    "SELECT_NODE SET_OPERATION_NODE CTE_NODE BASE_TABLE JOIN SUBQUERY EMPTY EXPRESSION_LIST "
    "TABLE_FUNCTION ORDER_MODIFIER LIMIT_MODIFIER DISTINCT_MODIFIER ASCENDING DESCENDING "
    "ORDER_DEFAULT"
)
_EXPRESSION_NAMES = (
    "COLUMN_REF CONSTANT FUNCTION OPERATOR COMPARISON CONJUNCTION BETWEEN CASE CAST TYPE STAR "
    "SUBQUERY LAMBDA"
)
_FUNCTION_NAMES = (
    "~~ !~~ ~~* !~~* ~~~ ^@ + - * / // % abs round floor ceil ceiling greatest least "
    "lower upper lcase ucase trim ltrim rtrim length len strlen contains starts_with prefix "
    "ends_with suffix strpos instr position substr substring left right "
    "regexp_matches regexp_full_match "
    "list_contains list_has array_contains array_has list_has_any array_has_any list_has_all "
    "array_has_all list_position list_indexof array_position array_length list_value "
    "array_extract list_extract list_filter array_filter list_transform array_transform "
    "array_to_string unnest count count_star min max sum avg any_value first bool_or "
    "bool_and"
)
# Words that SQL turns into function calls where no column has that name.
_VALUE_FUNCTION_NAMES = (
    "current_catalog current_database current_date current_role current_schema current_time "
    "current_timestamp current_user localtime localtimestamp session_user user"
)
_NODES = frozenset(_NODE_NAMES.split())
_EXPRESSIONS = frozenset(_EXPRESSION_NAMES.split())
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_VALUE_FUNCTIONS = frozenset(_VALUE_FUNCTION_NAMES.split())
_SETTINGS = {
    "threads": 1,
    "memory_limit": "256MB",
    "temp_directory": "",
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,  # else a table's name may mean a variable of ours
}

# Two, so that one query that runs into its limit does not hold up all others.
_POOL = ThreadPoolExecutor(2, thread_name_prefix="query")


@dataclass(frozen=True, slots=True)
class QueryRefused:
    """Why there is no result: one line, to show to the model."""

    reason: str


class CatalogueQuery:
    """Runs a model's SELECTs over one catalogue. Safe to share by episodes and threads.

    The table `items` has a row an item: `item_id`, `title`, a column an attribute (VARCHAR[] if an
    item has several values of it), and `description` and `price` where the catalogue has any.
    `table` describes it for prompts (`{{ table | schema }}`).
    """

    def __init__(self, catalogue: Catalogue, *, seconds: float = _SECONDS) -> None:
        self._ids = frozenset(item.id for item in catalogue.items)
        self._seconds = seconds
        self._results: OrderedDict[str, Future[tuple[str, ...] | QueryRefused]] = OrderedDict()
        names = _column_names(catalogue.attributes)
        columns, data = _columns_of(catalogue.items, names)
        self.table = CatalogueTable("items", columns)
        self._db = duckdb.connect(":memory:", config=_SETTINGS)
        self._db.register("given", data)
        self._db.execute("CREATE TABLE items AS SELECT * FROM given")
        self._db.unregister("given")
        self._db.execute("SET enable_external_access = false")
        self._db.execute("SET lock_configuration = true")

    @staticmethod
    def of(catalogue: Catalogue) -> CatalogueQuery:
        """The one tool over `catalogue` in this process."""
        return _TOOLS.of(catalogue)

    async def select(self, sql: str) -> tuple[str, ...] | QueryRefused:
        """Ids of the items that `sql` selects, each once, in the order of the result.

        Runs in a thread. Equal text is run once; what it came to, a time-out too, is remembered.
        """
        running = self._results.get(sql)
        if running is None:
            running = self._results[sql] = _POOL.submit(self._select, sql)
            if len(self._results) > _MOST_CACHED:
                self._results.popitem(last=False)
        self._results.move_to_end(sql)
        # Shielded: an episode that is cancelled must not cancel what others wait for.
        return await asyncio.shield(asyncio.wrap_future(running))

    def _select(self, sql: str) -> tuple[str, ...] | QueryRefused:
        try:
            with self._cursor() as cursor:
                reason = _why_not(cursor, sql)
                return QueryRefused(reason) if reason else self._run(cursor, sql)
        except duckdb.InterruptException:
            return QueryRefused(f"it ran longer than {self._seconds:g} seconds and was stopped")
        except duckdb.OutOfMemoryException:
            return QueryRefused("it needs more memory than a query may use")
        except duckdb.Error as error:
            return QueryRefused(_one_line(str(error)))

    def _run(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> tuple[str, ...] | QueryRefused:
        cursor.execute(sql)
        columns = cursor.description or []
        if len(columns) != 1 or str(columns[0][1]) not in ("VARCHAR", "STRING"):
            return QueryRefused("it must return one column, item_id, and nothing else")
        rows = cursor.fetchmany(_MOST_ROWS + 1)
        if len(rows) > _MOST_ROWS:
            return QueryRefused(f"it returned more than {_MOST_ROWS} rows")
        ids = tuple(dict.fromkeys(row[0] for row in rows))
        if not self._ids.issuperset(ids):
            return QueryRefused(
                "its column contains values that are not an item_id of the table items"
            )
        return ids

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own, in a read-only transaction, interrupted when time is up."""
        cursor = self._db.cursor()
        timer = threading.Timer(self._seconds, cursor.interrupt)
        timer.start()
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield cursor
        finally:
            timer.cancel()
            timer.join()  # or it might interrupt what is closed
            cursor.close()


_TOOLS = PerObject(CatalogueQuery)


def _why_not(cursor: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Why `sql` may not run; an empty string where it may. Raises what DuckDB says of bad SQL."""
    if len(sql) > LONGEST_QUERY:
        return f"it is longer than {LONGEST_QUERY} characters"
    if not all(c.isprintable() or c in "\n\r\t" for c in sql):
        return "it contains characters that cannot be printed"
    statements = cursor.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        return "only one SELECT statement is allowed"
    parsed = cursor.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    try:
        tree = json.loads(parsed[0]) if parsed else {"error": True}
    except RecursionError:
        return "it is nested too deeply"
    if tree["error"]:
        return "only one plain SELECT statement is allowed"
    nodes = list(syntax_nodes(tree["statements"]))
    if sum(node.get("type") in ("BASE_TABLE", "TABLE_FUNCTION") for node in nodes) > _MOST_TABLES:
        return f"it names more than {_MOST_TABLES} tables"
    own = {name.lower() for node in nodes for name in _named_here(node)}
    return next((reason for node in nodes if (reason := _refusal(node, own))), "")


def _named_here(node: dict[str, Any]) -> Iterator[str]:
    """Names that a WITH gives to its queries."""
    ctes = node.get("cte_map")
    if isinstance(ctes, dict):
        yield from (entry["key"] for entry in ctes.get("map", ()))


def _refusal(node: dict[str, Any], own: set[str]) -> str:
    """Why a part of the syntax tree may not run; an empty string where it may."""
    kind, part = node.get("class"), node.get("type")
    if isinstance(kind, str):
        return _expression_refusal(node, kind)
    if not isinstance(part, str):
        return ""
    if part == "RECURSIVE_CTE_NODE":
        return "recursive queries are not allowed"
    if part not in _NODES or node.get("sample") is not None:
        return f"{part.removesuffix('_NODE')} is not allowed here"
    if part == "BASE_TABLE":
        name, where = node["table_name"], node.get("schema_name", "")
        if where not in ("", "main") or name.lower() not in {"items", *own}:
            return f"there is no table {_short(name)}; the only table is items"
    if part == "TABLE_FUNCTION" and node["function"].get("function_name") != "unnest":
        return f"the table function {_short(node['function'].get('function_name'))} is not allowed"
    return ""


def _expression_refusal(node: dict[str, Any], kind: str) -> str:
    if kind not in _EXPRESSIONS:
        return f"{kind} expressions are not allowed"
    if kind == "FUNCTION":
        name = str(node.get("function_name")).lower()
        if name not in _FUNCTIONS:
            return f"the function {_short(name)} is not allowed"
        # Lists of lists of lists: a short query could make a long value.
        held = (below.get("class", "CONSTANT") for below in syntax_nodes(list(node.values())))
        if name == "list_value" and any(kind != "CONSTANT" for kind in held):
            return "lists may contain only constants"
    if kind == "LAMBDA" and any(b.get("class") == kind for b in syntax_nodes(list(node.values()))):
        return "a lambda must not contain another lambda"
    if kind == "COLUMN_REF" and node["column_names"][-1].lower() in _VALUE_FUNCTIONS:
        return f"{_short(node['column_names'][-1])} is not allowed"
    return ""


def _short(name: Any) -> str:
    return repr(str(name)[:40])


def _one_line(message: str) -> str:
    """What DuckDB says, without its drawing of the place."""
    said = message.split("\n\nLINE ")[0]
    return " ".join(said.split())[:_LONGEST_REASON]


def _column_names(attributes: Sequence[str]) -> dict[str, str]:
    """A safe and distinct column name for each attribute, unquoted in SQL."""
    taken: set[str] = set(_RESERVED)
    names: dict[str, str] = {}
    for attribute in attributes:
        stem = re.sub(r"[^a-z0-9]+", "_", attribute.lower()).strip("_")[:40]
        stem = stem if stem and not stem[0].isdigit() else f"a_{stem}".rstrip("_")
        name = f"{stem}_" if stem in _keywords() else stem
        number = 2
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(name)
        names[attribute] = name
    return names


@cache
def _keywords() -> frozenset[str]:
    """Words that cannot be a column's name, or would not mean the column."""
    with duckdb.connect(":memory:", config={"threads": 1}) as db:
        rows = db.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category != 'unreserved'"
        ).fetchall()
    return _VALUE_FUNCTIONS.union(row[0] for row in rows)


def _columns_of(
    items: Sequence[Item], names: dict[str, str]
) -> tuple[tuple[Column, ...], pa.Table]:
    """The table of `items`, described and as data."""
    columns = [Column("item_id", "VARCHAR"), Column("title", "VARCHAR")]
    data = [
        pa.array([_storable(i.id, None) for i in items], pa.string()),
        pa.array([_storable(i.title) for i in items], pa.string()),
    ]
    for attribute, name in names.items():
        rows = [[_storable(v) for v in i.attributes.get(attribute, ())] for i in items]
        several = any(len(values) > 1 for values in rows)
        columns.append(column_of(name, "VARCHAR[]" if several else "VARCHAR", rows))
        data.append(
            pa.array(rows, pa.list_(pa.string()))
            if several
            else pa.array([values[0] if values else None for values in rows], pa.string())
        )
    if any(item.description for item in items):
        columns.append(Column("description", "VARCHAR"))
        data.append(pa.array([_storable(i.description) for i in items], pa.string()))
    if any(item.price is not None for item in items):
        columns.append(Column("price", "DOUBLE"))
        data.append(pa.array([i.price for i in items], pa.float64()))
    return tuple(columns), pa.table(data, names=[column.name for column in columns])


def _storable(text: str, longest: int | None = _LONGEST_TEXT) -> str:
    return text[:longest].encode("utf-8", "replace").decode()
