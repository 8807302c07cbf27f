"""Estimates of differences, against scipy and against simulated sweeps with a known truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom, bootstrap, permutation_test, t
from statsmodels.stats.multitest import multipletests

from analysis.statistics.estimates import CASE_T, NEWCOMBE, SIGN_FLIPS, TWO_WAY
from analysis.statistics.resampling import bootstrap_interval, bootstrap_means, sign_flip
from analysis.statistics.significance import holm
from tests.analysis.statistics.simulated import Design, covered, estimated

SWEEPS, RESAMPLES = 400, 400


def plausible(hits: int, low: float, high: float) -> bool:
    """Whether `hits` of SWEEPS may come from a share in [low, high], at 3 standard errors."""
    return binom.ppf(0.00135, SWEEPS, low) <= hits <= binom.ppf(0.99865, SWEEPS, high)


@pytest.mark.parametrize(
    ("design", "method"),
    [
        (Design(99, 3), NEWCOMBE),
        (Design(99, 3, rates=False), CASE_T),
        (Design(99, 5, agent_seed=0.1), TWO_WAY),
        (Design(99, 10, agent_seed=0.3), TWO_WAY),
    ],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(design, method):
    (first,) = design.estimates(1, 0, 10)
    assert first.interval == method
    assert plausible(covered(design, SWEEPS, 1, RESAMPLES), 0.93, 0.97)


def test_few_seeds_of_training_are_marked_and_their_interval_is_wide_enough():
    design = Design(99, 3, agent_seed=0.3)
    (first,) = design.estimates(1, 0, 10)
    assert first.few_seeds
    assert covered(design, SWEEPS, 1, 10) >= binom.ppf(0.00135, SWEEPS, 0.93)


def test_few_seeds_are_no_problem_where_nothing_is_shared_within_them():
    (first,) = Design(99, 3).estimates(1, 0, 10)
    assert not first.few_seeds
    assert first.test == SIGN_FLIPS


def test_of_five_equal_agents_some_pair_differs_in_at_most_5_percent_of_sweeps():
    design = Design(99, 3, means=(0.0,) * 5)
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(SWEEPS // 4):
        agents = design.values(rng)
        pairs = itertools.combinations(agents, 2)
        hits += min(holm([estimated(design, a, b, 1_000).p for a, b in pairs])) < 0.05
    assert hits <= binom.ppf(0.99865, SWEEPS // 4, 0.05)


def test_the_bootstrap_is_that_of_scipy():
    values = np.random.default_rng(3).exponential(size=50)
    low, high = np.quantile(bootstrap_means(values, np.random.default_rng(0)), [0.025, 0.975])
    expected = bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert (low, high) == pytest.approx(tuple(expected), abs=0.03)


def test_the_interval_of_few_cases_is_wider_than_plain_percentiles():
    values = np.random.default_rng(3).normal(size=20)
    low, high = bootstrap_interval(values, np.random.default_rng(0))
    plain = np.quantile(bootstrap_means(values, np.random.default_rng(0)), [0.025, 0.975])
    # Of normal data it comes close to the interval of t.
    half = t.ppf(0.975, 19) * values.std(ddof=1) / 20**0.5
    assert high - low == pytest.approx(2 * half, rel=0.03)
    assert high - low > plain[1] - plain[0]


def test_the_sign_flip_is_that_of_scipy():
    values = np.random.default_rng(4).normal(0.25, 1, size=40)
    expected = permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=10_000, rng=1
    ).pvalue
    assert sign_flip(values, np.random.default_rng(0)) == pytest.approx(expected, abs=0.015)


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(5).random(12) ** 3
    assert holm(list(p)) == pytest.approx(multipletests(p, method="holm")[1])


def test_one_case_has_a_difference_and_no_error():
    found = estimated(Design(1, 2), np.ones((1, 2)), np.zeros((1, 2)), 100)
    assert (found.difference, found.error, found.effect, found.variance) == (1, None, None, None)
    assert found.p == 1
