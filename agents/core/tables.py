"""A table as prompts show it: names, types and example values of its columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_LONGEST_VALUE = 40  # characters; longer values make no good examples
_ALL_VALUES = 30  # a column of no more values than this shows all, another its commonest
_SOME_VALUES = 20


@dataclass(frozen=True, slots=True)
class Column:
    """`type` is SQL's (`VARCHAR[]` for several values a row); `values` are examples."""

    name: str
    type: str
    values: tuple[str, ...] = ()
    distinct: int = 0
    """How many different values there are."""


@dataclass(frozen=True, slots=True)
class CatalogueTable:
    """The first column is the key."""

    name: str
    columns: tuple[Column, ...]


def schema_text(table: CatalogueTable) -> str:
    """The table for a prompt: one line per column, with its example values."""
    return "\n".join([f"Table {table.name}, one row per item:", *map(_line, table.columns)])


def column_of(name: str, kind: str, rows: Sequence[Sequence[str]]) -> Column:
    """The column that has these values, the most frequent of them as examples."""
    counts = Counter(value for values in rows for value in dict.fromkeys(values))
    most = _ALL_VALUES if len(counts) <= _ALL_VALUES else _SOME_VALUES
    common = [value for value, _ in counts.most_common() if _is_example(value)]
    return Column(name, kind, tuple(common[:most]), len(counts))


def _is_example(value: str) -> bool:
    """Whether a line of `schema_text` can show `value`."""
    return 0 < len(value) <= _LONGEST_VALUE and value.isprintable()


def _line(column: Column) -> str:
    line = f"- {column.name} {column.type}"
    if not column.values:
        return line
    kind = "values" if len(column.values) == column.distinct else "some of its values"
    return f"{line}; {kind}: {' | '.join(column.values)}"
