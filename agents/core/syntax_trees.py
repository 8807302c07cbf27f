"""DuckDB's syntax trees (`json_serialize_sql`), which say what a query does before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def syntax_nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object in DuckDB's syntax tree."""
    waiting = [tree]
    while waiting:
        at = waiting.pop()
        if isinstance(at, dict):
            yield at
            waiting.extend(at.values())
        elif isinstance(at, list):
            waiting.extend(at)
