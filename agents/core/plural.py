"""Counted nouns in messages."""

from __future__ import annotations


def many(count: int, noun: str) -> str:
    """`2,000 cells`, `1 cell`, `3 replies`."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        noun = noun[:-1] + "ie"
    return f"{count:,} {noun}s"
