"""Tests and corrections that several tables use."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

LEVEL = 0.05
"""A p value below it is called significant."""


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p of `wins` against `losses`; ties are left out. 1 without either."""
    total = wins + losses
    tail = sum(comb(total, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**total)


def holm(p: Sequence[float]) -> list[float]:
    """The step-down correction of Holm over all tests of one table, in their order."""
    corrected, least = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, p[index] * (len(p) - rank)))
        corrected[index] = least
    return corrected
