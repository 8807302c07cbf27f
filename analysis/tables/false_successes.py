"""False successes: notes below a table on what simulated users recorded against themselves.

A user that knows its target may name its title, which it must not do (a leak), and may decide
against the targets (a disagreement): accept an item that is not one, or refuse one that is. A
success after such a leak, or by such an acceptance, is not clean: it says little about the agent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agents.core.plural import many
from analysis.results import Results
from analysis.tables.labels import short_labels

_CELLS_NAMED = 20
_WORTH_A_LOOK = (
    0.3  # share of a cell's dialogues with disagreements; its decisions are then counted
)
_FEW = 3  # fewer decisions that are alike say nothing
_BARE = re.compile(r"true|false|null|none|[-+]?[\d._]+(e[-+]?\d+)?", re.IGNORECASE)


class _Doubts(NamedTuple):
    """The counts of one cell: dialogues, those with a leak, those with a disagreement, and
    successes."""

    cell: int
    dialogues: int
    leaks: int
    disagreements: int
    successes: int
    not_clean: int


class _Decisions(NamedTuple):
    """The user's decisions on recommendations in one cell."""

    total: int
    accepted: int
    disagreed: int


def notes(results: Results) -> list[str]:
    """Notes on the cells in `scored` whose users recorded leaks or disagreements; most have none.

    Warnings come first: about users that accept everything, refuse everything, or never agree.
    """
    found = [
        _Doubts(*row)
        for row in results.query(
            "SELECT cell, count(*), count(first_leak), count(*) FILTER (WHERE disagreed), "
            "count(success_turn), count(*) FILTER "
            "(WHERE first_leak < success_turn OR wrong_accept = success_turn) "
            "FROM scored WHERE ours GROUP BY cell "
            "HAVING count(first_leak) > 0 OR bool_or(disagreed) ORDER BY cell"
        ).fetchall()
    ]
    if not found:
        return []
    names = cell_names(results)
    suspects = [d.cell for d in found if d.disagreements >= _WORTH_A_LOOK * d.dialogues]
    warnings = _warnings(_decisions(results, suspects), names) if suspects else []
    return [*warnings, *_shares(found, names)]


def cell_names(results: Results) -> list[str]:
    """Names of cells by the axes in which they differ, in the short labels of tables.

    A value that is unclear alone is shown with its axis: `simulator.leak_guard=false`.
    """
    cells = results.manifest.cells
    differ = results.varying_axes
    short = {axis: short_labels(c.axes.get(axis, "") for c in cells).short for axis in differ}
    named = [
        [(axis, short[axis][cell.axes[axis]]) for axis in differ if axis in cell.axes]
        for cell in cells
    ]
    return [
        ", ".join(f"{axis}={value}" if _BARE.fullmatch(value) else value for axis, value in values)
        for values in named
    ]


def _shares(found: Sequence[_Doubts], names: Sequence[str]) -> list[str]:
    worst = sorted(found, key=_doubtful_shares, reverse=True)[:_CELLS_NAMED]
    what = (
        "the simulated user named its target's title (leaks), or decided against its targets "
        "(disagreements)"
    )
    lines = [what]
    if any(one.not_clean for one in found):
        lines = [
            f"some successes are doubtful: {what}; `sr_clean@t` counts only "
            "successes with no leak before them whose acceptance agrees with the targets"
        ]
    for one in sorted(worst):
        parts = [
            f"{kind} in {count:,} of {one.dialogues:,} dialogues "
            f"({100 * count / one.dialogues:.0f} %)"
            for kind, count in (("leaks", one.leaks), ("disagreements", one.disagreements))
            if count
        ]
        if one.successes:
            parts.append(f"not clean: {one.not_clean:,} of {many(one.successes, 'success')}")
        lines.append(f"{_named(names[one.cell])}{'; '.join(parts)}")
    if len(found) > len(worst):
        lines.append(f"... and {len(found) - len(worst):,} more cells with fewer of them")
    return lines


def _doubtful_shares(one: _Doubts) -> tuple[float, float]:
    return one.not_clean / max(1, one.successes), (one.leaks + one.disagreements) / one.dialogues


def _decisions(results: Results, cells: Sequence[int]) -> dict[int, _Decisions]:
    """Cell -> the decisions of its users that were compared with the targets."""
    rows = results.query(
        "SELECT e.cell, count(*), count(*) FILTER (WHERE t.user_decision = 'accept'), "
        "count(*) FILTER (WHERE t.user_extra ->> '$.disagrees' = 'true') "
        "FROM turns t JOIN (SELECT hash(attempt_id) AS attempt, cell FROM episodes "
        "WHERE list_contains(?, cell)) e ON e.attempt = hash(t.attempt_id) "
        "WHERE t.user_extra ->> '$.disagrees' IS NOT NULL GROUP BY e.cell",
        [list(cells)],
    ).fetchall()
    return {cell: _Decisions(*counts) for cell, *counts in rows}


def _warnings(decisions: Mapping[int, _Decisions], names: Sequence[str]) -> list[str]:
    """A warning for each way in which users decide alike, whatever is recommended."""
    ways: dict[str, list[int]] = {}
    for cell, found in sorted(decisions.items()):
        if found.total < _FEW:
            continue
        if found.accepted == found.total:
            ways.setdefault("accepted every recommendation", []).append(cell)
        elif found.accepted == 0:
            ways.setdefault("refused every recommendation", []).append(cell)
        elif found.disagreed == found.total:
            ways.setdefault("disagreed with the targets in every decision", []).append(cell)
    lines = []
    for way, cells in ways.items():
        total = sum(decisions[cell].total for cell in cells)
        disagreed = sum(decisions[cell].disagreed for cell in cells)
        labels = [names[cell] for cell in cells if names[cell]]
        more = f" and {len(labels) - _CELLS_NAMED:,} more" if len(labels) > _CELLS_NAMED else ""
        where = f" ({'; '.join(labels[:_CELLS_NAMED])}{more})" if labels else ""
        lines.append(
            f"WARNING: the simulated user {way}{where}: {disagreed:,} of {total:,} decisions are "
            "against its targets, so success says nothing about the agent"
        )
    return lines


def _named(label: str) -> str:
    return f"{label}: " if label else ""
