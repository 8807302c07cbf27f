"""ChatCRS as CSI's baseline (C.1.1): it retrieves, recommends and persuades in every turn.

This ChatCRS is the agent of iEvaLM (Wang et al. 2023), not Li et al.'s (`agents.chatcrs`). It
searches with the whole conversation for the most relevant item in the budget and the most relevant
one above it, recommends the first, and persuades the user to consider the second by one of the
strategies of CSI.

Decided here:

- The budget is read off the conversation by a model call of its own; the paper does not say how.
- The same items may be offered again: the paper's agent retrieves in every turn.
- Where no item is above the budget, or no budget is known, only one item is shown and argued for.
"""

from __future__ import annotations

from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.errors import AgentError
from agents.core.sales import SELL
from agents.tools.offers import READ_BUDGET, find_offer
from agents.tools.retrieval import RetrieverOptions, RetrievingAgent

__all__ = ["ChatCRSSales"]


class ChatCRSSales(RetrievingAgent):
    """Offers an item in the budget and one above it, in every turn."""

    version = 4
    options: RetrieverOptions
    steps = (READ_BUDGET, SELL)

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        catalogue = self.context.catalogue
        offer = await find_offer(dialogue, self._retriever, catalogue, ask)
        if not offer.items:
            raise AgentError("no item of the catalogue has a price")
        reply = await ask(
            SELL, noun=catalogue.noun, conversation=dialogue.messages, **offer.fields()
        )
        items = offer.items
        return AgentTurn(
            reply.sentence, "persuade", items, items, items, reply.strategy, offer.extra()
        )
