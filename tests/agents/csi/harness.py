"""A small shop for agents that sell: two branches of categories, prices from 10 to 90."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agents.core.agent import Agent, AgentContext
from agents.core.calls import Call
from agents.core.dialogue import AgentTurn, Dialogue, Message
from agents.core.items import Catalogue, Item, VisibleCase
from agents.csi import CSI
from tests.agents.playing import prompts_of
from tests.fakes import FakeModel, by_step, make_ask

ROOT = "Clothing, Shoes & Jewelry"
JEANS, SANDALS = (ROOT, "Women", "Jeans"), (ROOT, "Men", "Sandals")


def item(number: int, path: tuple[str, ...], words: str, price: float | None) -> Item:
    facts = {"category": path, "average rating": ("4.3",), "number of ratings": ("120",)}
    return Item(f"B{number}", f"Kotoshiro {words} {number}", facts, f"A {words} thing.", price)


ITEMS = (
    item(0, JEANS, "blue denim", 10.0),
    item(1, JEANS, "blue stretch denim", 20.0),
    item(2, JEANS, "black denim", 30.0),
    item(3, JEANS, "blue raw denim", 40.0),
    item(4, SANDALS, "leather slide", 15.0),
    item(5, SANDALS, "leather beach slide", 60.0),
    item(6, SANDALS, "rubber slide", None),
    item(7, SANDALS, "blue rubber slide", 90.0),
)
CATALOGUE = Catalogue(ITEMS, noun="clothing product")
OPENING = Message("user", "Blue denim please. My expected price range is $10.00 to $20.00.")


def offered(*numbers: int, words: str = "How about these?") -> tuple[Message, ...]:
    """What the recommender showed, and the user's answer."""
    shown = tuple(ITEMS[n] for n in numbers)
    return Message("recommender", words, shown), Message("user", "Tell me more.")


def plan(action: str, **changes: Any) -> dict[str, Any]:
    return {
        "thoughts": "THOUGHTS",
        "preference": "blue denim",
        "category_path": [],
        "personality": "PERSONALITY",
        "price_range": [10.0, 20.0],
        "selected_item": [],
        "action": action,
        **changes,
    }


def replies(action: str, **changes: Any) -> dict[str, Any]:
    """Replies of every step, for an agent that plans this action."""
    whole = plan(action, **changes)
    return {
        "plan": whole,
        "profile": {k: v for k, v in whole.items() if k not in ("thoughts", "action")},
        "think": {k: whole[k] for k in ("thoughts", "action")},
        "react": {k: whole[k] for k in ("thoughts", "price_range", "action")},
        "probe": {"message": "What do you like?"},
        "narrow": {"message": "Women or men?"},
        "sell": {"strategy": "social_proof", "sentence": "All our guests like it."},
    }


def context(
    shown_items: int = 2, catalogue: Catalogue = CATALOGUE, **artifacts: Any
) -> AgentContext:
    return AgentContext(catalogue, VisibleCase("u1", ()), shown_items, artifacts)


def agent_of(**options: Any) -> CSI:
    return CSI(CSI.Options(**options), context())


def answered(
    agent: Agent,
    given: dict[str, Any] | Callable[[Call], Any],
    *said: Message,
    name: str = "csi",
) -> tuple[AgentTurn, list[Call]]:
    """The agent's turn after `said`, and its calls."""
    model = FakeModel(given if callable(given) else by_step(**given))
    ask = make_ask(model, prompts_of("agents", name))
    turn = asyncio.run(agent.respond(Dialogue(list(said or (OPENING,))), ask))
    return turn, model.calls


def ids(items) -> list[str]:
    return [each.id for each in items]


def steps(calls) -> list[str]:
    return [call.step.name for call in calls]


def prompt(calls, step: str) -> str:
    [found] = (call for call in calls if call.step.name == step)
    return found.messages[0].content
