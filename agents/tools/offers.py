"""Reads the budget from the conversation, and searches with the whole conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue
from agents.core.items import Catalogue, Item
from agents.core.sales import (
    PriceRange,
    price_limit,
    priced_above,
    priced_within,
    selling,
)
from agents.core.steps import ReplyModel, Step
from agents.recommenders.core import best
from agents.tools.retrieval import Retriever


class _Prices(ReplyModel):
    price_range: PriceRange


READ_BUDGET = Step("read_budget", "extract", _Prices)


class Offer(NamedTuple):
    """`within` is in the budget, `above` is not; None where there is no such item. Without a known
    budget, every item is within it."""

    budget: float | None
    within: Item | None
    above: Item | None

    @property
    def items(self) -> tuple[Item, ...]:
        """What is shown: the one to persuade of first."""
        return tuple(item for item in (self.above, self.within) if item is not None)

    def fields(self, **fields: Any) -> dict[str, Any]:
        """The fields of `agents.core.sales.SELL`."""
        first, *rest = self.items
        return selling(rest[0] if rest else first, first, **fields)

    def extra(self) -> dict[str, Any]:
        return {
            "budget": self.budget,
            "within_budget": None if self.within is None else self.within.id,
            "above_budget": None if self.above is None else self.above.id,
        }


async def find_offer(
    dialogue: Dialogue, retriever: Retriever, catalogue: Catalogue, ask: Ask
) -> Offer:
    """Reads the budget off the conversation, and searches with all of its words."""
    noun, conversation = catalogue.noun, dialogue.messages
    prices = await ask(READ_BUDGET, noun=noun, conversation=conversation)
    budget = price_limit(prices.price_range)
    words = " ".join(message.text for message in conversation)
    scores = await retriever.by_query(words, ask)

    def first(allowed: Any) -> Item | None:
        found: Sequence[int] = best(scores, 1, among=allowed).tolist()
        return catalogue.items[found[0]] if found else None

    return Offer(
        budget,
        first(priced_within(catalogue, budget)),
        first(priced_above(catalogue, budget)),
    )
