"""Picks a numbered element (a cell or a case) for a command."""

from __future__ import annotations

from agents.core.errors import UsageError
from sweeps.plan import Plan

_LISTED = 10


def cell_of(plan: Plan, number: int) -> int:
    """`number` if a cell has it; UsageError with the cells, so that one can be chosen."""
    cells = [
        f"{index}: {', '.join(f'{k}={v}' for k, v in cell.axes.items())}"
        for index, cell in enumerate(plan.cells[:_LISTED])
    ]
    if len(plan.cells) > _LISTED:
        cells.append("...")
    listed = f" ({'; '.join(cells)})" if plan.axes else ""
    return index_of(number, len(plan.cells), "cell", listed)


def index_of(number: int, count: int, what: str, listed: str = "") -> int:
    if not 0 <= number < count:
        raise UsageError(f"--{what} {number}: expected a number from 0 to {count - 1}{listed}")
    return number
