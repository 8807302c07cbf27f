"""MACRec (AF-IRS, section 5.1.3; Wang et al. 2024, the paper's reference [36]).

The cited paper specifies a team: a manager who alternates thoughts, actions and observations and
delegates to specialists; user and item analysts, who study the user's history and the items; a
searcher with a retrieval tool; a reflector, who judges the manager's answer and may send it back; a
task interpreter, who turns a conversation into a task. Which of them work depends on the task: its
system for conversations has manager, searcher and interpreter. AF-IRS adds that the manager
coordinates, that it has SASRec and, like InteRecAgent, the SQL query tool (5.1.5, 5.4.2).

We decided:
- All take part, since AF-IRS compares MACRec as a whole. The interpreter speaks first in each
  turn, for what the user wants may have changed; then the manager has at most `rounds` thoughts,
  each with one action. Before the first specialist has reported it cannot recommend, for it knows
  no item; the last thought must decide.
- The searcher writes one SELECT for the manager's request; it narrows the pool from which SASRec
  takes the best by the user's history. A later search of the turn replaces an earlier one. A
  refused or empty query is reported and leaves the candidates as they are. Where the manager did
  not search, the candidates are the recommender's best of all.
- Both analysts speak for the role `agent.analyst`: one reads the user's history, one the first
  candidates.
- The manager's answer is the picks from the candidates; the reflector sees those. At most
  `reflections` times it sends them back with a remark, and the manager picks again: the cited
  system repeats the whole task, which would double a turn's calls.
- The probe (`would_recommend`) first runs the searcher if it has not run in this turn, since
  a manager who wants to ask has no reason to run it. It is not reflected on.
- Questions, picks and the response speak for `agent`; notes are forgotten with the turn.

A typical turn takes seven calls to recommend (task, two thoughts, a search, pick, reflection,
response), four to ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from agents.core.agent import AgentContext
from agents.core.ask import Ask, is_probe
from agents.core.decision_first import ASK, RECOMMEND, RESPOND
from agents.core.dialogue import Dialogue
from agents.core.grounded_titles import GroundedTitles
from agents.core.items import Item
from agents.core.steps import ReplyModel, Step, text
from agents.tools.candidates import (
    CandidateOptions,
    CandidatePool,
    Observation,
    PicksFromCandidates,
    count_outcomes,
)

__all__ = ["MACRec"]

_SEEN = 10  # candidates that the item analyst reads, and that a search reports


class _Task(ReplyModel):
    task: Annotated[str, text(400, "Say what to find for the user.")]


class _Opening(ReplyModel):
    thought: Annotated[str, text(400, "Say what follows from the notes and what to do next.")]
    action: Annotated[
        Literal["search", "analyse_user", "analyse_items", "ask"],
        Field(description="Choose your action."),
    ]


class _Thought(ReplyModel):
    thought: Annotated[str, text(400, "Say what follows from the notes and what to do next.")]
    action: Annotated[
        Literal["recommend", "search", "analyse_user", "analyse_items", "ask"],
        Field(description="Choose your action."),
    ]


class _LastThought(ReplyModel):
    thought: Annotated[str, text(400, "Say what follows from the notes.")]
    action: Annotated[Literal["recommend", "ask"], Field(description="Choose your action.")]


class _Search(ReplyModel):
    sql: Annotated[str, text(600, "Write one SELECT of item_id from the table items.")]


class _Analysis(ReplyModel):
    analysis: Annotated[str, text(500, "Write your analysis.")]


class _Reflection(ReplyModel):
    remark: Annotated[str, text(300, "Say what fits and what to select instead, if anything.")]
    verdict: Annotated[Literal["accept", "revise"], Field(description="Give your verdict.")]


_INTERPRET = Step("interpret", "summarise", _Task)
_OPEN = Step("open", "decide", _Opening)
_THINK = Step("think", "decide", _Thought)
_CONCLUDE = Step("conclude", "decide", _LastThought)
_SEARCH = Step("search", "query", _Search)
_ANALYSE_USER = Step("analyse_user", "summarise", _Analysis)
_ANALYSE_ITEMS = Step("analyse_items", "summarise", _Analysis)
_REFLECT = Step("reflect", "decide", _Reflection)


class _Options(CandidateOptions):
    rounds: Annotated[int, Field(ge=1, le=10)] = 3
    """The maximum number of thoughts of the manager in one turn."""
    reflections: Annotated[int, Field(ge=0, le=5)] = 1
    """How often the reflector may send an answer back in one turn."""


class _Note(NamedTuple):
    """What a member of the team has said in this turn."""

    who: str
    text: str


class MACRec(PicksFromCandidates):
    """A manager who delegates to specialists, decides, and has its answer judged."""

    version = 6
    Options = _Options
    roles = (
        "agent",
        "agent.manager",
        "agent.interpreter",
        "agent.searcher",
        "agent.analyst",
        "agent.reflector",
    )
    steps = (
        _INTERPRET,
        _OPEN,
        _THINK,
        _CONCLUDE,
        _SEARCH,
        _ANALYSE_USER,
        _ANALYSE_ITEMS,
        _REFLECT,
        RECOMMEND,
        ASK,
        RESPOND,
    )

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._own = options
        self._pool: CandidatePool
        self._task = ""
        self._notes: list[_Note] = []
        self._actions: list[str] = []
        self._queries: list[Observation] = []
        self._sent_back = 0

    async def decide(self, dialogue: Dialogue, ask: Ask) -> Literal["recommend", "ask"]:
        self._pool = self.open_pool(dialogue)
        self._notes, self._actions, self._queries, self._sent_back = [], [], [], 0
        interpreter = ask.as_role("interpreter")
        self._task = (await interpreter(_INTERPRET, **self.fields(dialogue))).task
        for number in range(self._own.rounds - 1):
            action = await self._think(_THINK if number else _OPEN, dialogue, ask)
            if action == "recommend" or action == "ask":
                return action
            await self._delegate(action, dialogue, ask)
        return "ask" if await self._think(_CONCLUDE, dialogue, ask) == "ask" else "recommend"

    async def would_recommend(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...] | None:
        if "search" not in self._actions:
            await self._delegate("search", dialogue, ask)
        return await super().would_recommend(dialogue, ask)

    async def hand_over(self, dialogue: Dialogue) -> tuple[Item, ...]:
        return self._pool.best(self.taste, self.most)

    async def pick(
        self, candidates: tuple[Item, ...], dialogue: Dialogue, ask: Ask, **fields: Any
    ) -> GroundedTitles:
        """Picks, and picks again while the reflector sends the answer back."""
        picked = await super().pick(candidates, dialogue, ask, answer=(), misses=(), remark="")
        if is_probe(ask.role) or not candidates:
            return picked
        for _ in range(self._own.reflections):
            answer = picked.items[: self.context.shown_items]
            reflection = await self._reflect(answer, picked.misses, dialogue, ask)
            if reflection.verdict == "accept":
                break
            self._sent_back += 1
            picked = await super().pick(
                candidates,
                dialogue,
                ask,
                answer=answer,
                misses=picked.misses,
                remark=reflection.remark,
            )
        return picked

    def extra_fields(self) -> dict[str, Any]:
        return {"task": self._task, "notes": tuple(self._notes)}

    def record(self) -> tuple[str, dict[str, Any]]:
        return "+".join(self._actions), {
            "task": self._task,
            "notes": [note._asdict() for note in self._notes],
            "sent_back": self._sent_back,
            **count_outcomes(self._queries),
        }

    async def _think(self, step: Step[Any], dialogue: Dialogue, ask: Ask) -> str:
        manager = ask.as_role("manager")
        reply = await manager(step, **self.fields(dialogue), **self.extra_fields())
        self._notes.append(_Note("manager", reply.thought))
        self._actions.append(reply.action)
        return reply.action

    async def _delegate(self, action: str, dialogue: Dialogue, ask: Ask) -> None:
        if action == "search":
            self._notes.append(_Note("searcher", await self._search(dialogue, ask)))
            return
        shared = {**self.extra_fields(), "noun": self.context.catalogue.noun}
        analyst = ask.as_role("analyst")
        if action == "analyse_user":
            history = self.fields(dialogue)["history"]
            reply = await analyst(
                _ANALYSE_USER, **shared, history=history, conversation=dialogue.messages
            )
            self._notes.append(_Note("user analyst", reply.analysis))
        else:
            items = (await self.hand_over(dialogue))[:_SEEN]
            reply = await analyst(
                _ANALYSE_ITEMS, **shared, items=items, conversation=dialogue.messages
            )
            self._notes.append(_Note("item analyst", reply.analysis))

    async def _search(self, dialogue: Dialogue, ask: Ask) -> str:
        """Narrows the pool by the searcher's query; the note on it for the manager."""
        reply = await ask.as_role("searcher")(
            _SEARCH,
            **self.extra_fields(),
            noun=self.context.catalogue.noun,
            table=self.query.table,
            conversation=dialogue.messages,
        )
        searched = self.open_pool(dialogue)
        self._queries.append(await searched.query(self.query, reply.sql))
        if self._queries[-1].outcome == "selected":
            self._pool = searched
        first = "; ".join(item.title for item in (await self.hand_over(dialogue))[:_SEEN])
        return (
            f"{reply.sql} - {self._queries[-1].text} Top candidates by the user's history: {first}"
        )

    async def _reflect(
        self, answer: tuple[Item, ...], misses: Sequence[str], dialogue: Dialogue, ask: Ask
    ) -> _Reflection:
        return await ask.as_role("reflector")(
            _REFLECT,
            **self.extra_fields(),
            noun=self.context.catalogue.noun,
            items=answer,
            misses=misses,
            conversation=dialogue.messages,
        )
