"""CSI, a conversational sales agent with contextual profiling (sections 3.1, 3.2, B, C.1.2).

In each turn it updates a profile of the user, thinks, and chooses one of four actions (Table 6): to
probe preferences, to narrow the category, to suggest items, or to persuade the user to buy an item
above the budget by comparing it with the one that the user looks at (Table 15).

Decided here:

- `planning: one_call` is Table 14's prompt, in which the thoughts come first; `two_calls` is
  section 3.1, in which the profile is updated first and the thought follows from it.
- `profile: false` is the ReAct variant (C.1.2): thoughts, budget and action, no profile. Its
  queries are the conversation history: it searches with the whole conversation, as `chatcrs_sales`
  does, and the category explorer starts at the path that the user's messages name. That path does
  not restrict a suggestion: its names are in the query.
- Narrowing skips levels whose only subcategory has all their items.
- A suggestion has the `shown_items` best items for the profile's preference and category that are
  not above the budget, in the narrowest part of the category path that has any, none shown before.
  Its words are a list with ID, title, price, category and description, as in the released
  dialogues: no model call. Descriptions are cut at 300 characters; half of the released ones are
  longer than 600.
- Persuasion is about the selected item. Its alternative is the most similar item above the budget
  in the narrowest category of the selected one that has any (Table 8 offers the same one again). If
  the selected item is above the budget itself, the persuasion is about that one alone (Table 9). So
  it is where no budget or no dearer item is known; the record says so (`fallback`).
- If nothing was suggested yet, persuasion has nothing to persuade of: items are suggested instead
  (`fallback: nothing_suggested`). The same where there is no category to narrow
  (`no_subcategories`). If there is nothing to suggest either, preferences are probed.
- `strategy` fixes the strategy. With all else equal, dialogues are the same up to the first
  persuasion, so that each strategy answers one context (Figure 8).
- `memory` shows what has convinced earlier users (`agents.csi.memory`).
- The item that the user is interested in is named by the model, by ID or title, among those shown;
  if it names none of them, it is the first of the latest suggestion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from agents.core.agent import AgentContext
from agents.core.artifacts import Recipe
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.items import Item
from agents.core.memory import MEMORY, Memory
from agents.core.sales import (
    SELL,
    Strategy,
    named_item,
    price_limit,
    priced_above,
    priced_within,
    selling,
    shown_in,
    suggestion,
)
from agents.csi.memory import KEY, CollectSales, MemoryOptions, Recall, SalesMemory
from agents.csi.steps import (
    NARROW,
    PLAN,
    PROBE,
    PROFILE,
    REACT,
    SELL_BY,
    STEPS,
    THINK,
    Profile,
    SalesAction,
    one_line,
)
from agents.recommenders.core import best
from agents.tools.categories import CategoryPath, CategoryTree, path_of
from agents.tools.retrieval import RetrieverOptions, RetrievingAgent

__all__ = ["CSI"]

_DEPTH = 50  # of the ranking that is recorded

Fallback = Literal[
    "nothing_suggested", "no_subcategories", "nothing_to_suggest", "no_budget", "none_dearer"
]


class _Options(RetrieverOptions):
    planning: Literal["one_call", "two_calls"] = "one_call"
    """Whether profile, thought and action take one model call (Table 14) or two (section 3.1)."""
    profile: bool = True
    """`false` is "CSI w/o Profile" (Table 3)."""
    strategy: Strategy | None = None
    """Always persuades by this strategy (Figure 8); by default, the model chooses (Table 15)."""
    memory: MemoryOptions | None = None
    """What to remember from earlier dialogues (4.4 and C.2)."""
    memory_batch: Annotated[int, Field(ge=1)] = 1
    """The number of dialogues that run at once between two updates of an online memory."""

    @model_validator(mode="after")
    def _memory_has_keys(self) -> Self:
        if self.memory is not None and not self.profile:
            raise ValueError("`memory` is searched by the profile: expected `profile: true`")
        return self


@dataclass
class _State:
    """What planning came to in one turn."""

    thoughts: str
    action: SalesAction
    budget: float | None
    profile: Profile | None = None
    fallbacks: list[Fallback] = field(default_factory=list)

    def extra(self) -> dict[str, Any]:
        return {
            "thoughts": self.thoughts,
            "planned_action": self.action,
            "budget": self.budget,
            "profile": None if self.profile is None else self.profile.model_dump(),
            "fallback": list(self.fallbacks),
        }


class CSI(RetrievingAgent):
    """Profiles the user, and asks, suggests or persuades accordingly."""

    version = 5
    Options = _Options
    options: _Options
    steps = (*STEPS, SELL_BY)

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._tree = CategoryTree.of(context.catalogue)
        self._recall = Recall(context.artifacts.get(MEMORY, ()), options.retriever)
        self._profile: Profile | None = None
        self._budget: float | None = None
        self._suggested: tuple[Item, ...] = ()

    @classmethod
    def needs(cls, options: _Options) -> Mapping[str, Recipe]:
        found = super().needs(options)
        if options.memory is None or options.memory.size is None:
            return found
        memory = CollectSales(options.memory.size, options.retriever, options.vectors)
        return {**found, MEMORY: memory}

    @classmethod
    def memory(cls, options: _Options) -> Memory | None:
        if options.memory is None or options.memory.kind == "offline":
            return None
        return SalesMemory(options.memory_batch)

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        state = await self._plan(dialogue, ask)
        self._profile, self._budget = state.profile, state.budget
        action = state.action
        if action == "category_narrowing" and not self._tree.subcategories(
            self._explored(dialogue)
        ):
            state.fallbacks.append("no_subcategories")
            action = "item_suggestion"
        if action == "persuasion" and not self._suggested:
            state.fallbacks.append("nothing_suggested")
            action = "item_suggestion"
        if action == "persuasion":
            return await self._persuade(state, dialogue, ask)
        if action == "item_suggestion":
            ranking = await self._search(dialogue, ask)
            if ranking:
                return self._suggest(state, ranking)
            state.fallbacks.append("nothing_to_suggest")
            action = "preference_probing"
        return await self._ask(action, state, dialogue, ask)

    async def would_recommend(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...]:
        return await self._search(dialogue, ask)

    async def _plan(self, dialogue: Dialogue, ask: Ask) -> _State:
        """P_t, h_t and a_t."""
        fields = {**self._fields(dialogue), "items": shown_in(dialogue)}
        if not self.options.profile:
            found = await ask(REACT, **fields)
            return _State(found.thoughts, found.action, price_limit(found.price_range))
        if self.options.planning == "one_call":
            whole = await ask(PLAN, **fields, profile=_lines(self._profile))
            profile = Profile(**whole.model_dump(exclude={"thoughts", "action"}))
            return _State(whole.thoughts, whole.action, price_limit(profile.price_range), profile)
        profile = await ask(PROFILE, **fields, profile=_lines(self._profile))
        thought = await ask(THINK, **fields, profile=_lines(profile))
        return _State(thought.thoughts, thought.action, price_limit(profile.price_range), profile)

    async def _ask(
        self, action: SalesAction, state: _State, dialogue: Dialogue, ask: Ask
    ) -> AgentTurn:
        """Probes preferences, or asks for a subcategory."""
        fields = {
            **self._fields(dialogue),
            "thoughts": one_line(state.thoughts),
            "profile": _lines(state.profile),
        }
        if action == "category_narrowing":
            path = self._explored(dialogue)
            below = self._tree.subcategories(path)
            reply = await ask(NARROW, **fields, path=path, subcategories=below)
            extra = {"path": list(path), "subcategories": [each.name for each in below]}
        else:
            reply = await ask(PROBE, **fields)
            extra = {}
        return AgentTurn(reply.message, "ask", strategy=action, extra={**state.extra(), **extra})

    def _suggest(self, state: _State, ranking: tuple[Item, ...]) -> AgentTurn:
        self._suggested = shown = ranking[: self.context.shown_items]
        return AgentTurn(
            suggestion(shown),
            "recommend",
            shown,
            ranking,
            ranking,
            "item_suggestion",
            state.extra(),
        )

    async def _persuade(self, state: _State, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        """Comparative persuasion (section 3.2 and Table 15)."""
        selected = self._selected(state, dialogue)
        candidate = await self._alternative(selected, state)
        profile = state.profile
        examples, recalled = await self._recalled(profile, ask)
        fields = selling(
            selected,
            candidate,
            thoughts=one_line(state.thoughts),
            needs="" if profile is None else one_line(profile.preference),
            personality="" if profile is None else one_line(profile.personality),
            examples=examples,
        )
        fields |= self._fields(dialogue)
        if self.options.strategy is None:
            reply = await ask(SELL, **fields)
            sentence, strategy = reply.sentence, reply.strategy
        else:
            strategy = self.options.strategy
            sentence = (await ask(SELL_BY, **fields, strategy=strategy)).sentence
        items = (*fields["candidate"], *fields["selected"])
        extra = {
            **state.extra(),
            **recalled,
            "selected": selected.id,
            "candidate": candidate.id,
            "candidate_over_budget": None
            if state.budget is None or candidate.price is None
            else candidate.price > state.budget,
        }
        return AgentTurn(sentence, "persuade", items, items, items, strategy, extra)

    async def _recalled(
        self, profile: Profile | None, ask: Ask
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """What the memory says of users like this one, and what is recorded of that."""
        options = self.options.memory
        if options is None or profile is None:
            return (), {}
        key, vector = await self._recall.key(profile, ask)
        places = self._recall.nearest(vector, options.k)
        return self._recall.shown(places, options.holds), {KEY: key, "recalled": places}

    def _selected(self, state: _State, dialogue: Dialogue) -> Item:
        """The item that the user is interested in."""
        profile = state.profile
        if profile is not None and profile.selected_item:
            shown, catalogue = shown_in(dialogue), self.context.catalogue
            named = named_item(profile.selected_item[0], shown, catalogue)
            if named is not None:
                return named
        return self._suggested[0]

    async def _alternative(self, selected: Item, state: _State) -> Item:
        """What to persuade of: an item above the budget, if there is one."""
        catalogue, budget = self.context.catalogue, state.budget
        if budget is None:
            state.fallbacks.append("no_budget")
            return selected
        if selected.price is not None and selected.price > budget:
            return selected
        dearer = priced_above(catalogue, budget)
        if not dearer.any():
            state.fallbacks.append("none_dearer")
            return selected
        scores = await self._retriever.by_item(selected)
        allowed = self._tree.narrowest(path_of(selected), dearer)
        return catalogue.items[int(best(scores, 1, among=allowed)[0])]

    async def _search(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...]:
        """What fits the profile, or the conversation without one; best first."""
        catalogue = self.context.catalogue
        allowed = priced_within(catalogue, self._budget)
        places = [catalogue.position[item.id] for item in shown_in(dialogue)]
        allowed[places] = False
        if not allowed.any():
            return ()
        scores = await self._retriever.by_query(self._query(dialogue), ask)
        allowed = self._tree.narrowest(self._path(), allowed)
        return tuple(catalogue.items[i] for i in best(scores, _DEPTH, among=allowed).tolist())

    def _query(self, dialogue: Dialogue) -> str:
        if self._profile is None:
            return " ".join(message.text for message in dialogue.messages)
        return " ".join([self._profile.preference, *self._path()])

    def _path(self) -> tuple[str, ...]:
        return self._tree.resolve(self._profile.category_path) if self._profile else ()

    def _explored(self, dialogue: Dialogue) -> CategoryPath:
        """Where the category explorer is."""
        path = self._path()
        if self._profile is None:
            for message in dialogue.messages:
                if message.speaker == "user":
                    path = self._tree.named(message.text, path)
        return self._tree.settled(path)

    def _fields(self, dialogue: Dialogue) -> dict[str, Any]:
        return {"noun": self.context.catalogue.noun, "conversation": dialogue.messages}


def _lines(profile: Profile | None) -> tuple[str, ...]:
    return () if profile is None else profile.lines()
