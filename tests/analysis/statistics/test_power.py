"""Power, against statsmodels and against simulated sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, multinomial
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
    assert needed is not None
    assert power(0.05, variance, needed, 5) >= 0.8 > power(0.05, variance, needed - 1, 5)
    seeds = seeds_needed(0.1, variance, 100)
    assert seeds is not None
    assert power(0.1, variance, 100, seeds) >= 0.8 > power(0.1, variance, 100, seeds - 1)


def test_more_seeds_never_replace_cases_and_the_other_way_round():
    assert seeds_needed(0.01, Components(0.1, 0, 0.1, 50, 5), 50) is None
    assert cases_needed(0.01, Components(0.1, 0.2, 0.1, 50, 5), 5, shared=True) is None


def test_the_smallest_difference_has_the_power():
    variance = Components(0.1, 0.02, 0.2, 50, 5)
    for shared, step in ((False, 0.0), (False, 1.0), (True, 1.0)):
        options = {"shared": shared, "alpha": 0.01, "step": step}
        least = detectable(variance, 50, 5, **options)
        assert least is not None
        assert power(least, variance, 50, 5, **options) == pytest.approx(0.8)
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
    pilot = [e.variance for e in design.estimates(40, 5, 10) if e.variance is not None]
    case, seed, rest = map(float, np.mean([v[:3] for v in pilot], axis=0))
    variance = Components(case, seed, rest, 99, 3)
    promised = power(design.truth, variance, 99, 3, step=1.0)
    found = np.mean([e.p < 0.05 for e in design.estimates(300, 6, 500)])
    assert found == pytest.approx(promised, abs=0.05 + 3 * (0.8 * 0.2 / 300) ** 0.5)


def test_steps_of_rates_cost_power_in_small_sweeps():
    """Against the exact power of sign flips, for 30 cases with a difference of -1, 0 or 1."""
    cases, worse, same, better = 30, 0.1, 0.5, 0.4
    exact = 0.0
    for won in range(cases + 1):
        lost = np.arange(cases + 1 - won)
        lead, moved = abs(won - lost), won + lost
        # Under random signs the lead of `moved` cases is 2 B - moved, B binomial.
        p = np.minimum(1.0, 2 * binom.sf((moved + lead + 1) // 2 - 1, moved, 0.5))
        ways = multinomial.pmf(
            np.stack([np.full_like(lost, won), lost, cases - moved], axis=1),
            cases, [better, worse, same],
        )  # fmt: skip
        exact += float(ways[p <= 0.05].sum())
    variance = of_spread((better + worse - (better - worse) ** 2) ** 0.5, 1.0)
    with_steps, without = (power(0.3, variance, cases, 1, step=step) for step in (1.0, 0.0))
    assert with_steps == pytest.approx(exact, abs=0.05)
    assert without > exact + 0.05
    assert power(0.05, variance, 10**6, 1, step=1.0) == pytest.approx(1)
