"""Resampling over cases: the bootstrap of a mean, and the test by flipping signs.

Both draw in chunks that bound the memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from analysis.statistics.distributions import normal_share, t_quantile

RESAMPLES = 10_000
_VALUES = 4_000_000  # of one chunk


def bootstrap_means(
    differences: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """The means of `resamples` samples of the cases, drawn with replacement."""
    size = len(differences)
    means = [
        differences[rng.integers(0, size, (count, size))].mean(axis=1)
        for count in _chunks(size, resamples)
    ]
    return np.concatenate(means)


def bootstrap_interval(
    differences: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The 95 % interval of the mean: the expanded percentile bootstrap over cases.

    Plain percentiles are too narrow by the factor sqrt((n - 1) / n), and as if n were infinite;
    this takes those at Phi(-sqrt(n / (n - 1)) t) (Hesterberg 2015, The American Statistician
    69:371, section 4.1). With one case it is a point.
    """
    size = len(differences)
    tail = 0.025
    if size > 1:
        tail = normal_share(-np.sqrt(size / (size - 1)) * t_quantile(0.975, size - 1))
    means = bootstrap_means(differences, rng, resamples)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def sign_flip(
    differences: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> float:
    """Two-sided p of the mean under random signs; the observed one counts as one of them."""
    size = len(differences)
    observed = abs(differences.mean())
    as_large = 0
    for count in _chunks(size, resamples):
        signs = rng.integers(0, 2, (count, size), dtype=np.int8) * 2.0 - 1.0
        as_large += int(np.sum(np.abs(signs @ differences) / size >= observed - 1e-12))
    return (as_large + 1) / (resamples + 1)


def _chunks(size: int, resamples: int) -> Iterator[int]:
    chunk = max(1, _VALUES // size)
    for start in range(0, resamples, chunk):
        yield min(chunk, resamples - start)
