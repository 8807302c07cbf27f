"""A table as prompts show it: names, types and example values of its columns."""

from __future__ import annotations

from dataclasses import dataclass

_LONGEST_VALUE = 40  # characters; longer values make no good examples


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
    """The table for a prompt: a line a column, with its example values."""
    return "\n".join([f"Table {table.name}, one row an item:", *map(_line, table.columns)])


def is_example(value: str) -> bool:
    """Whether `value` can stand in a line of `schema_text`."""
    return 0 < len(value) <= _LONGEST_VALUE and value.isprintable()


def _line(column: Column) -> str:
    line = f"- {column.name} {column.type}"
    if not column.values:
        return line
    kind = "values" if len(column.values) == column.distinct else "some of its values"
    return f"{line}; {kind}: {' | '.join(column.values)}"
