"""DESIRE (Yan et al. 2026, Information Fusion, sections 3.2 to 3.5).

The paper specifies, for each turn: reasoning about the user's desire that gives a trace and search
attributes (eq. 6); a search in the item database, whose result K* is "the relevant items
knowledge"; a decision to explore or to recommend (eq. 7); then one of five exploration actions
(eq. 8) or one of six persuasive strategies (eq. 9), each with guidance for the message; and the
message itself, with the recommended items (eq. 10). What it says about items must be supported by
K*; where the evidence is insufficient, the agent falls back to exploration (section 3.5).

We decided:

- Signals: eq. 3 and 4 fuse all four signals, eq. 7 to 9 list fewer inputs. All prompts but the
  message's show all four, as section 3.2.3 says ("explicitly exposed"). The trace goes to the
  steps whose equation lists it (8, 9), not to the decision (7). The reasoning precedes the search,
  so its S3 is the K* of the previous turn.
- Relevant items: those that may be recommended and have all search attributes. The sequence is in
  order of importance; while no item has all of them, the last one is dropped. K* holds at most
  `retrieved` of the relevant items, the best by `recommender` for the user's history (S2), and is
  never padded. Attributes that the catalogue does not have are recorded and ignored.
- The items are selected from K* before the strategy, since section 3.4.2 collects information on
  the recommended items first. Eq. 9 sees only those; so does the message.
- Insufficient evidence: the search found nothing, or the selection names none of its items (it is
  instructed to name none if the facts support none). Both are recorded as `fallback`.
- An exploring turn shows no items, and its message sees the conversation, the action and the
  guidance (eq. 10), no K*. The message may name no title.
- The persuasive strategy also picks the facts to argue with. They are recorded, together with the
  attribute values that the message names and K* does not support.

The ablations of Table 4, each of which leaves all other calls as they are:

- `desire_reasoning: false` removes eq. 6: no trace, and the search uses the attribute values that
  the user has named word for word, which is what a request-aware system knows. Search, decision,
  actions and strategies stay.
- `exploration_action: false` removes eq. 8: the exploring message is written without an action and
  guidance. When to explore is still decided by eq. 7.
- `persuasive_strategy: false` removes eq. 9: the message presents the same items with all their
  facts, without strategy and guidance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from agents.core.agent import Agent, AgentContext
from agents.core.artifacts import Recipe
from agents.core.ask import Ask
from agents.core.decision_first import (
    RESPOND,
    DecisionFirstOptions,
    response_length,
)
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.grounded_titles import GroundedTitles, ground
from agents.core.items import Fact, Item, facts_of
from agents.core.steps import Bound
from agents.desire.signals import signal_fields
from agents.desire.steps import (
    EVALUATE,
    EXPLORE,
    INQUIRE,
    MOST_FACTS,
    PERSUADE,
    PICKED_FACTS,
    REASON,
    SELECT,
    STEPS,
    Desire,
    ExplorationAction,
    PersuasiveStrategy,
)
from agents.recommenders.core import Recommender, RecommenderRef, pool, positions
from agents.tools.attributes import AttributeSearch, SearchResult

__all__ = ["DESIRE"]


class _Options(DecisionFirstOptions):
    recommender: RecommenderRef = Field(
        default_factory=lambda: RecommenderRef.model_validate("item_knn")
    )
    """Ranks the relevant items by the user's history."""
    retrieved: Annotated[int, Field(ge=1, le=100)] = 20
    """The maximum number of items in K*."""
    desire_reasoning: bool = True
    """`false` is Table 4's "w/o desire reasoning"."""
    exploration_action: bool = True
    """`false` is Table 4's "w/o exploration action"."""
    persuasive_strategy: bool = True
    """`false` is Table 4's "w/o persuasive strategy"."""


@dataclass
class _Turn:
    """The results of the stages of one turn so far."""

    desire: Desire | None = None
    found: SearchResult = field(default_factory=SearchResult)
    decision: Literal["explore", "recommend"] = "explore"
    fallback: Literal["nothing_found", "nothing_selected"] | None = None
    action: ExplorationAction | None = None
    strategy: PersuasiveStrategy | None = None
    guidance: str | None = None
    facts: list[str] = field(default_factory=list)

    @property
    def trace(self) -> tuple[str, ...]:
        """rt_t, one line per part; none without desire reasoning."""
        desire = self.desire
        return () if desire is None else (desire.dialogue, desire.feedback, desire.desire)

    def extra(self) -> dict[str, Any]:
        return {
            "decision": self.decision,
            "fallback": self.fallback,
            "exploration_action": self.action,
            "persuasive_strategy": self.strategy,
            "guidance": self.guidance,
            "desire": None if self.desire is None else self.desire.model_dump(exclude={"search"}),
            "search": list(self.found.values),
            "search_dropped": list(self.found.dropped),
            "search_unknown": list(self.found.unknown),
            "relevant_items": self.found.total,
            "facts": self.facts,
        }


class DESIRE(Agent):
    """Infers what the user desires, then explores further or recommends persuasively."""

    Options = _Options
    options: _Options
    version = 4
    steps = STEPS

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._recommender: Recommender = context.artifacts["recommender"]
        self._search = AttributeSearch.of(context.catalogue)
        self._turn = _Turn()

    @classmethod
    def needs(cls, options: _Options) -> Mapping[str, Recipe]:
        return {"recommender": options.recommender.recipe()}

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        turn = self._turn = await self._reason(dialogue, ask, known=self._turn.found.items)
        evaluation = await ask(EVALUATE, **self._signals(dialogue), items=turn.found.items)
        turn.decision = evaluation.decision
        if turn.decision == "explore":
            return await self._explore(None, dialogue, ask)
        named = await self._select(dialogue, ask)
        if named.items:
            return await self._recommend(named, dialogue, ask)
        turn.fallback = "nothing_selected" if turn.found.items else "nothing_found"
        return await self._explore(named, dialogue, ask)

    async def would_recommend(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...]:
        return (await self._select(dialogue, ask)).items

    async def _reason(self, dialogue: Dialogue, ask: Ask, *, known: tuple[Item, ...]) -> _Turn:
        """Eq. 6 and the search: the trace, and K*."""
        desire = None
        if self.options.desire_reasoning:
            desire = await ask(
                REASON,
                **self._signals(dialogue),
                items=known,
                vocabulary=self._search.vocabulary,
            )
            wanted = desire.search
        else:
            said = (m.text for m in dialogue.whole if m.speaker == "user")
            wanted = self._search.named_in(said)
        allowed = pool(self.context, dialogue, self.options.repeat)
        found = self._search.search(wanted, allowed, self._taste, self.options.retrieved)
        return _Turn(desire, found)

    async def _explore(
        self, named: GroundedTitles | None, dialogue: Dialogue, ask: Ask
    ) -> AgentTurn:
        """Eq. 8, and eq. 10 where the decision is to explore.

        `named` is what the selection came to, if the agent meant to recommend.
        """
        turn = self._turn
        properties = list(self.context.catalogue.attributes)
        if self.options.exploration_action:
            chosen = await ask(
                EXPLORE,
                **self._signals(dialogue),
                items=turn.found.items,
                trace=turn.trace,
                attributes=properties,
            )
            turn.action, turn.guidance = chosen.action, chosen.guidance
        reply = await ask(
            INQUIRE,
            noun=self.context.catalogue.noun,
            conversation=dialogue.messages,
            attributes=properties,
            action=turn.action,
            guidance=turn.guidance,
        )
        return AgentTurn(
            reply.message,
            "ask",
            (),
            None if named is None else named.items,
            turn.found.items,
            turn.action or "explore",
            {**turn.extra(), **({} if named is None else named.extra())},
        )

    async def _select(self, dialogue: Dialogue, ask: Ask) -> GroundedTitles:
        """The items i of eq. 10, from K*; nothing is asked where K* is empty."""
        turn, limit = self._turn, self.context.shown_items
        if not turn.found.items:
            return GroundedTitles(asked=False)
        reply = await ask(
            SELECT.bounded(titles=limit),
            **self._signals(dialogue),
            items=turn.found.items,
            trace=turn.trace,
            limit=limit,
        )
        among, repeat = turn.found.items, self.options.repeat
        return ground(reply.titles, self.context, dialogue, repeat=repeat, among=among)

    async def _recommend(self, named: GroundedTitles, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        """Eq. 9, and eq. 10 where the decision is to recommend."""
        turn, items = self._turn, named.items
        if self.options.persuasive_strategy:
            await self._persuade(items, dialogue, ask)
        reply = await ask(
            RESPOND.bounded(response=response_length(self.context)),
            noun=self.context.catalogue.noun,
            conversation=dialogue.messages,
            items=items,
            strategy=turn.strategy,
            guidance=turn.guidance,
            evidence=turn.facts,
        )
        extra = {
            **turn.extra(),
            "facts_unsupported": self._unsupported(reply.response, items, dialogue),
            **named.extra(),
        }
        strategy = turn.strategy or "recommend"
        return AgentTurn(
            reply.response, "recommend", items, items, turn.found.items, strategy, extra
        )

    async def _persuade(self, items: tuple[Item, ...], dialogue: Dialogue, ask: Ask) -> None:
        """Eq. 9: the strategy, the facts to argue with, and how."""
        turn = self._turn
        bearers: dict[Fact, list[str]] = {}
        for item in items:
            for fact in dict.fromkeys(facts_of(item)):
                bearers.setdefault(fact, []).append(item.title)
        facts = list(bearers)[:MOST_FACTS]
        options = [f"{fact.attribute}: {fact.value}" for fact in facts]
        picked = Bound(min(PICKED_FACTS, len(options)), max(1, len(options)))
        reply = await ask(
            PERSUADE.bounded(facts=picked),
            **self._signals(dialogue),
            items=items,
            options=options,
            bearers=[bearers[fact] for fact in facts],
            trace=turn.trace,
        )
        turn.strategy, turn.guidance = reply.strategy, reply.guidance
        turn.facts = [options[number - 1] for number in dict.fromkeys(reply.facts)]

    def _unsupported(self, text: str, items: tuple[Item, ...], dialogue: Dialogue) -> list[str]:
        """Attribute values that `text` names although neither an item nor the user has."""
        said = [m.text for m in dialogue.whole if m.speaker == "user"]
        facts = [fact.value for item in items for fact in facts_of(item)]
        titles = [item.title for item in items]
        supported = set(self._search.named_in([*said, *facts, *titles]))
        return [value for value in self._search.named_in([text]) if value not in supported]

    def _signals(self, dialogue: Dialogue) -> dict[str, Any]:
        return signal_fields(self.context, dialogue, self.options)

    @cached_property
    def _taste(self) -> np.ndarray:
        return self._recommender.scores(
            positions(self.context.case.history, self.context.catalogue)
        )
