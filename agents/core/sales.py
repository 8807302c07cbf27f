"""What sales agents share (CSI, Tables 7 and 15): budgets, offers, and persuasion.

The budget is what the model infers from the conversation: an agent never knows the user's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from agents.core.dialogue import Dialogue
from agents.core.items import Catalogue, Item
from agents.core.steps import ReplyModel, Step, text

Strategy = Literal[
    "framing", "logical_appeal", "emotional_appeal", "evidence_based", "social_proof"
]
"""Table 7."""

_ALIASES = {"evidence_based_approach": "evidence_based"}


def strategy_of(name: object) -> object:
    """The strategy with this `name` in Table 7 or Table 15."""
    if not isinstance(name, str):
        return name
    plain = "_".join(name.lower().replace("-", " ").split())
    return _ALIASES.get(plain, plain)


HIGHEST_PRICE = 1_000_000
_LONGEST_DESCRIPTION = 300  # characters in a list: it stays in the prompts of all later turns

PriceRange = Annotated[
    list[Annotated[float, Field(ge=0, le=HIGHEST_PRICE)]],
    Field(
        max_length=2,
        description="Give the lowest and the highest price that the user expects to pay. Use 0 if "
        "the lowest is unknown, and [] if the user has said nothing about prices.",
    ),
]


class Persuasion(ReplyModel):
    strategy: Annotated[
        Strategy, BeforeValidator(strategy_of), Field(description="Choose the strategy.")
    ]
    sentence: Annotated[str, text(800, "Write your message to the user, using this strategy.")]


SELL = Step("sell", "verbalise", Persuasion)


def price_limit(prices: Sequence[float]) -> float | None:
    """The highest price in a `PriceRange`; None if it has none."""
    highest = max(prices, default=0.0)
    return highest if highest > 0 else None


def priced_within(catalogue: Catalogue, budget: float | None) -> np.ndarray:
    """(items,), bool: which items have a price of at most `budget`; all items without one."""
    if budget is None:
        return np.ones(len(catalogue), bool)
    return prices_of(catalogue) <= budget


def priced_above(catalogue: Catalogue, budget: float | None) -> np.ndarray:
    """(items,), bool: which items have a price above `budget`; none without one."""
    if budget is None:
        return np.zeros(len(catalogue), bool)
    return prices_of(catalogue) > budget


def prices_of(catalogue: Catalogue) -> np.ndarray:
    """(items,), float64; NaN where there is no price."""
    return np.array([np.nan if i.price is None else i.price for i in catalogue.items])


def shown_in(dialogue: Dialogue) -> tuple[Item, ...]:
    """Every item shown so far, in order of first appearance."""
    found = {item.id: item for message in dialogue.whole for item in message.shown}
    return tuple(found.values())


def named_item(name: str, among: Sequence[Item], catalogue: Catalogue) -> Item | None:
    """The item of `among` that a reply identifies by ID or title."""
    plain = name.strip("()[]<>\"' ")
    for item in among:
        if item.id == plain:
            return item
    if not plain or not among:
        return None
    found = catalogue.titles.ground(name, {catalogue.position[item.id] for item in among})
    return None if found is None else catalogue.items[found.place]


def suggestion(items: Sequence[Item]) -> str:
    """The message that presents `items`, a line each, written without a model as in CSI's released
    dialogues."""
    offers = (f"{n}. {offer(item)}" for n, item in enumerate(items, 1))
    return "\n".join(["Here are some items that you might like:", *offers])


def offer(item: Item) -> str:
    """`<title> (ID), $19.99, category: Women > Jeans, description: Soft.`, on one line."""
    parts = [f"<{item.title}> ({item.id})"]
    if item.price is not None:
        parts.append(f"${item.price:.2f}")
    if path := item.attributes.get("category"):
        parts.append(f"category: {' > '.join(path)}")
    if about := shorten(item.summary, _LONGEST_DESCRIPTION, placeholder=" ..."):
        parts.append(f"description: {about}")
    return ", ".join(parts)


def selling(selected: Item, candidate: Item, **fields: Any) -> dict[str, Any]:
    """The fields of `SELL`: the item to sell, and the one the user is looking at, if different."""
    other = () if selected == candidate else (selected,)
    return {"candidate": (candidate,), "selected": other, **fields}
