"""Picks a numbered element (a cell or a case) for a command."""

from __future__ import annotations

from agents.core.errors import UsageError


def index_of(number: int, count: int, what: str) -> int:
    if not 0 <= number < count:
        raise UsageError(f"--{what} {number}: expected a number from 0 to {count - 1}")
    return number
