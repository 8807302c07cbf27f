"""The baselines of CSI: what they retrieve, offer and say, and how PC-CRS checks its claims."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from agents.chatcrs_sales import ChatCRSSales
from agents.core.agent import AgentContext
from agents.core.dialogue import Message
from agents.core.errors import AgentError
from agents.core.items import Catalogue, Item, VisibleCase
from agents.macrs import MACRS
from agents.pc_crs import PCCRS
from agents.tools.retrieval import ITEM_VECTORS
from tests.agents.csi.harness import (
    CATALOGUE,
    ITEMS,
    OPENING,
    answered,
    context,
    ids,
    offered,
    prompt,
    steps,
)

SOLD = {"sell": {"strategy": "framing", "sentence": "Take the better one."}}


def reading(*prices: float):
    return {"read_budget": {"price_range": list(prices)}, **SOLD}


def chatcrs(**options) -> ChatCRSSales:
    return ChatCRSSales(ChatCRSSales.Options(**options), context())


@pytest.mark.parametrize(
    ("prices", "shown"),
    [
        ([10.0, 20.0], ["B3", "B1"]),  # the best above the budget first, then the best within
        ([0.0, 40.0], ["B7", "B1"]),
        ([1.0, 100.0], ["B1"]),  # nothing is above the budget
        ([1.0, 5.0], ["B1"]),  # nothing is within it
        ([], ["B1"]),
    ],
)
def test_chatcrs_offers_the_best_item_within_the_budget_and_the_best_above_it(prices, shown):
    said = (Message("user", "Blue stretch denim, raw."),)
    turn, calls = answered(chatcrs(), reading(*prices), *said, name="chatcrs_sales")
    assert ids(turn.shown) == shown
    assert (turn.action, turn.strategy, turn.text) == (
        "persuade",
        "framing",
        "Take the better one.",
    )
    assert steps(calls) == ["read_budget", "sell"]
    words = prompt(calls, "sell")
    assert "category: Clothing, Shoes & Jewelry > Women > Jeans\n" in words  # names have commas
    assert ("The item that fits the budget:" in words) == (len(shown) == 2)
    assert turn.extra["budget"] == (max(prices) if prices else None)


def test_chatcrs_searches_with_the_whole_conversation_and_may_offer_an_item_again():
    said = (OPENING, *offered(1, 3, words="leather"), *offered(1, words="leather slide"))
    turn, _ = answered(chatcrs(), reading(10.0, 20.0), *said, name="chatcrs_sales")
    assert ids(turn.shown)[1] == "B4"
    again, _ = answered(chatcrs(), reading(10.0, 20.0), OPENING, *offered(1), name="chatcrs_sales")
    assert "B1" in ids(again.shown) or "B0" in ids(again.shown)


def test_a_catalogue_without_prices_cannot_be_sold_from():
    plain = Catalogue([Item("1", "a"), Item("2", "b")], noun="thing")
    agent = ChatCRSSales(ChatCRSSales.Options(), context(catalogue=plain))
    with pytest.raises(AgentError, match="has a price"):
        answered(agent, reading(5.0), name="chatcrs_sales")
    turn, _ = answered(agent, reading(), name="chatcrs_sales")
    assert len(turn.shown) == 1


MACRS_REPLIES = {
    "inform": {"demand": "denim", "browsing": "nothing"},
    "ask": {"question": "Which colour?"},
    "chat": {"message": "Nice day."},
    "recommend": {"titles": [ITEMS[0].title]},
    "respond": {"response": "Here."},
    "reflect": dict.fromkeys(("cause", "asking", "recommending", "chatting", "planning"), "x"),
}


@pytest.mark.parametrize("act", ["recommend", "ask", "chat"])
def test_macrs_for_sales_lets_the_planner_choose_and_sells_what_it_retrieved(act):
    agent = MACRS(MACRS.Options(sales=True), context())
    given = {**MACRS_REPLIES, **reading(10.0, 20.0), "plan": {"thought": "t", "act": act}}
    turn, calls = answered(agent, given, name="macrs")
    assert "recommend" not in steps(calls)
    assert "respond" not in steps(calls)
    assert ("sell" in steps(calls)) == (act == "recommend")
    assert ITEMS[3].title in prompt(calls, "plan") or ITEMS[2].title in prompt(calls, "plan")
    assert "category: Clothing, Shoes & Jewelry > Women > Jeans\n" in prompt(calls, "plan")
    if act == "recommend":
        assert (turn.action, turn.strategy) == ("persuade", "framing")
        assert turn.extra["budget"] == 20.0
        assert len(turn.shown) == 2
        _, calls = answered(agent, given, OPENING, *offered(1), name="macrs")
        assert "reflect" in steps(calls)  # an offer that was not taken is a failure
    else:
        assert (turn.action, turn.shown) == (act, ())


def test_macrs_for_sales_sees_no_history():
    """The paper's MACRS has the conversation alone; the hidden profile is written from history."""
    case = VisibleCase("u1", (ITEMS[6],))
    for sales, seen in ((True, False), (False, True)):
        agent = MACRS(MACRS.Options(sales=sales), AgentContext(CATALOGUE, case, 2))
        given = {**MACRS_REPLIES, **reading(10.0, 20.0), "plan": {"thought": "t", "act": "chat"}}
        _, calls = answered(agent, given, name="macrs")
        for step in ("inform", "ask", "chat", "plan"):
            words = prompt(calls, step)
            assert ("liked these before" in words, ITEMS[6].title in words) == (seen, seen)
            assert "\n\n\n" not in words
    with pytest.raises(ValidationError, match="`history_items: 5` has no effect"):
        MACRS.Options(sales=True, history_items=5)
    MACRS.Options(sales=True, history_items=0)


def test_macrs_without_sales_is_as_before():
    agent = MACRS(MACRS.Options(), context())
    given = {**MACRS_REPLIES, "plan": {"thought": "t", "act": "recommend"}}
    turn, calls = answered(agent, given, name="macrs")
    assert (turn.action, ids(turn.shown)) == ("recommend", ["B0"])
    assert "read_budget" not in steps(calls)
    assert MACRS.needs(agent.options) == {}
    assert set(MACRS.needs(MACRS.Options(sales=True, retriever="dense"))) == {ITEM_VECTORS}


def pc_crs(**options) -> PCCRS:
    return PCCRS(PCCRS.Options(**options), context())


def explained(*checks: list[str], **changes):
    usual = {
        "choose": {"reason": "r", "strategy": "anchoring"},
        "explain": {"message": "DRAFT"},
        "criticise": [{"unsupported": found} for found in checks],
        "refine_message": [{"message": f"REVISION {n}"} for n in range(1, 9)],
    }
    return usual | changes


@pytest.mark.parametrize(
    ("rounds", "checks", "message", "calls"),
    [
        (2, [[]], "DRAFT", ["criticise"]),
        (2, [["a"], []], "REVISION 1", ["criticise", "refine_message", "criticise"]),
        (2, [["a"], ["b"]], "REVISION 2", ["criticise", "refine_message"] * 2),
        (1, [["a"]], "REVISION 1", ["criticise", "refine_message"]),
        (0, [], "DRAFT", []),
    ],
)
def test_pc_crs_revises_what_its_critic_finds_unsupported(rounds, checks, message, calls):
    turn, made = answered(pc_crs(rounds=rounds), explained(*checks), name="pc_crs")
    assert turn.text == message
    assert steps(made) == ["choose", "explain", *calls]
    assert turn.extra["unsupported"] == checks
    assert (turn.action, turn.strategy) == ("persuade", "anchoring")
    assert {c.role for c in made if c.step.name == "criticise"} <= {"agent.critic"}
    if len(calls) > 1:
        words = next(c for c in made if c.step.name == "refine_message").messages[0].content
        assert "Your draft: DRAFT" in words
        assert "- a" in words


def test_pc_crs_does_not_know_the_history():
    """An item that the user has bought may be recommended: leaving it out would tell."""
    case = VisibleCase("u1", ITEMS)
    agent = PCCRS(PCCRS.Options(), AgentContext(CATALOGUE, case, 2))
    first, _ = answered(agent, explained([]), name="pc_crs")
    same, _ = answered(pc_crs(), explained([]), name="pc_crs")
    assert first.ranking == same.ranking
    later, _ = answered(agent, explained([]), OPENING, *offered(0), name="pc_crs")
    assert "B0" not in ids(later.ranking)


def test_pc_crs_recommends_one_item_that_was_not_shown_and_shows_its_facts():
    turn, calls = answered(pc_crs(), explained([]), name="pc_crs")
    assert len(turn.shown) == 1
    first = turn.shown[0]
    assert "average rating: 4.3" in prompt(calls, "explain")
    for step in ("choose", "explain", "criticise"):
        words = prompt(calls, step).split("The recommended item and what is known about it:\n")[1]
        facts = [
            f"- {first.title}",
            f"  category: {' > '.join(first.attributes['category'])}",
            "  average rating: 4.3",
            "  number of ratings: 120",
            f"  price: {first.price:.2f}",
            f"  description: {first.description}",
        ]
        assert words.split("\n")[:6] == facts
    place = int(first.id[1:])
    later, _ = answered(pc_crs(), explained([]), OPENING, *offered(place), name="pc_crs")
    assert later.shown != turn.shown
    same, _ = answered(pc_crs(repeat=True), explained([]), OPENING, name="pc_crs")
    assert same.shown == turn.shown
    everything, _ = answered(pc_crs(), explained([]), OPENING, *offered(*range(8)), name="pc_crs")
    assert len(everything.shown) == 1
