"""What figures show, in numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from agents.core.errors import UsageError
from analysis.figures.data import by_turn, frontier, groups_of, metric_points, shares
from analysis.results import Results
from analysis.tables.table import make_table, metrics_of
from tests.analysis.builder import TURN, Built, Cell, grid_of


def sweep(folder, *, seeds=(0, 1, 2), cases=20, source=lambda _: "source") -> Results:
    rng = random.Random(2)
    cells = [
        Cell(f"{a}/{m}", {"agent": a, "roles.agent": m}, source(m)) for a in "ab" for m in "sw"
    ]
    built = Built(cells, seeds=list(seeds), case_ids=[f"u{n}" for n in range(cases)])
    for cell in cells:
        for case_id in built.case_ids:
            for seed in seeds:
                turn = rng.choice([1, 2, 4, None])
                turns = [{**TURN, "turn": n, "action": "ask"} for n in range(1, (turn or 5))]
                last = {**TURN, "turn": turn or 5, "action": "recommend"}
                built.episode(cell, case_id, seed, success_turn=turn, turns=[*turns, last])
    return Results.open(built.write(folder))


def test_points_of_cells_are_the_means_of_the_table(tmp_path):
    results = sweep(tmp_path)
    for name in ("sr@5", "at_fail_plus_1"):
        found = metric_points(results, *metrics_of(results, [name]), groups_of(results, None))
        table = make_table(results, [name])
        assert [p.mean for p in found] == pytest.approx([r.values[0].mean for r in table.rows])
        assert all(p.low < p.mean < p.high and len(p.seeds) == 3 for p in found)
        assert [np.std(p.seeds, ddof=1) for p in found] == pytest.approx(
            [r.values[0].std for r in table.rows]
        )


def test_with_one_seed_a_rate_has_the_interval_of_wilson(tmp_path):
    results = sweep(tmp_path, seeds=[0])
    found = metric_points(results, *metrics_of(results, ["sr@5"]), groups_of(results, None))
    for point in found:
        expected = proportion_confint(round(point.mean * 20), 20, method="wilson")
        assert (point.low, point.high) == pytest.approx(expected)


@pytest.mark.parametrize("source", [lambda _: "source", lambda m: f"of {m}"])
def test_a_group_is_the_mean_of_its_cells_in_one_source_or_several(tmp_path, source):
    results = sweep(tmp_path, source=source)
    groups = groups_of(results, "agent")
    assert [(g.label, g.cells) for g in groups] == [("a", [0, 1]), ("b", [2, 3])]
    found = metric_points(results, *metrics_of(results, ["sr@5"]), groups)
    means = [row.values[0].mean for row in make_table(results, ["sr@5"]).rows]
    assert [p.mean for p in found] == pytest.approx([np.mean(means[:2]), np.mean(means[2:])])
    assert found[0].cases == (20 if source("s") == source("w") else 40)


def test_success_by_turn_never_falls(tmp_path):
    results = sweep(tmp_path)
    (first, *_) = by_turn(results, "sr", groups_of(results, None), 5)
    means = [point.mean for point in first]
    assert means == sorted(means)
    assert means[1] == means[2]  # no success at turn 3


def test_shares_are_of_the_dialogues_that_got_to_a_turn(tmp_path):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0", "u1", "u2"])
    ask, show = ({**TURN, "action": action} for action in ("ask", "recommend"))
    cell = built.cells[0]
    built.episode(cell, "u0", 0, turns=[ask, {**show, "turn": 2}], success_turn=2)
    built.episode(cell, "u1", 0, turns=[show], success_turn=1)
    built.failed(cell, "u2", 0, "agent", turns=[show])  # an unfinished dialogue is left out
    results = Results.open(built.write(tmp_path))
    (found,) = shares(results, "action", groups_of(results, None))
    assert (found.turns, found.counts) == ([1, 2], [2, 1])
    assert found.shares == {"recommend": [0.5, 1.0], "ask": [0.5, 0.0]}
    (halves,) = shares(results, "action", groups_of(results, None), parts=2)
    assert (halves.turns, halves.counts) == ([1, 2], [1, 2])  # the middle of u1's turn is 1/2
    (thirds,) = shares(results, "action", groups_of(results, None), parts=3)
    assert (thirds.turns, thirds.counts) == ([1, 2, 3], [1, 1, 1])
    assert thirds.shares == {"recommend": [0.0, 1.0, 1.0], "ask": [1.0, 0.0, 0.0]}
    assert halves.shares == {"recommend": [0.0, 1.0], "ask": [1.0, 0.0]}
    with pytest.raises(UsageError, match="no turn has a value of strategy"):
        shares(results, "strategy", groups_of(results, None))


def test_the_frontier_has_what_nothing_beats_in_both():
    costs = [3.0, 1.0, 2.0, 2.5, np.nan, 4.0]
    gains = [0.5, 0.2, 0.4, 0.3, 0.9, np.nan]
    assert frontier(costs, gains) == [1, 2, 0]
    assert frontier([1.0, 1.0], [0.2, 0.4]) == [1]
    assert frontier([], []) == []


def test_too_many_cells_ask_for_an_axis(tmp_path):
    built = Built(grid_of(*"abcdef")).write(tmp_path)
    with pytest.raises(UsageError, match=r"12 groups are too many.*--axis AXIS \(axes: agent"):
        groups_of(Results.open(built), None)
