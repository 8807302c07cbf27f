"""Power, against statsmodels and against simulated sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from analysis.statistics.components import Components
from analysis.statistics.power import cases_needed, detectable, of_spread, power, seeds_needed


@pytest.mark.parametrize(("cases", "difference"), [(20, 0.1), (99, 0.05), (1000, 0.02), (3, 5.0)])
def test_power_is_that_of_a_paired_t_test(cases, difference):
    variance = of_spread(0.4, 1.0)
    expected = TTestPower().power(difference / 0.4, cases, 0.05)
    assert power(difference, variance, cases, 1) == pytest.approx(expected, abs=1e-6)


def test_what_is_needed_is_the_fewest_that_have_the_power():
    variance = Components(0.1, 0.02, 0.2, 50, 5)
    needed = cases_needed(0.05, variance, 5)
    assert power(0.05, variance, needed, 5) >= 0.8 > power(0.05, variance, needed - 1, 5)
    seeds = seeds_needed(0.1, variance, 100)
    assert power(0.1, variance, 100, seeds) >= 0.8 > power(0.1, variance, 100, seeds - 1)


def test_more_seeds_never_replace_cases_and_the_other_way_round():
    assert seeds_needed(0.01, Components(0.1, 0, 0.1, 50, 5), 50) is None
    assert cases_needed(0.01, Components(0.1, 0.2, 0.1, 50, 5), 5, shared=True) is None


def test_the_smallest_difference_has_the_power():
    variance = Components(0.1, 0.02, 0.2, 50, 5)
    for shared in (False, True):
        least = detectable(variance, 50, 5, shared=shared, alpha=0.01)
        assert power(least, variance, 50, 5, shared=shared, alpha=0.01) == pytest.approx(0.8)
    assert detectable(variance, 1, 5) is None
    assert detectable(variance, 50, 1, shared=True) is None
    assert detectable(of_spread(0.0, 0.5), 50, 5) == 0


def test_the_share_of_the_case_is_what_seeds_do_not_average_out():
    one, many = (of_spread(0.6, 0.25).error(100, seeds, shared=False) for seeds in (1, 10**9))
    assert one == pytest.approx(0.06)
    assert many == pytest.approx(0.03)


def test_power_is_reached_by_the_test_that_is_done():
    """300 sweeps at a promised 0.8: 5 points and three standard errors of the simulation."""
    from tests.analysis.statistics.simulated import Design

    design = Design(99, 3, means=(0.33, 0.0))
    pilot = np.mean([e.variance[:3] for e in design.estimates(40, 5, 10)], axis=0)
    promised = power(design.truth, Components(*pilot, 99, 3), 99, 3)
    found = np.mean([e.p < 0.05 for e in design.estimates(300, 6, 500)])
    assert found == pytest.approx(promised, abs=0.05 + 3 * (0.8 * 0.2 / 300) ** 0.5)
