"""Quantiles and tails of Student's t and of the normal distribution.

scipy is imported when one of them is first needed: `scipy.stats` takes longer to import than most
commands need for everything else.
"""

from __future__ import annotations

Z = 1.959963984540054
"""The 0.975 quantile of the normal distribution."""


def t_quantile(probability: float, df: float) -> float:
    """Where the distribution function of t with `df` degrees of freedom reaches `probability`."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def t_tail(x: float, df: float) -> float:
    """The probability of a t above `x`."""
    from scipy.special import stdtr

    return float(stdtr(df, -x))


def normal_share(x: float) -> float:
    """The probability of a normal value up to `x`."""
    from scipy.special import ndtr

    return float(ndtr(x))
