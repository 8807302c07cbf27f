"""RSO (Zhao et al., "Reinforced Strategy Optimization for Conversational Recommender Systems via
Network-of-Experts"): a planner that chooses a strategy, and prompted experts that carry it out.

In each turn (Algorithm 1):

1. `planner` draws a strategy h_t for the dialogue so far (eq. 2);
2. the preference reasoner lists what the user wants and does not want (eq. 3, C1);
3. the fact retriever finds the `facts` items nearest to the dialogue and C1 by embeddings, and what
   the knowledge graph says of them, which here is the catalogue (eq. 4, C2);
4. the actor writes the message by h_t, C1 and C2, and says which of these items it recommends
   (eq. 5).

`planner: false`, `preference_reasoner: false` and `fact_retriever: false` are the ablations of
Figure 5. Decided here, and what the authors' released code does:

- The planner reads the words of the dialogue, as in the code. What the other experts found is in
  them as far as the actor said it.
- The paper does not print how many items are handed over; the code's default is 3.
- Similarity is to the whole dialogue and C1 (`query: state`), as eq. 4 says. The code uses the last
  two messages alone, and searches nothing while they have less than 20 characters (`query: last`).
- The paper's embeddings are not named; the code's are all-MiniLM-L6-v2. `retriever: dense` asks the
  model of the role `agent.retriever`; `lexical` is BM25, which needs none.
- Without the fact retriever the actor is shown titles without facts. The code's ablation does so
  too: it withholds the facts and not the items.
- Section IV-D says that the fact retriever is prompted too, eq. 4 does not. In the code a model
  picks one of the items and sums up its facts before the actor speaks: `select: true`.
- The actor sees the dialogue, as in the code, though eq. 5 does not list it: it could not answer
  otherwise.
- No item of the user's history, and none that was shown before, is recommended; the code forbids
  neither (`repeat: true`).
- The ranking that is recorded has the `depth` nearest items, also in turns that recommend nothing:
  the code computes Recall on its 50 candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from agents.core.agent import AgentContext
from agents.core.artifacts import Recipe
from agents.core.ask import Ask
from agents.core.dialogue import Action, AgentTurn, Dialogue
from agents.core.items import Item
from agents.core.policy import LabelPolicy
from agents.core.steps import Bound, ReplyModel, Step, text
from agents.policies.core.dialogues import state_of
from agents.policies.core.options import PolicyOptions
from agents.recommenders.core import best, pool
from agents.rso.strategies import INQUIRIES, STRATEGIES
from agents.tools.retrieval import RetrieverName, RetrieverOptions, RetrievingAgent

__all__ = ["RSO"]

_PLANNER = "planner"
_MOST_FACTS = 20
_SHORT = 20  # characters: the released code searches for nothing shorter


class _Preferences(ReplyModel):
    preferences: Annotated[
        list[Annotated[str, text(200)]],
        Field(
            max_length=8,
            description="List each preference in a few words, including dislikes; [] if nothing is "
            "known yet.",
        ),
    ]


class _Selection(ReplyModel):
    selected: Annotated[
        list[Annotated[int, Field(ge=1, le=_MOST_FACTS)]],
        Field(max_length=1, description="Give the number of the best item; [] if none suits."),
    ]
    facts: Annotated[str, text(600, "Give the facts about it that matter to the user.")]


class _Message(ReplyModel):
    recommended: Annotated[
        list[Annotated[int, Field(ge=1, le=_MOST_FACTS)]],
        Field(description="Give the numbers of the items that you recommend now; [] for none."),
    ]
    message: Annotated[str, text(800, "Write your message to the user.")]


_REASON = Step("reason", "summarise", _Preferences)
_SELECT = Step("select", "choose", _Selection)
_ACT = Step("act", "choose", _Message)


class _Options(RetrieverOptions):
    planner: PolicyOptions | Literal[False] = False
    """The policy that draws the strategies, by its stage after SFT or after RL (Figure 3); `false`:
    none, and the actor gets no strategy (Figure 5)."""
    preference_reasoner: bool = True
    """Whether the user's preferences are inferred for retriever and actor (eq. 3; Figure 5)."""
    fact_retriever: bool = True
    """Whether the actor gets what is known of the items (eq. 4; Figure 5)."""
    facts: Annotated[int, Field(ge=1, le=_MOST_FACTS)] = 3
    """How many items are handed to the actor: K of eq. 4. Of the released code."""
    depth: Annotated[int, Field(ge=1, le=1000)] = 50
    """How many of the nearest items are recorded as the ranking. Of the released code."""
    retriever: RetrieverName = "dense"
    """`dense` searches with embeddings by the role `agent.retriever`, as the paper does."""
    query: Literal["state", "last"] = "state"
    """What items are compared with: the dialogue and the preferences (eq. 4), or the last two
    messages (released code)."""
    select: bool = False
    """Whether a model picks one of the items and sums up its facts before the actor speaks."""
    repeat: bool = False
    """Whether items of the user's history, and items shown before, may be recommended."""


class _Found(NamedTuple):
    """What the fact retriever hands over."""

    ranking: tuple[Item, ...] | None
    """The nearest items, best first; None if nothing was searched for."""
    items: tuple[Item, ...] = ()
    summary: str = ""


class RSO(RetrievingAgent):
    """Plans a strategy, reasons about preferences, retrieves facts, and speaks by all three."""

    version = 2
    Options = _Options
    options: _Options
    roles = ("agent", "agent.preferences", "agent.facts")
    steps = (_REASON, _SELECT, _ACT)

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._planner: LabelPolicy | None = context.artifacts.get(_PLANNER)

    @classmethod
    def needs(cls, options: _Options) -> Mapping[str, Recipe]:
        planner = {} if options.planner is False else {_PLANNER: options.planner.recipe()}
        return {**planner, **super().needs(options)}

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        strategy = await self._plan(dialogue, ask)
        preferences = await self._reason(dialogue, ask)
        found = await self._retrieve(dialogue, preferences, ask)
        most = min(len(found.items), self.context.shown_items)
        step = _ACT.bounded(recommended=Bound(most, max(1, len(found.items))))
        reply = await ask(
            step,
            **self._fields(dialogue, preferences, found.items),
            strategy=strategy,
            instruction=STRATEGIES.get(strategy or "", ""),
            summary=found.summary,
            limit=self.context.shown_items,
        )
        shown = tuple(found.items[n - 1] for n in dict.fromkeys(reply.recommended))
        extra: dict[str, Any] = {
            "preferences": preferences,
            "facts": [item.id for item in found.items],
        }
        if self.options.select:
            extra["summary"] = found.summary
        return AgentTurn(
            reply.message,
            _action(strategy, shown),
            shown,
            found.ranking,
            found.items,
            strategy,
            extra,
        )

    async def _plan(self, dialogue: Dialogue, ask: Ask) -> str | None:
        """The strategy of this turn (eq. 2); None without a planner."""
        if self._planner is None or self.options.planner is False:
            return None
        decoding = self.options.planner.decoding
        # The whole dialogue: a policy reads as much of its end as its context holds.
        state = state_of(dialogue.whole)
        return (await ask.as_role(_PLANNER).decide(self._planner, state, decoding)).label

    async def _reason(self, dialogue: Dialogue, ask: Ask) -> list[str]:
        """What the user wants and does not want (eq. 3)."""
        if not self.options.preference_reasoner:
            return []
        found = await ask.as_role("preferences")(
            _REASON, noun=self.context.catalogue.noun, conversation=dialogue.messages
        )
        return list(found.preferences)

    async def _retrieve(self, dialogue: Dialogue, preferences: Sequence[str], ask: Ask) -> _Found:
        """The nearest items, and what is known of the first ones (eq. 4)."""
        options = self.options
        query = self._query(dialogue, preferences)
        if query is None:
            return _Found(None)
        scores = await self._retriever.by_query(query, ask)
        allowed = pool(self.context, dialogue, options.repeat)
        places = best(scores, max(options.depth, options.facts), among=allowed).tolist()
        ranked = tuple(self.context.catalogue.items[place] for place in places)
        found = _Found(ranked[: options.depth], ranked[: options.facts])
        return await self._selected(found, dialogue, preferences, ask) if options.select else found

    def _query(self, dialogue: Dialogue, preferences: Sequence[str]) -> str | None:
        """The text that items are compared with; None if there is too little of it."""
        if self.options.query == "last":
            said = " ".join(f"{m.speaker}: {m.text}" for m in dialogue.whole[-2:])
            return said if len(said) >= _SHORT else None
        return " ".join([*(m.text for m in dialogue.messages), *preferences])

    async def _selected(
        self, found: _Found, dialogue: Dialogue, preferences: Sequence[str], ask: Ask
    ) -> _Found:
        """The one item that suits best, with its facts in a few words; nothing if none does."""
        if not found.items:
            return found
        step = _SELECT.bounded(selected=Bound(1, len(found.items)))
        reply = await ask.as_role("facts")(step, **self._fields(dialogue, preferences, found.items))
        if not reply.selected:
            return _Found(found.ranking)
        return _Found(found.ranking, (found.items[reply.selected[0] - 1],), reply.facts)

    def _fields(
        self, dialogue: Dialogue, preferences: Sequence[str], items: tuple[Item, ...]
    ) -> dict[str, Any]:
        return {
            "noun": self.context.catalogue.noun,
            "conversation": dialogue.messages,
            "preferences": list(preferences),
            "items": items,
            "with_facts": self.options.fact_retriever,
        }


def _action(strategy: str | None, shown: Sequence[Item]) -> Action:
    if shown:
        return "recommend"
    return "ask" if strategy is None or strategy in INQUIRIES else "chat"
