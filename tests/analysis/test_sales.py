"""The metrics of sales: each from single dialogues, by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agents.core.errors import UsageError
from analysis.metrics.core import parse_metric
from analysis.results import Results
from analysis.tables.table import make_table
from tests.analysis.builder import Built, grid_of
from tests.analysis.test_metrics import turns, value


def bought(over: bool | None, **more) -> dict:
    extra = json.dumps({"over_budget": over, **more}, separators=(",", ":"))
    return {"success_turn": 2, **turns({}, {"user_decision": "accept", "user_extra": extra})}


REFUSED = turns({"user_decision": "refuse", "user_extra": '{"refused_purchase":"B9"}'})
WITHIN, ABOVE, NO_PRICE = bought(False), bought(True), bought(None)


@pytest.mark.parametrize(
    ("episodes", "mean", "n"),
    [
        ([WITHIN, WITHIN], 0, 2),
        ([ABOVE, WITHIN, WITHIN, REFUSED], 1 / 3, 3),
        ([REFUSED, {}], None, 0),  # nothing is accepted
        ([NO_PRICE], None, 0),
        ([NO_PRICE, ABOVE], 1, 1),
        ([{"blame": "agent"}, {"blame": "infrastructure"}, ABOVE, WITHIN], 1 / 2, 2),
    ],
)
def test_the_sales_win_rate_is_of_accepted_items_alone(tmp_path, episodes, mean, n):
    found = value(tmp_path, "swr", *episodes)
    assert found.mean == (None if mean is None else pytest.approx(mean))
    assert found.episodes == n


def test_a_fault_of_infrastructure_is_no_failed_sale(tmp_path):
    """The authors' code counts one."""
    assert value(tmp_path, "sr@5", ABOVE, {"blame": "infrastructure"}).mean == 1


ASKS = {"action": "ask", "strategy": "preference_probing"}
SELLS = {"action": "persuade", "strategy": "framing"}
TAKEN = {**SELLS, "user_decision": "accept"}
LONG: dict[str, Any] = {
    "turns": [{"turn": n, **t} for n, t in enumerate((ASKS, ASKS, SELLS, TAKEN), 1)]
}
LONG["success_turn"] = 4
SHORT = {"turns": [{"turn": 1, **SELLS}], "success_turn": 1}


@pytest.mark.parametrize(
    ("metric", "mean", "n"),
    [
        ("turn_share@ask", 2 / 5, 2),
        ("turn_share@preference_probing", 2 / 5, 2),
        ("turn_share@framing", 3 / 5, 2),
        ("turn_share@recommend", 0, 2),
        ("turn_share@ask:1/2", 1, 1),
        ("turn_share@ask:2/2", 0, 2),
        ("turn_share@persuade:2/2", 1, 2),
        ("acceptance_after@framing", 1 / 3, 2),
        ("acceptance_after@ask", 0, 1),
        ("acceptance_after@social_proof", None, 0),
        ("acceptance_after@framing:first", 0, 2),  # LONG accepts after its second one
        ("acceptance_after@persuade:first", 0, 2),
    ],
)
def test_shares_and_acceptance_are_pooled_over_turns(tmp_path, metric, mean, n):
    found = value(tmp_path, metric, LONG, SHORT)
    assert found.mean == (None if mean is None else pytest.approx(mean))
    assert found.episodes == n


def answered(over: bool | None, *shown_in: int, decision: str = "accept") -> dict:
    """A persuasion in turn 2 and its answer. A refusal records `over` of its only offer."""
    budget = {"over_budget": over, "shown_in": list(shown_in)}
    extra = budget if decision == "accept" else {"offers": [budget]}
    turn = {
        **SELLS,
        "turn": 2,
        "user_decision": decision,
        "user_extra": json.dumps(extra, separators=(",", ":")),
    }
    return {"turns": [{"turn": 1, "action": "recommend"}, turn]}


@pytest.mark.parametrize(
    ("episodes", "all_accepted", "over", "n"),
    [
        ([answered(True, 2), answered(False, 1)], 1, 1 / 2, 2),
        ([answered(True, 1, 2), answered(True, 2, decision="refuse")], 1 / 2, 1 / 2, 2),
        (
            [answered(True, 1)],
            1,
            0,
            1,
        ),  # above the budget, but another offer than the one argued for
        ([answered(None, 2), answered(True, 2)], 1, 1, 1),  # no price
        ([SHORT], 0, None, 0),  # a user without a budget
    ],
)
def test_an_acceptance_over_budget_is_of_the_item_argued_for(
    tmp_path, episodes, all_accepted, over, n
):
    assert value(tmp_path / "a", "acceptance_after@framing:first", *episodes).mean == all_accepted
    for name in (
        "acceptance_after@persuade:first:over_budget",
        "acceptance_after@framing:over_budget",
    ):
        found = value(tmp_path / name.replace(":", "_"), name, *episodes)
        assert (found.mean, found.episodes) == (over, n)


def near(similarity: float | None) -> dict:
    extra = json.dumps({"target_similarity": similarity}, separators=(",", ":"))
    return {"success_turn": 1, **turns({"user_decision": "accept", "user_extra": extra})}


def test_the_similarity_win_rate_compares_the_same_user_under_two_cells(tmp_path):
    """By hand: user -> similarity of the item accepted in the first cell and in the second."""
    bought = {
        "a": (0.9, 0.2),
        "b": (0.1, 0.4),
        "c": (0.5, 0.5),
        "d": (0.8, None),
        "e": (None, None),
    }
    built = Built(grid_of("a", "b", backbones=["s"]), seeds=[0], case_ids=list(bought))
    for case_id, pair in bought.items():
        for cell, similarity in zip(built.cells, pair, strict=True):
            built.episode(cell, case_id, 0, **({} if similarity is None else near(similarity)))
    results = Results.open(built.write(tmp_path))
    names = ["similarity_win_rate", "similarity_win_rate@0"]
    table = make_table(results, names)
    first, second = table.rows
    assert [v.mean for v in first.values] == [pytest.approx(1.5 / 3), None]
    assert [v.mean for v in second.values] == [pytest.approx(1.5 / 3)] * 2
    assert [v.episodes for v in second.values] == [3, 3]
    assert (
        "similarity_win_rate@0 is defined for 3 of 10 episodes; left out: those of cell 0 itself, "
        "and dialogues that accept nothing here or there" in table.notes
    )
    with pytest.raises(UsageError, match="position of a cell"):
        parse_metric("similarity_win_rate@full")
    with pytest.raises(UsageError, match="there is no cell 2; the sweep has 2, counted from 0"):
        make_table(results, ["similarity_win_rate@2"])
