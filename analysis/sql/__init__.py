"""SQL that is longer than a line or two, one file per query."""

from __future__ import annotations

from pathlib import Path


def read(name: str) -> str:
    """The text of `<name>.sql`."""
    return (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
