"""What figures show, in numbers: means with intervals by group, and shares of actions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from agents.core.errors import UsageError
from analysis.metrics.core import Metric
from analysis.results import Results
from analysis.statistics.rates import rate_interval
from analysis.statistics.scores import Scores, read_scores, values_of
from analysis.tables.doubts import cell_names
from analysis.tables.labels import brief
from analysis.tables.table import metrics_of

MOST_GROUPS = 10


class Group(NamedTuple):
    """Cells that are drawn as one, and what they are called."""

    label: str
    cells: list[int]


class Point(NamedTuple):
    """A mean over cases, its 95 % interval over cases, and the means of the seeds.

    NaN, without seeds, where no episode defines the metric.
    """

    mean: float
    low: float
    high: float
    seeds: list[float]
    cases: int


class Shares(NamedTuple):
    """Of one group, by turn: the share of each kind of turn, and how many dialogues got there."""

    turns: list[int]
    dialogues: list[int]
    shares: dict[str, list[float]]


def groups_of(results: Results, axis: str | None) -> list[Group]:
    """A group for each value of `axis`, or for each cell; UsageError if they are too many."""
    cells = results.manifest.cells
    if axis is None:
        names = cell_names(results)
        found = [Group(name or results.manifest.name, [n]) for n, name in enumerate(names)]
    else:
        values = values_of(results, axis)
        short = brief(values).short
        found = [
            Group(short[value], [n for n, cell in enumerate(cells) if cell.axes.get(axis) == value])
            for value in values
        ]
    if len(found) > MOST_GROUPS:
        raise UsageError(
            f"{len(found)} groups are too many for one figure (at most {MOST_GROUPS}); group the "
            f"cells by one axis: --axis AXIS (axes: {', '.join(results.axes)})"
        )
    return found


def points(results: Results, metric: Metric, groups: Sequence[Group]) -> list[Point]:
    """The mean of `metric` of each group, over complete blocks.

    Seeds and cells are averaged within a case first. Rates have Wilson's interval with the
    effective number of trials, others that of t with the error clustered by case.
    """
    scores = read_scores(results, metric)
    return [_point(scores, group, metric.most) for group in groups]


def by_turn(results: Results, name: str, groups: Sequence[Group], turns: int) -> list[list[Point]]:
    """`name@1` to `name@turns` of each group."""
    metrics = metrics_of(results, [f"{name}@{turn}" for turn in range(1, turns + 1)])
    columns = [points(results, metric, groups) for metric in metrics]
    return [list(row) for row in zip(*columns, strict=True)]


def longest(results: Results) -> int:
    """The limit of turns; 1 without episodes."""
    (found,) = results.query("SELECT coalesce(max(max_turns), 1) FROM episodes").fetchall()[0]
    return int(found)


def shares(results: Results, column: str, groups: Sequence[Group]) -> list[Shares]:
    """The shares of the values of `column` of `turns`, by turn, in dialogues that are done."""
    rows = results.query(
        f'SELECT e.cell, t.turn, t."{column}", count(*) FROM turns t '
        "JOIN (SELECT attempt_id, cell FROM episodes WHERE status = 'done') e USING (attempt_id) "
        f'WHERE t.turn > 0 AND t."{column}" IS NOT NULL GROUP BY ALL'
    ).fetchall()
    total: Counter[str] = Counter()
    for _, _, value, count in rows:
        total[value] += count
    if not total:
        raise UsageError(f"no turn has a value of {column}; there is nothing to draw")
    found = []
    for group in groups:
        counts: dict[int, Counter[str]] = {}
        for cell, turn, value, count in rows:
            if cell in group.cells:
                counts.setdefault(turn, Counter())[value] += count
        turns = sorted(counts)
        sums = [sum(counts[turn].values()) for turn in turns]
        found.append(
            Shares(
                turns,
                sums,
                {
                    value: [counts[turn][value] / n for turn, n in zip(turns, sums, strict=True)]
                    for value, _ in total.most_common()
                },
            )
        )
    return found


def frontier(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """The points that no other one beats in both, by rising cost; NaN is never among them."""
    order = [n for n in np.lexsort((-np.array(gains), np.array(costs))) if costs[n] == costs[n]]
    found: list[int] = []
    for n in order:
        if gains[n] == gains[n] and (not found or gains[n] > gains[found[-1]]):
            found.append(int(n))
    return found


def _point(scores: Scores, group: Group, most: float | None) -> Point:
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
    if most is not None:
        low, high = (most * edge for edge in rate_interval(np.clip(by_case / most, 0, 1)))
    elif len(by_case) > 1:
        error = float(by_case.std(ddof=1)) / len(by_case) ** 0.5
        half = float(t.ppf(0.975, len(by_case) - 1)) * error
        low, high = mean - half, mean + half
    else:
        low, high = np.nan, np.nan
    return Point(mean, low, high, seeds, len(by_case))


def _means(values: np.ndarray, known: np.ndarray, axis: int) -> np.ndarray:
    """The means along `axis` where there is a value at all."""
    count = known.sum(axis=axis)
    sums = np.where(known, values, 0).sum(axis=axis)
    return sums[count > 0] / count[count > 0]
