"""How many cases and seeds show a difference: power of the test over cases, or over seeds.

The mean of paired differences is tested by t, as in a test of one mean: power is that of the
noncentral t distribution with the error of the variance components (`Components.error`). Where
something is shared within a seed, seeds cluster too, and there are S - 1 degrees of freedom.

The test that is done flips signs, and rates move in steps: with S seeds, a case's difference is a
multiple of 1/S, so that the mean under random signs is on a lattice of 2 / (n S). Ties with the
observed mean count against it, so the critical value is half a step, 1 / (n S), further out than
that of t (as in a correction for continuity). Without this, power was promised 6 points too high
with 99 cases and 3 seeds (tests/bench/coverage.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from analysis.statistics.components import Components
from analysis.statistics.distributions import t_quantile

TARGET = 0.8
_MOST = 1_000_000  # cases or seeds; more cannot be planned


def power(
    difference: float,
    variance: Components,
    cases: int,
    seeds: int,
    *,
    shared: bool = False,
    alpha: float = 0.05,
    step: float = 0.0,
) -> float:
    """The chance that a two-sided test of level `alpha` finds a true `difference`.

    `step` is what one dialogue can change in its case's sum over seeds: 1 for a rate, 0 for what is
    continuous. Tests that cluster by seed (`shared`) flip no signs and have no steps.
    """
    df = (seeds if shared else cases) - 1
    if df < 1:
        return 0.0
    error = variance.error(cases, seeds, shared=shared)
    if error == 0:
        return float(difference != 0)
    from scipy.stats import ncf

    # The square of t, because scipy's noncentral t is NaN in its far tail.
    critical = t_quantile(1 - alpha / 2, df) + _beyond(step, cases, seeds, shared) / error
    return float(ncf.sf(critical**2, 1, df, (difference / error) ** 2))


def detectable(
    variance: Components,
    cases: int,
    seeds: int,
    *,
    shared: bool = False,
    alpha: float = 0.05,
    step: float = 0.0,
    target: float = TARGET,
) -> float | None:
    """The smallest difference with a power of `target`; None with too few cases or seeds."""
    from scipy.optimize import brentq

    if (seeds if shared else cases) < 2:
        return None
    error = variance.error(cases, seeds, shared=shared)
    if error == 0:
        return 0.0

    def lacking(size: float) -> float:
        return power(size, variance, cases, seeds, shared=shared, alpha=alpha, step=step) - target

    df = (seeds if shared else cases) - 1
    high = error * 2 * (t_quantile(1 - alpha / 2, df) + t_quantile(target, df))
    high += 2 * _beyond(step, cases, seeds, shared)
    root: Any = brentq(lacking, 0.0, high)  # a tuple only with full_output
    return float(root)


def _beyond(step: float, cases: int, seeds: int, shared: bool) -> float:
    """How much further out than that of t the critical mean is."""
    return 0.0 if shared else step / (cases * seeds)


def cases_needed(
    difference: float,
    variance: Components,
    seeds: int,
    *,
    shared: bool = False,
    alpha: float = 0.05,
    step: float = 0.0,
    target: float = TARGET,
) -> int | None:
    """The fewest cases with a power of `target`, with so many seeds; None if no number has it."""
    return _fewest(
        lambda n: (
            power(difference, variance, n, seeds, shared=shared, alpha=alpha, step=step) >= target
        )
    )


def seeds_needed(
    difference: float,
    variance: Components,
    cases: int,
    *,
    shared: bool = False,
    alpha: float = 0.05,
    step: float = 0.0,
    target: float = TARGET,
) -> int | None:
    """The fewest seeds with a power of `target`, with so many cases; None if no number has it."""
    return _fewest(
        lambda n: (
            power(difference, variance, cases, n, shared=shared, alpha=alpha, step=step) >= target
        )
    )


def of_spread(deviation: float, share: float) -> Components:
    """The components of differences with a standard deviation of `deviation` between pairs.

    A pair is two dialogues of the same case and seed. `share` in [0, 1] of the variance is between
    cases, which more seeds do not average out.
    """
    total = deviation**2
    return Components(total * share, 0.0, total * (1 - share), 0, 0)


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The smallest number for which `enough` holds, which does not end once it has begun."""
    high = 2
    while not enough(high):
        if high >= _MOST:
            return None
        high *= 2
    low = 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return 1 if enough(1) else high
