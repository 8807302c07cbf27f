"""Runs SQL that a person typed, with access only to the results of one sweep.

1. DuckDB parses it, and only a single SELECT passes. Its statement type is not enough: DuckDB 2.0
   counts `WITH a AS (COPY ... TO 'file') SELECT 1` as a SELECT, so the syntax tree is checked too.
2. The connection opens files only in the sweep's folder, loads no extension, writes no temporary
   file, and has a memory limit, and none of that can be changed.
3. A timer interrupts it. DuckDB checks for interrupts every 2,048 rows, and one value may take
   long: if that must not block others, the query runs in a process that can be killed.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from agents.core.errors import UsageError
from agents.core.syntax_trees import syntax_nodes
from sweeps.storage.folder import PATTERNS, Folder, LocalFolder

SECONDS = 10.0
"""The default time limit of a query."""

_NODE_NAMES = (
    "SELECT_NODE SET_OPERATION_NODE RECURSIVE_CTE_NODE CTE_NODE BASE_TABLE JOIN SUBQUERY EMPTY "
    "EXPRESSION_LIST TABLE_FUNCTION COLUMN_DATA PIVOT SHOW_REF"
)
_NODES = frozenset(_NODE_NAMES.split())
# Table functions that open files are left out: the views are all that there is to read.
_TABLE_FUNCTION_NAMES = "unnest range generate_series json_each json_tree regexp_split_to_table"
_TABLE_FUNCTIONS = frozenset(_TABLE_FUNCTION_NAMES.split())


def confine(db: duckdb.DuckDBPyConnection, folder: Folder, memory: str) -> None:
    """Locks a connection: only files in `folder`, at most `memory` (`512MB`), no extensions.

    Create views that read local files, registered tables and settings before.
    """
    directories = []
    if isinstance(folder, LocalFolder):
        # DuckDB compares patterns as they are written, too.
        directories = list(dict.fromkeys([str(folder.path.absolute()), pattern_of(folder.path)]))
    # A folder for temporary files would be one more that queries may read and write.
    db.execute("SET temp_directory = ''")
    db.execute("SET memory_limit = ?", [memory])
    db.execute("SET allowed_directories = $1", [directories])
    for setting in (
        "autoinstall_known_extensions",
        "autoload_known_extensions",
        "allow_community_extensions",
        "enable_external_access",
    ):
        db.execute(f"SET {setting} = false")
    db.execute("SET lock_configuration = true")


def check_select(db: duckdb.DuckDBPyConnection, text: str) -> None:
    """Raises UsageError unless `text` is one SELECT, or EXPLAIN of one, without table functions
    that open files."""
    try:
        kinds = [statement.type for statement in db.extract_statements(text)]
    except duckdb.Error as error:
        raise UsageError(f"SQL: {error}") from None
    if kinds == [duckdb.StatementType.EXPLAIN]:
        return check_select(db, _explained(text))
    if kinds != [duckdb.StatementType.SELECT]:
        raise UsageError("SQL: expected one query that only reads (SELECT)")
    ((serialized,),) = db.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchall()
    try:
        tree = json.loads(serialized)
    except RecursionError:
        raise UsageError("SQL: the query is nested too deeply") from None
    if tree["error"]:
        raise UsageError("SQL: expected one query that only reads (SELECT)")
    for node in syntax_nodes(tree["statements"]):
        _check_node(node)
    return None


def _check_node(node: dict[str, Any]) -> None:
    part = node.get("type")
    if not isinstance(part, str) or node.get("class") is not None:
        return
    # Kinds of expression have a class. What is neither that nor listed reads no table: it writes.
    if part.endswith(("_NODE", "_REF")) and part not in _NODES:
        raise UsageError(
            f"SQL: expected one query that only reads (SELECT), found {part.split('_')[0]} in it"
        )
    if part == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in _TABLE_FUNCTIONS:
            raise UsageError(
                f"SQL: the table function {name[:60]!r} is not allowed (allowed: "
                f"{', '.join(sorted(_TABLE_FUNCTIONS))})"
            )


def _explained(text: str) -> str:
    """The statement that EXPLAIN is asked about: what follows it, ANALYZE and options."""
    encoded = text.encode()
    places = [place for place, _ in duckdb.tokenize(text)]
    words = [re.match(rb"\w*", encoded[place:].lower()) for place in places]
    named = [word[0] if word else b"" for word in words]
    after = 1
    if named[after : after + 1] == [b"analyze"]:
        after += 1
    elif named[after + 1 : after + 2] in ([b"analyze"], [b"format"]):
        after = 1 + next(n for n, at in enumerate(places) if encoded[at : at + 1] == b")")
    return encoded[places[after] :].decode() if after < len(places) else ""


@contextmanager
def limited(db: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Interrupts the block after `seconds`, and raises UsageError."""
    over, ended = threading.Event(), threading.Event()

    def interrupt() -> None:
        if ended.wait(seconds):
            return
        over.set()
        db.interrupt()
        # Between two statements an interrupt hits nothing: the next one needs another.
        while not ended.wait(0.05):
            db.interrupt()

    thread = threading.Thread(target=interrupt, name="time limit of a query", daemon=True)
    thread.start()
    try:
        yield
    except (duckdb.InterruptException, UsageError):
        if over.is_set():
            raise UsageError(
                f"SQL: the query took longer than {seconds:g} s (raise it with --timeout)"
            ) from None
        raise
    finally:
        ended.set()
        thread.join()  # or it might interrupt what comes next


def pattern_of(path: Path) -> str:
    """A DuckDB pattern that matches only this path.

    DuckDB reads `a[b]` as a pattern that matches `ab`, so it would read another folder's results.
    """
    # In patterns a backslash is beyond escaping: `folder_at` refuses it next to such characters.
    return "".join(f"[{c}]" if c in PATTERNS else c for c in str(path.absolute()))
