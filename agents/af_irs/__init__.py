"""AF-IRS (Action First, sections 4 and 5.3): first the action stage, then the decision.

The paper specifies: a preference tree built beforehand (4.1.1, `tree`); session preferences read
from the user's words (4.1.2, eq. 1 and 2, `extraction`); two stages of filtering, by session and
by cosine of user and item embeddings (4.1.3, eq. 3 to 5); a structured preference and a refined
list of ten (4.1.4, eq. 6 and 7); a decision that sees conversation and items (4.2.1, Figure 3); a
question made from preference and distribution of the candidates (4.2.2); a written response, the
same for all systems (3). We decided:

- Candidates leave out what the user has had and what was shown in this dialogue (`repeat` allows
  both), before eq. 3 is checked for emptiness: items that cannot be recommended are not candidates.
- Eq. 6 costs one call per turn, and only if the refinement or the question uses its result.
- Where no item is left, there is nothing to decide on: the agent asks.
- The question's prompt also shows the conversation, so that nothing is asked twice.
- Items are shown with title and attributes where a model judges them.
- Without action-first, the decision comes first, from the conversation alone. The action stage is
  the same; only if the agent asks, eq. 7 is left out, since nothing of the turn uses the list. A
  metric that needs it has it by the probe (`would_recommend`).
- Without LLM2RS nothing is extracted, and eq. 3 gives the whole catalogue. Without the refinement,
  the first ten of eq. 5 are what is decided on and recommended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from agents.af_irs.extraction import EXTRACT, Extraction
from agents.af_irs.filtering import (
    Preference,
    WhenEmpty,
    distribution,
    preferences_of,
    session_filter,
)
from agents.af_irs.tree import MOST_IN_A_BATCH, PreferenceTree, Tree
from agents.core.agent import Agent, AgentContext, AgentOptions
from agents.core.artifacts import Recipe
from agents.core.ask import Ask
from agents.core.decision_first import ASK, RESPOND, Recommendation, write_response
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.grounded_titles import GroundedTitles, ground
from agents.core.items import Item
from agents.core.steps import ReplyModel, Step, text
from agents.recommenders.core import Recommender, RecommenderRef, best, pool, positions

__all__ = ["AFIRS"]

_SHARES = 20  # lines of the distribution that the question's prompt shows


class _Preference(ReplyModel):
    stance: Literal["wants", "avoids"]
    aspect: Annotated[str, text(40, "Name the property that the preference is about.")]
    wish: Annotated[str, text(80, "Say in a few words what the user wants or avoids.")]


class _Preferences(ReplyModel):
    preferences: Annotated[
        list[_Preference],
        Field(
            max_length=10,
            description="List the preferences, most important first; [] if nothing is known.",
        ),
    ]


class _Decision(ReplyModel):
    action: Annotated[Literal["recommend", "ask"], Field(description="Choose the next action.")]


_PREFER = Step("prefer", "extract", _Preferences)
_REFINE = Step("refine", "rank", Recommendation)
_DECIDE = Step("decide", "decide", _Decision)
_DECIDE_FIRST = Step("decide_first", "decide", _Decision)


class _Options(AgentOptions):
    recommender: RecommenderRef = Field(
        default_factory=lambda: RecommenderRef.model_validate("item_knn")
    )
    candidates: Annotated[int, Field(ge=1, le=200)] = 50
    """The maximum number of items given to the model (5.1.5)."""
    repeat: bool = False
    """Whether candidates may include items of the history, or items shown before in
    this dialogue."""
    when_empty: WhenEmpty = "drop_least_relevant"
    """The result of eq. 3 if no item fits all session preferences."""
    siblings: Literal["intersect", "unite"] = "intersect"
    """How eq. 3 treats preferences that no item can satisfy together, such as two years: as
    written, or as alternatives."""
    action_first: bool = True
    """`false` is Table 3's "w/o Action-First"."""
    llm2rs: bool = True
    """`false` is Table 3's "w/o LLM2RS"."""
    llm_refine: bool = True
    """`false` is Table 3's "w/o LLM-refine"."""
    attributes: tuple[str, ...] | None = None
    """Names of the attributes that make up the tree; by default, those with at most `most_values`
    values."""
    most_values: Annotated[int, Field(ge=1)] = 500
    """Attributes with more values, such as a developer, are left out, because they cost calls in
    every turn."""
    batch_attributes: Annotated[int, Field(ge=2, le=MOST_IN_A_BATCH)] = 40
    """Attributes per prompt while the tree is built."""
    batch_items: Annotated[int, Field(ge=2, le=MOST_IN_A_BATCH)] = 40
    """Items per prompt while the tree is built."""
    smallest_attribute: Annotated[int, Field(ge=1)] = 5
    """Attributes with fewer items are not divided into subcategories."""
    batch_options: Annotated[int, Field(ge=2, le=500)] = 100
    """Nodes of the tree per prompt while preferences are extracted."""


@dataclass(slots=True)
class _Action:
    """The results of the action stage of one turn."""

    turn: int
    wanted: list[str]
    """Session preferences, as paths in the tree, most relevant first."""
    kept: int
    allowed: int
    pool: int
    candidates: tuple[Item, ...]
    preferences: list[str] | None = None
    """Eq. 6, in words; None until something asks for it."""


class AFIRS(Agent):
    """Acts, then decides, in a loop between the model and the recommender."""

    version = 5
    Options = _Options
    options: _Options
    roles = ("agent", "agent.tree")
    steps = (
        *PreferenceTree.steps,
        EXTRACT,
        _PREFER,
        _REFINE,
        _DECIDE,
        _DECIDE_FIRST,
        ASK,
        RESPOND,
    )

    @classmethod
    def needs(cls, options: _Options) -> Mapping[str, Recipe]:
        recommender = options.recommender.recipe()
        if not options.llm2rs:
            return {"recommender": recommender}
        tree = PreferenceTree(
            batch_attributes=options.batch_attributes,
            batch_items=options.batch_items,
            smallest=options.smallest_attribute,
            attributes=options.attributes,
            most_values=options.most_values,
        )
        return {"recommender": recommender, "tree": tree}

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._recommender: Recommender = context.artifacts["recommender"]
        self._tree: Tree | None = context.artifacts["tree"] if options.llm2rs else None
        self._history = positions(context.case.history, context.catalogue)
        self._action: _Action | None = None

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        if not self.options.action_first:
            return await self._decide_first(dialogue, ask)
        action = await self._act(dialogue, ask)
        named = await self._refine(action, dialogue, ask)
        if not named.items:
            return await self._question(action, named, "no_items", dialogue, ask)
        decision = await ask(
            _DECIDE,
            noun=self._noun,
            items=named.items,
            conversation=dialogue.messages,
        )
        if decision.action == "recommend":
            return await self._recommend(action, named, "verified", dialogue, ask)
        return await self._question(action, named, "not_verified", dialogue, ask)

    async def _decide_first(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        decision = await ask(_DECIDE_FIRST, noun=self._noun, conversation=dialogue.messages)
        action = await self._act(dialogue, ask)
        if decision.action == "ask":
            return await self._question(action, None, "decided_first", dialogue, ask)
        named = await self._refine(action, dialogue, ask)
        return await self._recommend(action, named, "decided_first", dialogue, ask)

    async def would_recommend(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...]:
        action = self._action
        if action is None or action.turn != dialogue.turn:
            action = await self._act(dialogue, ask)
        return (await self._refine(action, dialogue, ask)).items

    async def _act(self, dialogue: Dialogue, ask: Ask) -> _Action:
        """Eq. 1 to 5: session preferences, and at most `candidates` items that match them."""
        options, catalogue = self.options, self.context.catalogue
        wanted: list[Preference] = []
        if self._tree is not None:
            words = [m for m in dialogue.messages if m.speaker != "recommender"]
            extraction = Extraction(self._tree, words, self._noun, options.batch_options, ask)
            nodes = await extraction.run()
            wanted = preferences_of(self._tree, nodes, unite=options.siblings == "unite")
        allowed = pool(self.context, dialogue, options.repeat)
        left = session_filter([each.items for each in wanted], allowed, options.when_empty)
        found = best(self._similarities, options.candidates, among=left.mask)
        self._action = _Action(
            dialogue.turn,
            [each.words for each in wanted],
            left.kept,
            int(allowed.sum()),
            int(left.mask.sum()),
            tuple(catalogue.items[position] for position in found.tolist()),
        )
        return self._action

    async def _refine(self, action: _Action, dialogue: Dialogue, ask: Ask) -> GroundedTitles:
        """Eq. 6 and 7: the candidates to recommend."""
        limit = self.context.shown_items
        if not self.options.llm_refine or not action.candidates:
            return GroundedTitles(action.candidates[:limit], asked=False)
        reply = await ask(
            _REFINE.bounded(titles=limit),
            noun=self._noun,
            limit=limit,
            preferences=await self._preferences(action, dialogue, ask),
            items=action.candidates,
        )
        named = ground(
            reply.titles,
            self.context,
            dialogue,
            repeat=self.options.repeat,
            among=action.candidates,
        )
        return named._replace(items=named.items[:limit])

    async def _preferences(self, action: _Action, dialogue: Dialogue, ask: Ask) -> list[str]:
        if action.preferences is None:
            reply = await ask(_PREFER, noun=self._noun, conversation=dialogue.messages)
            action.preferences = [f"{p.stance} {p.aspect}: {p.wish}" for p in reply.preferences]
        return action.preferences

    async def _question(
        self,
        action: _Action,
        named: GroundedTitles | None,
        strategy: str,
        dialogue: Dialogue,
        ask: Ask,
    ) -> AgentTurn:
        shares = distribution(action.candidates, _SHARES)
        telling = dict.fromkeys(share.attribute for share in shares)
        reply = await ask(
            ASK,
            noun=self._noun,
            preferences=await self._preferences(action, dialogue, ask),
            attributes=list(dict.fromkeys((*telling, *self.context.catalogue.attributes))),
            total=len(action.candidates),
            distribution=shares,
            conversation=dialogue.messages,
        )
        words = await write_response(self.context, dialogue, ask, question=reply.question)
        ranking = None if named is None else named.items
        extra = self._extra(action, named)
        return AgentTurn(words, "ask", (), ranking, action.candidates, strategy, extra)

    async def _recommend(
        self,
        action: _Action,
        named: GroundedTitles,
        strategy: str,
        dialogue: Dialogue,
        ask: Ask,
    ) -> AgentTurn:
        words = await write_response(
            self.context, dialogue, ask, items=named.items, misses=named.misses
        )
        extra = self._extra(action, named)
        items, candidates = named.items, action.candidates
        return AgentTurn(words, "recommend", items, items, candidates, strategy, extra)

    def _extra(self, action: _Action, named: GroundedTitles | None) -> dict[str, Any]:
        return {
            "session_preferences": action.wanted[: action.kept],
            "dropped": action.wanted[action.kept :],
            "pools": {
                "allowed": action.allowed,
                "session": action.pool,
                "candidates": len(action.candidates),
            },
            "preferences": action.preferences,
            **({} if named is None else named.extra()),
        }

    @cached_property
    def _similarities(self) -> np.ndarray:
        return self._recommender.similarities(self._history)

    @property
    def _noun(self) -> str:
        return self.context.catalogue.noun
