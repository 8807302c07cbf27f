"""Differences between two values of an axis, over cases."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from agents.core.errors import UsageError
from analysis.results import Results
from analysis.statistics.compare import compare, compare_all
from analysis.statistics.resampling import sign_flip
from analysis.statistics.significance import holm
from tests.analysis.builder import Built, Cell, grid_of

Wins = Callable[[Cell, str, int], bool]


def results(folder, cells: list[Cell], wins: Wins, *, cases: int = 20) -> Results:
    built = Built(cells, case_ids=[f"u{n}" for n in range(cases)])
    for cell in cells:
        for case_id in built.case_ids:
            for seed in built.seeds:
                won = wins(cell, case_id, seed)
                built.episode(cell, case_id, seed, success_turn=1 if won else None)
    return Results.open(built.write(folder))


def test_the_difference_is_the_mean_over_cases_of_case_means(tmp_path):
    random_, won = random.Random(1), {}

    def wins(cell: Cell, case_id: str, seed: int) -> bool:
        chance = 0.8 if cell.axes["roles.agent"] == "strong" else 0.3
        return won.setdefault((cell.cell_id, case_id, seed), random_.random() < chance)

    found = compare(
        results(tmp_path, grid_of("a", "b"), wins), "sr@5", "roles.agent", "strong", "weak"
    )
    cases = {case for _, case, _ in won}
    by_case = {
        side: {
            case: np.mean([v for (c, k, _), v in won.items() if k == case and c.endswith(side)])
            for case in cases
        }
        for side in ("strong", "weak")
    }
    differences = [by_case["strong"][c] - by_case["weak"][c] for c in cases]
    assert found.difference == pytest.approx(float(np.mean(differences)))
    spread = 1.96 * float(np.std(differences)) / len(cases) ** 0.5
    assert found.low == pytest.approx(found.difference - spread, abs=0.03)
    assert found.high == pytest.approx(found.difference + spread, abs=0.03)
    assert (found.cases, found.p < 0.001) == (20, True)
    pairs = [[by_case[side][c] for c in cases] for side in ("strong", "weak")]
    assert found.correlation == pytest.approx(float(np.corrcoef(pairs)[0, 1]))


def test_a_cell_without_a_partner_brings_no_other_axis_into_the_difference(tmp_path):
    cells = [
        Cell("z/s", {"agent": "z", "roles.agent": "s"}),
        Cell("z/w", {"agent": "z", "roles.agent": "w"}),
        Cell("r/s", {"agent": "r", "roles.agent": "s"}),
    ]
    found = results(tmp_path, cells, lambda cell, *_: cell.axes["roles.agent"] == "s")
    assert compare(found, "sr@5", "agent", "z", "r").difference == 0


def test_axes_that_go_along_with_the_compared_one_need_not_agree(tmp_path):
    cells = [
        Cell(f"{a}/{m}", {"agent": a, "prompts": f"for {a}", "roles.agent": m})
        for a in "ab"
        for m in "sw"
    ]
    found = results(tmp_path, cells, lambda cell, *_: cell.axes["agent"] == "a")
    assert compare(found, "sr@5", "agent", "a", "b").difference == 1


def test_all_pairs_are_corrected_by_holm_and_stay_in_order(tmp_path):
    cells = grid_of("a", "b", "c", backbones=["s"])
    chance = {"a": 0.9, "b": 0.5, "c": 0.5}
    random_ = random.Random(2)
    found = compare_all(
        results(tmp_path, cells, lambda cell, *_: random_.random() < chance[cell.axes["agent"]]),
        ["sr@5"],
        "agent",
    ).found
    assert [(c.first, c.second) for c in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    ordered = sorted(found, key=lambda c: c.p)
    expected, least = [], 0.0
    for rank, one in enumerate(ordered):
        least = max(least, min(1.0, one.p * (3 - rank)))
        expected.append(least)
    assert [c.p_holm for c in ordered] == pytest.approx(expected)


def test_against_a_baseline_each_other_value_is_compared_in_every_metric(tmp_path):
    full, without = "a(deep=true, k=3)", "a(deep=false, k=3)"
    sweep = results(
        tmp_path, grid_of(full, without, "b"), lambda cell, *_: cell.axes["agent"] == full
    )
    found = compare_all(sweep, ["sr@5", "at_fail_t"], "agent", "a(deep=true)").found
    assert [(c.metric, c.first, c.second) for c in found] == [
        (metric, first, full) for metric in ("sr@5", "at_fail_t") for first in (without, "b")
    ]
    assert [c.difference for c in found[:2]] == [-1, -1]
    tests = [c.p for c in found]
    assert [c.p_holm for c in found] == holm(tests)  # over both metrics
    with pytest.raises(
        UsageError, match=r"no value 'a\(deep=tru\)'.*did you mean 'a\(deep=true\)'"
    ):
        compare_all(sweep, ["sr@5"], "agent", "a(deep=tru)")


def test_no_difference_at_all_is_p_1_and_the_same_every_time(tmp_path):
    sweep = results(tmp_path, grid_of("a", "b"), lambda *_: True)
    once, again = (compare(sweep, "sr@5", "agent", "a", "b") for _ in range(2))
    assert once == again
    assert (once.difference, once.boot_low, once.boot_high, once.p) == (0, 0, 0, 1)
    assert (once.correlation, once.effect) == (None, None)
    # That 20 of 20 cases succeeded on both sides leaves room for a difference.
    assert (once.low, once.high) == pytest.approx((-0.161, 0.161), abs=0.001)


def test_the_test_keeps_its_level_when_cases_differ_and_seeds_repeat_them():
    """A null of 40 cases with an effect of agent by case: at most about 5 % may be significant."""
    rng = np.random.default_rng(0)
    hits = sum(sign_flip(rng.normal(size=40), rng) < 0.05 for _ in range(200))
    assert hits <= 20  # 5 % of 200 are 10; 20 has a chance below 0.2 %


@pytest.mark.parametrize(
    ("axis", "first", "second", "message"),
    [
        ("agnt", "a", "b", "did you mean 'agent'"),
        ("agent", "a", "bb", "no value 'bb'.*values: a, b"),
    ],
)
def test_unknown_axes_and_values_are_named(tmp_path, axis, first, second, message):
    sweep = results(tmp_path, grid_of("a", "b"), lambda *_: True, cases=2)
    with pytest.raises(UsageError, match=message):
        compare(sweep, "sr@5", axis, first, second)


def test_data_sets_share_no_cases_and_cannot_be_compared(tmp_path):
    cells = [Cell(n, {"domain": n}, f"source {n}") for n in "xy"]
    sweep = results(tmp_path, cells, lambda *_: True, cases=2)
    with pytest.raises(UsageError, match="no case has"):
        compare_all(sweep, ["sr@5"], "domain")


def test_an_axis_of_one_value_has_nothing_to_compare(tmp_path):
    sweep = results(tmp_path, grid_of("a"), lambda *_: True, cases=2)
    with pytest.raises(UsageError, match="one value"):
        compare_all(sweep, ["sr@5"], "agent")


def test_a_metric_of_a_group_compares_its_users_alone(tmp_path):
    built = Built(grid_of("a", "b", backbones=["m"]), seeds=[0])
    built.groups = {"u0": ["Active"], "u1": ["Active"], "u2": ["Passive"], "u3": ["Passive"]}
    for cell in built.cells:
        for case_id in built.case_ids:
            won = cell.axes["agent"] == "a" and case_id in ("u0", "u2", "u3")
            built.episode(cell, case_id, 0, success_turn=1 if won else None)
    sweep = Results.open(built.write(tmp_path))
    found = [
        compare(sweep, f"sr@5{group}", "agent", "a", "b")
        for group in ("[Active]", "[Passive]", "[overall_pooled]")
    ]
    assert [(c.difference, c.cases) for c in found] == [(0.5, 2), (1, 2), (0.75, 4)]
    assert [(c.counted, c.planned) for c in found] == [(2, 2), (2, 2), (4, 4)]
    with pytest.raises(UsageError, match="not a mean over cases"):
        compare(sweep, "sr@5[overall_macro]", "agent", "a", "b")
