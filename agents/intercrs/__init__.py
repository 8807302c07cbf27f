"""InterCRS (DESIRE, section 4.1.2; Wang et al. 2023, iEvaLM, the paper's reference [23]).

Wang et al. prompt a chat model without training to act as a recommender: it asks while it knows too
little, and lists ten items once it knows enough. Since it names items that the data set lacks, they
add an external recommendation model, which takes the conversation and the model's reply and picks
the items from the data set. DESIRE compares with this variant ("integrated with the recommendation
model").

We decided: the decision, the list and the message are calls of their own, as for our other agents.
The model's list is the part of its reply that our recommenders can take, since they score items for
a history, not for a text: the titles of the list that the catalogue has are appended to the user's
history, and the items with the highest scores are recommended. So the conversation reaches the
recommender through the titles, and every item that is shown comes from the recommender. Wang et al.
match texts with an embedding model or a conversational recommender (MESE) instead; ours is the
recommender of the sweep, the same for all agents that have one. With `retriever: dense` (or
`lexical`) items are matched by text instead, as Wang et al. do: those nearest to the conversation
and the titles of the list. It needs no interactions to train on (INSPIRED, ReDial).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from agents.core.agent import AgentContext
from agents.core.artifacts import Recipe
from agents.core.ask import Ask
from agents.core.decision_first import (
    ASK,
    CHOOSE_ACTION,
    RECOMMEND,
    RESPOND,
    DecisionFirst,
    DecisionFirstOptions,
)
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.grounded_titles import GroundedTitles, ground_mentions
from agents.recommenders.core import Recommender, RecommenderRef, best, pool, positions
from agents.tools.retrieval import (
    RETRIEVER_ROLE,
    Retriever,
    RetrieverName,
    RetrieverOptions,
    retriever_needs,
    retriever_of,
    retriever_roles,
)

__all__ = ["InterCRS"]


_DEPTH = 50  # of the ranking that is recorded where items are matched by text


class _Options(RetrieverOptions, DecisionFirstOptions):
    recommender: RecommenderRef = Field(
        default_factory=lambda: RecommenderRef.model_validate("item_knn")
    )
    retriever: RetrieverName | None = None  # pyright: ignore[reportIncompatibleVariableOverride] options are frozen
    """Match items by text instead of a recommender; `dense` by the role `agent.retriever`."""


class InterCRS(DecisionFirst):
    """The model speaks; the items come from a recommender that takes what it names."""

    Options = _Options
    version = 3
    embedding_roles = (RETRIEVER_ROLE,)
    steps = (CHOOSE_ACTION, RECOMMEND, ASK, RESPOND)

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._recommender: Recommender | None = context.artifacts.get("recommender")
        self._by_text: Retriever | None = None
        if options.retriever is not None:
            catalogue, artifacts = context.catalogue, context.artifacts
            self._by_text = retriever_of(options.retriever, catalogue, artifacts)
        self._drafted = GroundedTitles()

    @classmethod
    def roles_of(cls, options: _Options) -> tuple[str, ...]:
        return (*cls.roles, *retriever_roles(options.retriever))

    @classmethod
    def needs(cls, options: _Options) -> Mapping[str, Recipe]:
        if options.retriever is not None:
            return retriever_needs(options.retriever, options.vectors)
        return {"recommender": options.recommender.recipe()}

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        turn = await super().respond(dialogue, ask)
        if turn.action == "ask":
            return turn
        return replace(turn, candidates=turn.ranking, extra={**turn.extra, **self._record()})

    async def name_items(self, dialogue: Dialogue, ask: Ask) -> GroundedTitles:
        """The recommender's best for the history and the titles that the model drafts."""
        limit, catalogue = self.context.shown_items, self.context.catalogue
        reply = await ask(RECOMMEND.bounded(titles=limit), **self.fields(dialogue), limit=limit)
        self._drafted = ground_mentions(reply.titles, catalogue)
        allowed = pool(self.context, dialogue, self.options.repeat)
        if self._by_text is not None:
            said = [message.text for message in dialogue.messages]
            scores = await self._by_text.by_query(" ".join([*said, *reply.titles]), ask)
            limit = max(limit, _DEPTH)
        else:
            assert self._recommender is not None
            known = positions([*self.context.case.history, *self._drafted.items], catalogue)
            scores = self._recommender.scores(known)
        found = best(scores, limit, among=allowed)
        return GroundedTitles(tuple(catalogue.items[p] for p in found.tolist()), asked=False)

    def _record(self) -> dict[str, Any]:
        drafted = self._drafted
        return {
            "drafted": [item.id for item in drafted.items],
            "titles_grounded": len(drafted.items),
            "titles_ungrounded": list(drafted.ungrounded),
            "titles_matched": [list(match) for match in drafted.matches],
        }
