"""Intervals of rates, against published examples and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportion_confint,
    proportion_effectsize,
)

from analysis.statistics.rates import (
    cohens_h,
    difference_interval,
    effective_size,
    rate_interval,
    wilson,
)


@pytest.mark.parametrize(
    ("hits", "size", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:857, Table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(hits, size, low, high):
    assert wilson(hits / size, size) == pytest.approx((low, high), abs=5e-5)
    assert wilson(hits / size, size) == pytest.approx(
        proportion_confint(hits, size, method="wilson")
    )


def test_with_one_seed_a_case_is_one_trial():
    by_case = np.array([1.0] * 7 + [0.0] * 13)
    assert effective_size(by_case) == pytest.approx(20)
    assert rate_interval(by_case) == pytest.approx(proportion_confint(7, 20, method="wilson"))


def test_seeds_that_repeat_their_case_add_no_trials_and_independent_ones_do():
    rng = np.random.default_rng(0)
    repeated = (rng.random(1000) < 0.4).astype(float)
    assert effective_size(repeated) == pytest.approx(1000)
    independent = (rng.random((1000, 5)) < 0.4).mean(axis=1)
    assert effective_size(independent) == pytest.approx(5000, rel=0.1)


def test_without_correlation_a_difference_has_newcombes_interval_of_two_samples():
    first = np.array([1.0, 1.0, 0.0, 0.0] * 10)
    second = np.array([1.0, 0.0, 1.0, 0.0] * 10)
    found = difference_interval(first, second)
    assert found == pytest.approx(confint_proportions_2indep(20, 40, 20, 40, method="newcomb"))


def test_a_positive_correlation_narrows_the_interval_as_the_formula_says():
    both, only_first, only_second, neither = 43, 25, 12, 20
    first = np.repeat([1.0, 1.0, 0.0, 0.0], [both, only_first, only_second, neither])
    second = np.repeat([1.0, 0.0, 1.0, 0.0], [both, only_first, only_second, neither])
    n = 100
    p, q = 68 / n, 55 / n
    # Method 10: the numerator less n / 2.
    phi = (both * neither - only_first * only_second - n / 2) / np.sqrt(68 * 32 * 55 * 45)
    (l1, u1), (l2, u2) = (proportion_confint(k, n, method="wilson") for k in (68, 55))
    low = p - q - np.sqrt((p - l1) ** 2 - 2 * phi * (p - l1) * (u2 - q) + (u2 - q) ** 2)
    high = p - q + np.sqrt((u1 - p) ** 2 - 2 * phi * (u1 - p) * (q - l2) + (q - l2) ** 2)
    assert difference_interval(first, second) == pytest.approx((low, high))


def test_agents_that_agree_in_every_case_have_an_interval_that_is_no_point():
    same = np.array([1.0, 0.0] * 50)
    low, high = difference_interval(same, same)
    assert low == -high
    assert 0.01 < high < 0.05


def test_the_interval_holds_if_agents_differ_in_few_cases_and_in_one_direction():
    """99 cases, a rate of 0.5, the second better in a tenth of them: the usual correlation."""
    rng, inside, runs = np.random.default_rng(5), 0, 1_000
    for _ in range(runs):
        first = (rng.random(99) < 0.5).astype(float)
        second = np.where(rng.random(99) < 0.1, 1.0, first)
        low, high = difference_interval(second, first)
        inside += low <= 0.05 <= high
    assert inside / runs > 0.93


def test_rates_that_never_vary_have_an_interval_that_is_no_point():
    low, high = difference_interval(np.ones(30), np.zeros(30))
    assert high == 1
    assert 0.8 < low < 0.9


def test_effect_sizes_of_rates_are_cohens_h():
    assert cohens_h(0.7, 0.4) == pytest.approx(proportion_effectsize(0.7, 0.4))
