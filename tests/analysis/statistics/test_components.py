"""Components of variance, and errors clustered by case and seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from analysis.statistics.components import Components, advice, components, two_way
from analysis.statistics.estimates import estimate
from analysis.statistics.scores import Sides


def drawn(cases=30, seeds=5, *, case=0.5, seed=0.2, rest=1.0, number=0):
    rng = np.random.default_rng(number)
    return (
        case * rng.normal(size=(cases, 1))
        + seed * rng.normal(size=(1, seeds))
        + rest * rng.normal(size=(cases, seeds))
    )


def frame(values):
    cases, seeds = values.shape
    return pd.DataFrame(
        {
            "value": values.ravel(),
            "case": np.repeat(np.arange(cases), seeds),
            "seed": np.tile(np.arange(seeds), cases),
        }
    )


def mean_squares(values):
    fitted = smf.ols("value ~ C(case) + C(seed)", frame(values)).fit()
    table = anova_lm(fitted)
    return (table.sum_sq / table.df).tolist()  # case, seed, rest


def test_components_are_those_of_the_analysis_of_variance():
    values = drawn()
    case, seed, rest = mean_squares(values)
    found = components(values)
    expected = ((case - rest) / 5, (seed - rest) / 30, rest, 30, 5)
    assert found == pytest.approx(expected)


def test_components_are_found_again_on_average():
    found = [components(drawn(seed=0.5, number=n)) for n in range(200)]
    means = np.mean([[c.case, c.seed, c.rest] for c in found if c], axis=0)
    assert means == pytest.approx([0.25, 0.25, 1.0], rel=0.15)


def test_a_case_without_all_seeds_is_left_out_and_too_few_cases_have_none():
    values = drawn()
    holes = values.copy()
    holes[3, 2] = np.nan
    assert components(holes) == components(np.delete(values, 3, axis=0))
    holes[1:, 0] = np.nan
    assert components(holes) is None
    assert two_way(holes) is None


def test_with_one_seed_all_variance_is_the_cases():
    values = drawn(seeds=1)
    assert components(values) == (pytest.approx(values.var(ddof=1)), 0, 0, 30, 1)
    assert two_way(values) is None
    assert "the effect of a second one is unknown" in advice(components(values), shared=False)


def test_two_way_errors_are_at_least_those_of_either_cluster_alone():
    values = drawn(seed=0.8)
    found = two_way(values)
    case, seed, rest = mean_squares(values)
    assert found.error**2 == pytest.approx(max(case + seed - rest, case, seed) / values.size)
    for cluster, size in (("case", 30), ("seed", 5)):
        data = frame(values)
        one_way = smf.ols("value ~ 1", data).fit(
            cov_type="cluster", cov_kwds={"groups": data[cluster]}
        )
        # statsmodels corrects by (n - 1) / (n - k) too, which is 1 here.
        assert found.error >= one_way.bse.iloc[0] * (1 - 1e-9), size


def test_degrees_of_freedom_lie_between_those_of_seeds_and_of_cases():
    assert two_way(drawn(seeds=3)).df == 2  # few seeds
    most = two_way(drawn(cases=40, seeds=10, seed=0, rest=0.1)).df
    least = two_way(drawn(cases=400, seeds=10, seed=3)).df
    assert 9 <= least < 10 < most <= 39


def test_values_that_never_vary_are_certain():
    found = two_way(np.full((10, 5), 0.5))
    assert (found.error, found.p(0.5), found.p(0.0)) == (0, 0, 1)
    assert found.interval(0.5) == (0.5, 0.5)
    assert "more cases or seeds change nothing" in advice(
        components(np.zeros((10, 5))), shared=False
    )


def test_the_advice_is_what_lowers_the_error_most():
    assert advice(Components(1.0, 0.0, 0.1, 50, 5), shared=False).endswith("add cases")
    assert advice(Components(0.01, 1.0, 1.0, 50, 5), shared=True).endswith("add seeds")
    # Where nothing is shared within a seed, seeds are no more than repetitions.
    assert advice(Components(0.01, 1.0, 1.0, 50, 5), shared=False).endswith("add cases")


def test_the_error_clustered_by_case_is_that_of_statsmodels():
    values = drawn()
    data = frame(values)
    expected = smf.ols("value ~ 1", data).fit(cov_type="cluster", cov_kwds={"groups": data["case"]})
    sides = Sides(values.mean(axis=1), np.zeros(30), values)
    found = estimate(sides, most=None, shared=False, resamples=100)
    assert found.error == pytest.approx(expected.bse.iloc[0])
    assert found.effect == pytest.approx(found.difference / values.mean(axis=1).std(ddof=1))
