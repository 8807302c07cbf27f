"""The numbers behind figures: means with intervals by group, and shares of actions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from agents.core.errors import UsageError, near
from analysis.metrics.core import Metric, part_of_dialogue
from analysis.results import Results
from analysis.statistics.distributions import t_quantile
from analysis.statistics.rates import rate_interval
from analysis.statistics.scores import Scores, read_scores, values_of
from analysis.tables.false_successes import cell_names
from analysis.tables.labels import short_labels
from analysis.tables.table import make_groups, metrics_of
from sweeps.manifest import CellEntry

MOST_GROUPS = 10


class CellGroup(NamedTuple):
    """Cells that are drawn as one, and what they are called."""

    label: str
    cells: list[int]


class Point(NamedTuple):
    """A mean over cases, its 95 % interval over cases, and the means of the seeds.

    NaN, without seeds, if no episode defines the metric.
    """

    mean: float
    low: float
    high: float
    seeds: list[float]
    cases: int


class Shares(NamedTuple):
    """For one group, by turn or part: the share of each kind of turn, and the number of turns.

    A dialogue has each turn once, so by turn this is the number of dialogues that reached it.
    """

    turns: list[int]
    """Turns, or parts of dialogues, from 1."""
    counts: list[int]
    shares: dict[str, list[float]]


def groups_of(results: Results, axis: str | None) -> list[CellGroup]:
    """A group for each value of `axis`, or for each cell. Raises UsageError if there
    are too many."""
    cells = results.manifest.cells
    if axis is None:
        names = cell_names(results)
        found = [CellGroup(name or results.manifest.name, [n]) for n, name in enumerate(names)]
    else:
        values = values_of(results, axis)
        short = short_labels(values).short
        found = [
            CellGroup(
                short[value], [n for n, cell in enumerate(cells) if cell.axes.get(axis) == value]
            )
            for value in values
        ]
    if len(found) > MOST_GROUPS:
        raise UsageError(
            f"{len(found)} groups are too many for one figure (at most {MOST_GROUPS}); group the "
            f"cells by one axis: --axis AXIS (axes: {', '.join(results.axes)})"
        )
    return found


def group_named(groups: Sequence[CellGroup], label: str) -> CellGroup:
    """The group with this label. Raises UsageError with a near match."""
    for group in groups:
        if group.label == label:
            return group
    known = [group.label for group in groups]
    raise UsageError(f"there is no group {label!r}{near(label, known)} ({', '.join(known)})")


def metric_points(
    results: Results, metric: Metric, groups: Sequence[CellGroup], base: CellGroup | None = None
) -> list[Point]:
    """The mean of `metric` of each group, over complete blocks.

    With `base`, the mean difference to it over the cases that both have, with a t interval. Seeds
    and cells are averaged within a case first. Rates have Wilson's interval with the effective
    number of trials, other metrics a t interval with errors clustered by case, which ends where
    their means do.
    """
    scores = read_scores(results, metric)
    if base is not None:
        return [_difference(scores, group, base) for group in groups]
    return [_point(scores, group, metric) for group in groups]


def by_turn(
    results: Results, name: str, groups: Sequence[CellGroup], turns: int, users: str = ""
) -> list[list[Point]]:
    """`name@1` to `name@turns` of each group, with all users or one group of them."""
    ending = f"[{users}]" if users else ""
    names = [f"{name}@{turn}{ending}" for turn in range(1, turns + 1)]
    metrics = metrics_of(results, names)
    columns = [metric_points(results, metric, groups) for metric in metrics]
    return [list(row) for row in zip(*columns, strict=True)]


def longest(results: Results) -> int:
    """The maximum number of turns; 1 without episodes."""
    (found,) = results.query("SELECT coalesce(max(max_turns), 1) FROM episodes").fetchall()[0]
    return int(found)


def shares(
    results: Results,
    column: str,
    groups: Sequence[CellGroup],
    users: Sequence[str] = ("",),
    parts: int | None = None,
    names: Sequence[str] = (),
) -> list[Shares]:
    """The shares of kinds of turns, by turn, in dialogues that are done: for each of `users`, one
    for each of `groups`.

    The kinds are the values of `column` of `turns`, the most frequent first. With `names`, they are
    these: a turn is of the first name that is its action or its strategy, or else "other". All
    results have the same kinds in the same order, also those without turns.

    `users` are groups of users; an empty name means all users, each counted once. With `parts`, by
    parts of each dialogue, as in the metric `turn_share`. Raises UsageError if no turn counts.
    """
    found = [_turn_counts(results, column, each, parts, names) for each in users]
    total: Counter[str] = Counter()
    for _, _, value, count in chain.from_iterable(found):
        total[value] += count
    if not total:
        of = f" of {', '.join(filter(None, users))}" if any(users) else ""
        raise UsageError(f"no turn{of} has a value of {column}; there is nothing to draw")
    if names:
        kinds = [*names, *(["other"] if total["other"] else [])]
    else:
        kinds = sorted(total, key=lambda value: (-total[value], value))
    return [_shares_of(rows, group, kinds) for rows in found for group in groups]


def _turn_counts(
    results: Results, column: str, users: str, parts: int | None, names: Sequence[str]
) -> list[tuple[int, int, str, int]]:
    """Cell, turn or part, kind of turn, and number of turns."""
    at = "t.turn" if parts is None else part_of_dialogue(parts)
    kind, given = f't."{column}"', dict[str, str]()
    if names:
        cases = "".join(
            f"WHEN $name{n} IN (t.action, t.strategy) THEN $name{n} " for n in range(len(names))
        )
        kind = f"CASE {cases}ELSE 'other' END"
        given = {f"name{n}": name for n, name in enumerate(names)}
    among = ""
    if users:
        make_groups(results)
        among = (
            "JOIN plan_sources p USING (source_id) "
            "SEMI JOIN drawn d ON d.source = p.source AND d.position = e.position "
            'AND d."group" = $users '
        )
        given["users"] = users
    return results.query(
        f"SELECT e.cell, {at}, {kind} AS kind_of_turn, count(*) FROM turns t "
        f"JOIN (SELECT e.attempt_id, e.cell, e.turns FROM episodes e {among}"
        "WHERE e.status = 'done') e USING (attempt_id) "
        "WHERE t.turn > 0 AND kind_of_turn IS NOT NULL GROUP BY ALL",
        given or None,
    ).fetchall()


def _shares_of(
    rows: Sequence[tuple[int, int, str, int]], group: CellGroup, kinds: Sequence[str]
) -> Shares:
    counts: dict[int, Counter[str]] = {}
    for cell, turn, kind, count in rows:
        if cell in group.cells:
            counts.setdefault(turn, Counter())[kind] += count
    turns = sorted(counts)
    sums = [sum(counts[turn].values()) for turn in turns]
    return Shares(
        turns,
        sums,
        {
            kind: [counts[turn][kind] / n for turn, n in zip(turns, sums, strict=True)]
            for kind in kinds
        },
    )


class Curves(NamedTuple):
    """The training curves of one series in a group: a line per training, with steps and values."""

    label: str
    lines: list[tuple[np.ndarray, np.ndarray]]

    @property
    def mean(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean over the training runs, at the steps that all of them measured."""
        steps = [set(line[0].tolist()) for line in self.lines]
        shared = np.array(sorted(set.intersection(*steps)), dtype=np.int64)
        values = [at[np.isin(step, shared)] for step, at in self.lines]
        return shared, np.mean(values, axis=0)


def curves(results: Results, wanted: Sequence[str], axis: str | None) -> dict[str, list[Curves]]:
    """Series -> a `Curves` for each artifact, or for each value of `axis`.

    All series but shares (`strategy: NAME`), or those `wanted`. UsageError for a series that
    nothing measured.
    """
    rows = results.query(
        "SELECT series, artifact, artifact_key, list(step ORDER BY step), "
        "list(value ORDER BY step) FROM curves GROUP BY ALL ORDER BY min(seed), artifact"
    ).fetchall()
    if not rows:
        raise UsageError(
            f"{results.folder} has no training curves, there is nothing to draw: its artifacts "
            "were not trained in steps, or were trained before curves were recorded"
        )
    measured = sorted({row[0] for row in rows})
    for name in wanted:
        if name not in measured:
            raise UsageError(
                f"no training measured {name!r}{near(name, measured)} ({', '.join(measured)})"
            )
    groups = _artifact_groups(results, axis)
    found: dict[str, list[Curves]] = {}
    for series in wanted or [name for name in measured if ":" not in name] or measured:
        for label, keys in groups.items():
            lines = [
                (np.array(steps), np.array(values, dtype=float))
                for name, _, key, steps, values in rows
                if name == series and key in keys
            ]
            if lines:
                found.setdefault(series, []).append(Curves(label, lines))
    return found


def _artifact_groups(results: Results, axis: str | None) -> dict[str, set[str]]:
    """Label -> the keys of the artifacts that are drawn as one."""
    made = results.manifest.artifacts
    found: dict[str, set[str]] = {}
    if axis is None:
        for artifact in made:
            found.setdefault(artifact.name or artifact.title, set()).add(artifact.key)
    else:
        for group in groups_of(results, axis):
            cells = set(group.cells)
            found[group.label] = {a.key for a in made if cells.intersection(a.cells)}
    return found


class Variation(NamedTuple):
    """Cells that differ only in `axis`. `base` is the position of the cell shared by all
    variations."""

    axis: str
    labels: list[str]
    cells: list[int]
    base: int


def variations(results: Results, axis: str | None) -> list[Variation]:
    """The effect of varying one axis at a time, with the others held as in one cell.

    That cell is the first one with the most cells that differ from it in a single axis. Raises
    UsageError for an unknown axis, or if no two cells differ in a single axis.
    """
    if axis is not None:
        values_of(results, axis)
    cells = results.manifest.cells
    apart = [[_apart(one, other, results.axes) for other in cells] for one in cells]
    wanted = [axis] if axis else results.axes
    near = [sum(len(a) == 1 and a[0] in wanted for a in row) for row in apart]
    if not near or not max(near):
        raise UsageError("no two cells differ in one axis alone; there is nothing to vary")
    base = near.index(max(near))
    found = []
    for name in wanted:
        members = [n for n in range(len(cells)) if n == base or apart[base][n] == [name]]
        if len(members) > 1:
            short = short_labels(cells[n].axes.get(name, "") for n in members).short
            labels = [short[cells[n].axes.get(name, "")] for n in members]
            found.append(Variation(name, labels, members, members.index(base)))
    return found


def _apart(one: CellEntry, other: CellEntry, axes: Sequence[str]) -> list[str]:
    """The axes in which two cells differ; `source` too if only their cases differ."""
    found = [axis for axis in axes if one.axes.get(axis) != other.axes.get(axis)]
    return found or (["source"] if one.source_id != other.source_id else [])


def frontier(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """The Pareto-optimal points, by rising cost; NaN is never among them."""
    order = [n for n in np.lexsort((-np.array(gains), np.array(costs))) if costs[n] == costs[n]]
    found: list[int] = []
    for n in order:
        if gains[n] == gains[n] and (not found or gains[n] > gains[found[-1]]):
            found.append(int(n))
    return found


def _point(scores: Scores, group: CellGroup, metric: Metric) -> Point:
    by_source: dict[str, list[int]] = {}
    for cell in group.cells:
        by_source.setdefault(scores.sources[cell], []).append(cell)
    parts = []
    for cells in by_source.values():
        known = np.isfinite(scores.values[cells])
        sums = np.where(known, scores.values[cells], 0).sum(axis=0)
        count = known.sum(axis=0)
        parts.append(np.divide(sums, count, out=np.full(sums.shape, np.nan), where=count > 0))
    by_seed = np.concatenate(parts)
    known = np.isfinite(by_seed)
    by_case = _means(by_seed, known, axis=1)
    if not len(by_case):
        return Point(np.nan, np.nan, np.nan, [], 0)
    mean = float(by_case.mean())
    seeds = [float(each) for each in _means(by_seed, known, axis=0)]
    if metric.most is not None:
        rates = np.clip(by_case / metric.most, 0, 1)
        low, high = (metric.most * edge for edge in rate_interval(rates))
    elif len(by_case) > 1:
        error = float(by_case.std(ddof=1)) / len(by_case) ** 0.5
        half = t_quantile(0.975, len(by_case) - 1) * error
        low, high = mean - half, mean + half
        if metric.highest is not None:
            low, high = max(low, 0.0), min(high, metric.highest)
    else:
        low, high = np.nan, np.nan
    return Point(mean, low, high, seeds, len(by_case))


def _difference(scores: Scores, group: CellGroup, base: CellGroup) -> Point:
    """Paired by case: of each source the means of both sides over seeds and cells."""
    parts = []
    for source in dict.fromkeys(scores.sources[cell] for cell in group.cells):
        sides = []
        for cells in (group.cells, base.cells):
            own = [cell for cell in cells if scores.sources[cell] == source]
            values = scores.values[own].transpose(1, 0, 2).reshape(scores.values.shape[1], -1)
            known = np.isfinite(values)
            count = known.sum(axis=1)
            sums = np.where(known, values, 0).sum(axis=1)
            sides.append(np.divide(sums, count, out=np.full(len(sums), np.nan), where=count > 0))
        parts.append(sides[0] - sides[1])
    found = np.concatenate(parts)
    found = found[np.isfinite(found)]
    if not len(found):
        return Point(np.nan, np.nan, np.nan, [], 0)
    mean, half = float(found.mean()), np.nan
    if len(found) > 1:
        half = float(t_quantile(0.975, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5)
    return Point(mean, mean - half, mean + half, [], len(found))


def _means(values: np.ndarray, known: np.ndarray, axis: int) -> np.ndarray:
    """The means along `axis`, ignoring NaN."""
    count = known.sum(axis=axis)
    sums = np.where(known, values, 0).sum(axis=axis)
    return sums[count > 0] / count[count > 0]
