"""Pivot tables: some axes in the rows, others and the metrics in the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agents.core.errors import UsageError, near
from analysis.metrics.core import split_group
from analysis.tables.render import formatted
from analysis.tables.sheets import UNDEFINED, Sheet, SheetCell
from analysis.tables.table import Table

METRIC, GROUP = "metric", "group"
"""The names under which metrics, and groups of users, are put into rows or columns."""

Marks = Mapping[tuple[int, int], str]
"""(row, metric) of a table -> the mark of that value."""


def pivoted(
    table: Table, rows: Sequence[str], columns: Sequence[str], marks: Marks | None = None
) -> Sheet:
    """The table with the axes `rows` down and `columns` across; `metric` is one of the names.

    Metrics are the last columns unless named. Best and second are marked among the numbers of one
    metric whose cases and other axes agree, in the direction of the rows. `group` takes the groups
    of users out of the names of metrics. Raises UsageError for an unknown axis, one named twice,
    and an axis of several values that is not named.
    """
    rows, columns = list(rows), list(columns)
    if METRIC not in (*rows, *columns):
        columns.append(METRIC)
    _check(table, rows, columns)
    names = _names(table, GROUP in (*rows, *columns))
    down: dict[tuple[str, ...], None] = {}
    across: dict[tuple[str, ...], None] = {}
    at: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[int, int]] = {}
    for index, row in enumerate(table.rows):
        for number in range(len(table.metrics)):
            named = {**row.axes, **names[number]}
            key = tuple(named[a] for a in rows), tuple(named[a] for a in columns)
            down[key[0]], across[key[1]] = None, None
            at[key] = index, number
    heads = _ordered(across, columns, names)
    places = _places(table, at)
    lines = []
    for label in down:
        cells = [SheetCell(text) for text in label]
        used = set()
        for head in heads:
            place = at.get((label, head))
            if place is None:
                cells.append(SheetCell(UNDEFINED))
                continue
            value = table.rows[place[0]].values[place[1]]
            text = formatted(value, table.metrics[place[1]])
            mark = (marks or {}).get(place, "")
            cells.append(SheetCell(text, places.get(place, 0), mark))
            used.add(place[0])
        group = label[rows.index(GROUP)] if GROUP in rows else ""
        counts = [table.rows[i].coverage(group) for i in used]
        counted, planned = sum(n for n, _ in counts), sum(n for _, n in counts)
        lines.append([*cells, SheetCell(f"{counted:,} of {planned:,}")])
    empty = ("",) * (len(columns) - 1)
    return Sheet(
        rows,
        [*(" ".join(head) for head in heads), "episodes"],
        lines,
        table.notes,
        [*heads, (*empty, "episodes")],
    )


def _check(table: Table, rows: Sequence[str], columns: Sequence[str]) -> None:
    named = [*rows, *columns]
    has_groups = any(metric.group for metric in table.metrics)
    known = [*table.axes, METRIC, *([GROUP] if has_groups else [])]
    for name in named:
        if name not in known:
            raise UsageError(
                f"there is no axis {name!r}{near(name, known)} (known: {', '.join(known)})"
            )
        if named.count(name) > 1:
            raise UsageError(f"{name!r} is named twice; it is either in the rows or the columns")
    if not rows:
        raise UsageError("name at least one axis for the rows: --rows AXIS")
    left = [
        axis
        for axis in table.axes
        if axis not in named and len({row.axes[axis] for row in table.rows}) > 1
    ]
    if left:
        raise UsageError(
            f"several cells share one entry: put {', '.join(left)} into the rows or columns too"
        )


def _names(table: Table, apart: bool) -> list[dict[str, str]]:
    """For each metric of the table its name, and its group of users if it is shown `apart`."""
    if not apart:
        return [{METRIC: metric.name} for metric in table.metrics]
    parts = (split_group(metric.name) for metric in table.metrics)
    return [{METRIC: name, GROUP: group or "all users"} for name, group in parts]


def _ordered(
    across: Mapping[tuple[str, ...], None],
    columns: Sequence[str],
    names: Sequence[Mapping[str, str]],
) -> list[tuple[str, ...]]:
    """The columns by first appearance of each value, level by level, so that equal heads meet."""
    order: list[dict[str, int]] = []
    for level, name in enumerate(columns):
        own = name in (METRIC, GROUP) and name in names[0]
        values = [each[name] for each in names] if own else [head[level] for head in across]
        order.append({value: n for n, value in enumerate(dict.fromkeys(values))})
    return sorted(across, key=lambda head: [order[i][value] for i, value in enumerate(head)])


def _places(
    table: Table, at: Mapping[tuple[tuple[str, ...], tuple[str, ...]], tuple[int, int]]
) -> dict[tuple[int, int], int]:
    """(row, metric) -> 1 for the best, 2 for the second of its column and cases."""
    contests: dict[tuple[object, ...], dict[tuple[int, int], float]] = {}
    for (_, head), place in at.items():
        row, metric = table.rows[place[0]], table.metrics[place[1]]
        mean = row.values[place[1]].mean
        if table.comparable and metric.better is not None and mean is not None:
            key = (head, row.source, metric.name)
            contests.setdefault(key, {})[place] = round(mean, metric.digits)
    found = {}
    for values in contests.values():
        if len(values) < 2:
            continue
        higher = table.metrics[next(iter(values))[1]].better == "higher"
        ranked = sorted(set(values.values()), reverse=higher)[:2]
        found |= {p: ranked.index(value) + 1 for p, value in values.items() if value in ranked}
    return found
