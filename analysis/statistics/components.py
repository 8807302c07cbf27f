"""Where the variance of a result comes from: cases, seeds, or what is left of each dialogue.

The model is two-way: value = mean + case + seed + rest, where the rest holds the interplay of case
and seed. The components come from the mean squares (method of moments), over the cases that have a
value for every seed. Estimates below zero are zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from analysis.statistics.distributions import t_quantile, t_tail

FEW_SEEDS = 5
"""With fewer, the degrees of freedom are those of the seeds alone, and a claim is about these
seeds: simulated coverage of other choices falls below 93 % (tests/bench/coverage.py)."""


class Components(NamedTuple):
    """Variances of one value: `case`, `seed`, `rest`; of `cases` x `seeds` values.

    With one seed the rest cannot be separated from the case: `case` has both, the others are 0.
    """

    case: float
    seed: float
    rest: float
    cases: int
    seeds: int

    def error(self, cases: float, seeds: float, *, shared: bool) -> float:
        """The standard error of a mean over `cases` x `seeds`.

        The seeds' own variance counts only if something is `shared` within a seed: otherwise
        nothing is common to the dialogues of a seed, and a claim is about cases.
        """
        between = self.seed / seeds if shared else 0.0
        return float(np.sqrt(self.case / cases + between + self.rest / (cases * seeds)))


class _Squares(NamedTuple):
    """Mean squares of a full table of `cases` x `seeds`."""

    case: float
    seed: float
    rest: float
    cases: int
    seeds: int


def components(values: np.ndarray) -> Components | None:
    """The components of `values`, of shape (cases, seeds), NaN where missing.

    None where fewer than two cases have a value for every seed.
    """
    full = _full(values)
    if len(full) < 2:
        return None
    if full.shape[1] == 1:
        return Components(float(full.var(ddof=1)), 0.0, 0.0, len(full), 1)
    found = _squares(full)
    return Components(
        max(0.0, (found.case - found.rest) / found.seeds),
        max(0.0, (found.seed - found.rest) / found.cases),
        found.rest,
        found.cases,
        found.seeds,
    )


class TwoWay(NamedTuple):
    """The error of a mean where cases and seeds both cluster: t with `df` degrees of freedom."""

    error: float
    df: float

    def interval(self, mean: float) -> tuple[float, float]:
        half = t_quantile(0.975, self.df) * self.error
        return mean - half, mean + half

    def p(self, mean: float) -> float:
        """Two-sided, of a mean of zero. Without any variance: 1 for zero, else 0."""
        if self.error == 0:
            return float(mean == 0)
        return 2 * t_tail(abs(mean) / self.error, self.df)


def two_way(values: np.ndarray) -> TwoWay | None:
    """The error of the mean of `values`, of shape (cases, seeds), clustered by both.

    The variance is that of the two-way model, MS(case) + MS(seed) - MS(rest), and never less than
    either of the first two (as Cameron, Gelbach and Miller 2011 advise for few clusters), divided
    by the number of values. The degrees of freedom are Satterthwaite's, at least S - 1; with few
    seeds they are S - 1. None where fewer than two cases are full, or with one seed.
    """
    full = _full(values)
    if len(full) < 2 or full.shape[1] < 2:
        return None
    found = _squares(full)
    largest = max(found.case + found.seed - found.rest, found.case, found.seed)
    least = found.seeds - 1
    df = float(least)
    if found.seeds >= FEW_SEEDS and largest > 0:
        spread = (
            found.case**2 / (found.cases - 1)
            + found.seed**2 / least
            + found.rest**2 / ((found.cases - 1) * least)
        )
        df = min(max(df, largest**2 / spread), found.cases - 1.0)
    return TwoWay(float(np.sqrt(largest / full.size)), df)


def _full(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values).all(axis=1)]


def _squares(full: np.ndarray) -> _Squares:
    cases, seeds = full.shape
    by_case, by_seed, mean = full.mean(axis=1), full.mean(axis=0), full.mean()
    rest = full - by_case[:, None] - by_seed[None, :] + mean
    return _Squares(
        float(seeds * np.sum((by_case - mean) ** 2) / (cases - 1)),
        float(cases * np.sum((by_seed - mean) ** 2) / (seeds - 1)),
        float(np.sum(rest**2) / ((cases - 1) * (seeds - 1))),
        cases,
        seeds,
    )


def advice(found: Components, *, shared: bool) -> str:
    """What to add for the same number of dialogues, seeds or cases, in one sentence."""
    cases, seeds = found.cases, found.seeds
    now = found.error(cases, seeds, shared=shared)
    if now == 0:
        return "nothing varies, so more cases or seeds change nothing"
    more = max(1, round(cases / seeds))
    by_cases = found.error(cases + more, seeds, shared=shared)
    by_seeds = found.error(cases, seeds + 1, shared=shared)
    if seeds == 1:
        return (
            f"{more:,} more cases: error {now:.4f} -> {by_cases:.4f}; with one seed, the effect "
            "of a second one is unknown"
        )
    better = "cases" if by_cases <= by_seeds else "seeds"
    return (
        f"for the same number of dialogues, {more:,} more cases change the error from {now:.4f} to "
        f"{by_cases:.4f}, one more seed to {by_seeds:.4f}: add {better}"
    )
