"""Intervals for rates that hold near 0 and 1, and of few cases.

- One rate: Wilson's score interval (Newcombe 1998, Statistics in Medicine 17:857, method 3).
- A paired difference: the square-and-add interval of the two Wilson intervals with their
  correlation (Newcombe 1998, Statistics in Medicine 17:2635, method 10).

With one seed a case is one trial. With several, its trials are correlated: rates then have the
effective size p (1 - p) / SE**2, SE being the error of the mean over cases (Franco, Little, Louis
and Slud 2019, Journal of Survey Statistics and Methodology 7:334).
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from analysis.statistics.distributions import Z


def wilson(rate: float, size: float) -> tuple[float, float]:
    """The 95 % interval of a rate in [0, 1] that was observed in `size` > 0 trials."""
    centre = rate + Z**2 / (2 * size)
    half = Z * sqrt(rate * (1 - rate) / size + Z**2 / (4 * size**2))
    scale = 1 + Z**2 / size
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def effective_size(by_case: np.ndarray) -> float:
    """How many independent trials the rates of the cases, of shape (cases,), are worth."""
    rate, cases = float(by_case.mean()), len(by_case)
    variance = float(by_case.var()) / cases
    # Cases that all agree say nothing of how trials within one are correlated.
    return rate * (1 - rate) / variance if variance > 0 else float(cases)


def rate_interval(by_case: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of the cases' rates, of shape (cases,)."""
    return wilson(float(by_case.mean()), effective_size(by_case))


def difference_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of `first` minus that of `second`.

    Both have the cases' rates, of shape (cases,), in one order. A positive correlation is taken
    with the continuity correction of Newcombe's method 10 (1998, Statistics in Medicine 17:2635):
    without it, two agents that agree in nearly all cases have an interval that is too short, and
    two that agree in all have none.
    """
    p, q = float(first.mean()), float(second.mean())
    (p_low, p_high), (q_low, q_high) = rate_interval(first), rate_interval(second)
    spread = float(first.std() * second.std())
    r = float(np.corrcoef(first, second)[0, 1]) if spread > 0 else 0.0
    if r > 0:
        r = max(0.0, r - 1 / (2 * len(first) * spread))
    return (
        p - q - _added(p - p_low, q_high - q, r),
        p - q + _added(p_high - p, q - q_low, r),
    )


def _added(one: float, other: float, correlation: float) -> float:
    return sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))


def cohens_h(first: float, second: float) -> float:
    """The difference of two rates on the scale on which their variance is constant."""
    return 2 * (np.arcsin(sqrt(first)) - np.arcsin(sqrt(second)))
