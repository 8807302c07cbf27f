"""Counted nouns in messages."""

from __future__ import annotations


def many(count: int, noun: str) -> str:
    """`2,000 cells`, `1 cell`, `3 replies`."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"
