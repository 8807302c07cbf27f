"""Picks a cell or a case for a command."""

from __future__ import annotations

from agents.core.errors import UsageError, near
from sweeps.plan import Plan
from sweeps.sources import Source

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
    if not 0 <= number < len(plan.cells):
        last = len(plan.cells) - 1
        raise UsageError(f"--cell {number}: expected a number from 0 to {last}{listed}")
    return number


def case_of(source: Source, given: str) -> tuple[int, str]:
    """The position of a case in the sample, by its position or its id, and a remark.

    The remark is empty unless `given` is the position of one case and the id of another: the
    position counts. UsageError if it is neither.
    """
    ids = [source.case_id(position) for position in range(len(source))]
    number = int(given) if given.isascii() and given.isdecimal() else len(ids)
    if number < len(ids):
        if given in ids and ids[number] != given:
            return number, (
                f"--case {given} is read as a number; the case with the id {given} has the number "
                f"{ids.index(given)}"
            )
        return number, ""
    if given in ids:
        return ids.index(given), ""
    close = "" if given.isdecimal() else near(given, ids)
    raise UsageError(
        f"--case {given}: the sample has no such case{close} (expected a number from 0 to "
        f"{len(ids) - 1}, or the id of a case)"
    )
