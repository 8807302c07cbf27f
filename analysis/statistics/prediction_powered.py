"""Judged metrics, corrected by the labels of people (prediction-powered inference).

A judge scores every dialogue and may be biased; people label a few at random. With Y what people
say, f what the judge says, n labelled dialogues and a weight L:

    corrected = L x mean of f over all + mean of (Y - L x f) over the labelled

It is unbiased for every L, and L is the one of the least variance, between 0 (the labels alone) and
1 (Angelopoulos et al. 2023, Science 382:669, and Angelopoulos, Duchi and Zrnic 2023,
arXiv:2311.01453, section 6; their unlabelled set excludes the labelled, so that their L is this one
x N / (n + N), with N unlabelled).

- Dialogues without a verdict, such as those that accept nothing, have a known value. They count
  with their share, and need no label.
- The unit is the case: its dialogues, over seeds and pairs of cells, are not independent. The error
  is that of the linearised estimate, clustered by case; the interval is t with one degree of
  freedom less than there are labelled cases.
- An estimate may exceed what a share can be; it and its interval end at 0 and 1 (`within`).
- Labelled dialogues must be a random sample, as `crsweep annotate export` draws them without
  `--where`; `draws` says where they are not. What people were not asked about, such as an item's
  acceptance, is taken as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.metrics.core import Metric, parse_metric
from analysis.results import Results
from analysis.sql.verdicts import labelled, of_people
from analysis.statistics.distributions import t_quantile
from analysis.statistics.scores import read_scores

_LEAST_CASES = 2
"""Minimum number of labelled cases; a single one gives no error."""


@dataclass(frozen=True)
class Corrected:
    """A mean according to the judge (`raw`), according to people, and corrected with a 95 %
    interval.

    `people` uses only the labelled dialogues. `weight` is the weight of the judge, from 0 to 1. All
    values are in the metric's unit.
    """

    raw: float
    people: float
    corrected: float
    error: float
    low: float
    high: float
    weight: float
    labelled: int
    labelled_cases: int
    episodes: int


class Labelled:
    """One metric as a judge has it and as people have it, of all cells."""

    def __init__(self, results: Results, metric: Metric, *, complete_only: bool = True) -> None:
        judge = metric.judge
        assert judge is not None
        assert judge.label is not None
        assert judge.plugin is not None
        of_judge = read_scores(results, metric, complete_only=complete_only)
        by_people = _by_people(metric)
        said = read_scores(results, by_people, complete_only=complete_only).values
        whole = Metric("x.num", "x.den", labelled(judge.label, judge.plugin))
        covered = read_scores(results, whole, complete_only=complete_only).values
        self._highest = metric.highest
        self._sources = of_judge.sources
        self._judge = of_judge.values
        self._judged = np.isfinite(covered)
        people = np.where(covered == 1, said, np.nan)
        self._people = np.where(self._judged, people, self._judge)

    def cell(self, cell: int) -> Corrected | None:
        """The mean of one cell; None with less than two labelled cases."""
        found = prediction_powered(self._judge[cell], self._people[cell], self._judged[cell])
        return None if found is None else within(found, 0.0, self._highest)

    def difference(self, pairs: Sequence[tuple[int, int]]) -> Corrected | None:
        """The mean difference of pairs of cells, over the dialogues of one case and seed that both
        have; None with less than two cases that are labelled on both sides."""
        by_source: dict[str, list[tuple[int, int]]] = {}
        for pair in pairs:
            by_source.setdefault(self._sources[pair[0]], []).append(pair)
        most = max((len(chosen) for chosen in by_source.values()), default=0)
        parts = [
            (
                _side_by_side([self._judge[a] - self._judge[b] for a, b in chosen], most),
                _side_by_side([self._people[a] - self._people[b] for a, b in chosen], most),
                _side_by_side([self._judged[a] | self._judged[b] for a, b in chosen], most),
            )
            for chosen in by_source.values()
        ]
        if not parts:
            return None
        judge, people, judged = (np.concatenate(each) for each in zip(*parts, strict=True))
        found = prediction_powered(judge, people, judged == 1)
        lowest = None if self._highest is None else -self._highest
        return None if found is None else within(found, lowest, self._highest)


def within(found: Corrected, lowest: float | None, highest: float | None) -> Corrected:
    """`found` without what no mean can be: the corrected one, and its interval, are cut off there.

    An interval keeps its coverage, because what is cut off cannot be the truth. Nothing is cut off
    with `highest` None.
    """
    if lowest is None or highest is None:
        return found

    def cut(value: float) -> float:
        return min(max(value, lowest), highest)

    return replace(found, corrected=cut(found.corrected), low=cut(found.low), high=cut(found.high))


def prediction_powered(
    judge: np.ndarray, people: np.ndarray, judged: np.ndarray
) -> Corrected | None:
    """The corrected mean of values of shape (cases, repetitions), NaN where there is none.

    `judged` says which values rest on verdicts; the others are known. None with less than two
    labelled cases.
    """
    has = np.isfinite(judge)
    chosen = has & judged
    both = chosen & np.isfinite(people)
    cases = has.any(axis=1)
    labelled_cases = int(both.any(axis=1).sum())
    if labelled_cases < _LEAST_CASES:
        return None
    f, y = np.where(has, judge, 0.0), np.where(both, people, 0.0)
    count, with_verdict, with_label = (each.sum(axis=1)[cases] for each in (has, chosen, both))
    total, judged_total, labelled_total = count.sum(), with_verdict.sum(), with_label.sum()
    known = np.where(has & ~judged, f, 0.0).sum(axis=1)[cases]

    f_all = np.where(chosen, f, 0.0).sum(axis=1)[cases]
    f_labelled = np.where(both, f, 0.0).sum(axis=1)[cases]
    y_labelled = y.sum(axis=1)[cases]
    mean_f, mean_y = f_all.sum() / judged_total, y_labelled.sum() / labelled_total
    mean_f_labelled = f_labelled.sum() / labelled_total

    # Influence of each case on: the judge's mean, its mean over the labelled, that of people.
    on_all = (f_all - mean_f * with_verdict) / judged_total
    on_f = (f_labelled - mean_f_labelled * with_label) / labelled_total
    on_y = (y_labelled - mean_y * with_label) / labelled_total
    weight = _weight(on_y, on_f - on_all)
    mean = weight * (mean_f - mean_f_labelled) + mean_y
    share = judged_total / total
    corrected = known.sum() / total + share * mean
    influence = (known + with_verdict * mean - corrected * count) / total
    influence = influence + share * (on_y - weight * (on_f - on_all))
    variance = float((influence**2).sum()) * labelled_cases / (labelled_cases - 1)
    error = math.sqrt(variance)
    half = t_quantile(0.975, labelled_cases - 1) * error
    return Corrected(
        raw=float(f.sum() / total),
        people=float(known.sum() / total + share * mean_y),
        corrected=float(corrected),
        error=error,
        low=float(corrected - half),
        high=float(corrected + half),
        weight=weight,
        labelled=int(labelled_total),
        labelled_cases=labelled_cases,
        episodes=int(total),
    )


def _weight(of_people: np.ndarray, of_judge: np.ndarray) -> float:
    """The weight of the least variance of `of_people` - weight x `of_judge`, within [0, 1]."""
    spread = float((of_judge**2).sum())
    if spread <= 1e-24:  # everything is labelled, or the judge gives one score
        return 0.0
    return min(1.0, max(0.0, float((of_people * of_judge).sum()) / spread))


def _by_people(metric: Metric) -> Metric:
    """The metric over the labels of people."""
    plain = parse_metric(metric.name)
    assert plain.per_attempt is not None
    assert metric.judge is not None
    assert metric.judge.plugin is not None  # filled in by `judged_by`
    return replace(plain, per_attempt=of_people(plain.per_attempt, metric.judge.plugin))


def _side_by_side(arrays: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Arrays of shape (cases, seeds) in a row, as wide as `most` of them; the rest is undefined."""
    found = np.concatenate(arrays, axis=1).astype(float)
    width = arrays[0].shape[1] * most
    return np.pad(found, ((0, 0), (0, width - found.shape[1])), constant_values=np.nan)
