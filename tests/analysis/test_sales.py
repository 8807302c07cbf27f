"""The metrics of sales: each from single dialogues, by hand."""

from __future__ import annotations

import json

import pytest

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
LONG = {"turns": [{"turn": n, **t} for n, t in enumerate((ASKS, ASKS, SELLS, TAKEN), 1)]}
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
    ],
)
def test_shares_and_acceptance_are_pooled_over_turns(tmp_path, metric, mean, n):
    found = value(tmp_path, metric, LONG, SHORT)
    assert found.mean == (None if mean is None else pytest.approx(mean))
    assert found.episodes == n
