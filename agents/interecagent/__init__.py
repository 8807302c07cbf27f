"""InteRecAgent (AF-IRS, section 5.1.3; Huang et al. 2023, "Recommender AI Agent", its [14]).

The cited paper specifies: a language model as the brain, and three sorts of tools: information
query (SQL), item retrieval (hard conditions by SQL, soft ones by similarity to named items) and
item ranking (a recommender, by the user's history). A candidate bus, outside of the prompt, hands
the items on from tool to tool. The tools are planned first and then run, not one at a time;
demonstrations are picked that are like the request; a critic looks at plan and result and may have
it planned again; a profile of what the user likes, dislikes and expects is the long-term memory.
AF-IRS adds that SASRec ranks, and that SQL narrows the pool before it selects the top 50 (5.1.5,
5.4.2).

We decided:
- The plan is one reply with one field per tool. The order of the tools is the funnel's (query,
  hard, soft, ranking), which all plans share, so the model says which tools run and with what.
- The plan also says whether to recommend or to ask; a plan to ask runs no tool. Similarity is the
  recommender's cosine of embeddings; it leaves the nearest `similar_items`. Popularity, the cited
  paper's third order for ranking, is left out: the agent is given no popularity.
- The profile is rewritten by a call in each turn, from the profile before and the conversation.
- The critic sees plan, observations and the first ten candidates; after `reflections` revisions
  the last result is used.
- A refused or empty query is an observation and leaves the candidates as they are.
- A plan to ask has left the tools alone, so the probe (`would_recommend`) first has it planned
  again, to recommend.
- Demonstrations are ours (`demonstrations.py`), picked by the words they share with what the user
  said last, not by embeddings. Their titles are made up.

A turn takes four calls to ask, and four to recommend (profile, plan, pick, response) plus one for
the critic and one for each plan that it has revised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from agents.core.agent import AgentContext
from agents.core.ask import Ask
from agents.core.decision_first import ASK, RECOMMEND, RESPOND
from agents.core.dialogue import Dialogue
from agents.core.grounded_titles import ground_mentions
from agents.core.items import Item
from agents.core.steps import ReplyModel, Step, Title, text
from agents.interecagent.demonstrations import nearest
from agents.recommenders.core import positions
from agents.tools.candidates import (
    CandidateOptions,
    Observation,
    PicksFromCandidates,
    count_outcomes,
)
from agents.tools.query import QueryRefused

__all__ = ["InteRecAgent"]

_LOOKED_UP = 5  # items whose details an information query shows
_CRITIC_SEES = 10  # candidates
_INSTEAD = "recommend now. Use the tools with what you know about the user."

Sql = Annotated[str, text(600)]


class _Trait(ReplyModel):
    what: Annotated[str, text(80, "Name a property or a title.")]
    stance: Annotated[
        Literal["expects", "likes", "dislikes"],
        Field(description='Choose one; "expects" means that the user wants it now.'),
    ]


class _Profile(ReplyModel):
    traits: Annotated[
        list[_Trait],
        Field(
            max_length=12,
            description="Write one entry for each thing known about the user; [] for none.",
        ),
    ]


class _Plan(ReplyModel):
    action: Annotated[Literal["recommend", "ask"], Field(description="Choose the next action.")]
    look_up: Annotated[
        Sql | None,
        Field(description="Write SQL that selects items whose details you need; null for none."),
    ]
    hard: Annotated[
        Sql | None,
        Field(
            description="Write SQL that selects the items that may be recommended; null for all."
        ),
    ]
    similar: Annotated[
        list[Title],
        Field(max_length=3, description="List titles that items should be similar to; usually []."),
    ]
    rank_by: Annotated[
        Literal["preference", "similarity"],
        Field(description="Choose to rank by the user's history or by similarity to those titles."),
    ]


class _Verdict(ReplyModel):
    remark: Annotated[str, text(300, "Say what fits and what to plan instead, if anything.")]
    verdict: Annotated[Literal["accept", "revise"], Field(description="Give your verdict.")]


_PROFILE = Step("profile", "extract", _Profile)
_PLAN = Step("plan", "query", _Plan)
_CRITICISE = Step("criticise", "decide", _Verdict)


class _Options(CandidateOptions):
    reflections: Annotated[int, Field(ge=0, le=5)] = 1
    """How often the critic may have a plan revised in one turn."""
    demonstrations: Annotated[int, Field(ge=0, le=8)] = 3
    """The number of worked plans in the prompt."""
    similar_items: Annotated[int, Field(ge=1)] = 200
    """The number of candidates kept by similarity retrieval."""


class _Known(NamedTuple):
    """A trait, as prompts show it."""

    what: str
    stance: str


@dataclass(frozen=True)
class _Result:
    """The result of a plan: the final candidate bus, and observations on the way."""

    candidates: tuple[Item, ...]
    looked_up: tuple[Item, ...]
    queries: tuple[Observation, ...]
    notes: tuple[str, ...]


class InteRecAgent(PicksFromCandidates):
    """Plans its tools, runs them on a candidate bus, has a critic check the result, and picks."""

    version = 5
    Options = _Options
    roles = ("agent", "agent.critic")
    steps = (_PROFILE, _PLAN, _CRITICISE, RECOMMEND, ASK, RESPOND)

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._own = options
        self._profile: tuple[_Known, ...] = ()
        self._plans: list[_Plan] = []
        self._results: dict[int, _Result] = {}  # by the place of the plan

    async def decide(self, dialogue: Dialogue, ask: Ask) -> Literal["recommend", "ask"]:
        self._plans, self._results = [], {}
        reply = await ask(_PROFILE, **self.fields(dialogue), profile=self._profile)
        self._profile = tuple(_Known(trait.what, trait.stance) for trait in reply.traits)
        plan = await self._make_plan(dialogue, ask, remark="")
        for _ in range(self._own.reflections):
            if plan.action == "ask":
                return "ask"
            verdict = await self._criticise(plan, await self._run(plan, dialogue), dialogue, ask)
            if verdict.verdict == "accept":
                return "recommend"
            plan = await self._make_plan(dialogue, ask, remark=verdict.remark)
        return plan.action

    async def would_recommend(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...] | None:
        if self._plans[-1].action == "ask":
            await self._make_plan(dialogue, ask, remark=_INSTEAD)
        return await super().would_recommend(dialogue, ask)

    async def hand_over(self, dialogue: Dialogue) -> tuple[Item, ...]:
        return (await self._run(self._plans[-1], dialogue)).candidates

    def extra_fields(self) -> dict[str, Any]:
        result = self._results.get(len(self._plans) - 1)
        looked_up = result.looked_up if result else ()
        return {"profile": self._profile, "looked_up": looked_up}

    def record(self) -> tuple[str, dict[str, Any]]:
        plan = self._plans[-1]
        tools = [name for name in ("look_up", "hard", "similar") if getattr(plan, name)]
        strategy = "ask" if plan.action == "ask" else "+".join([*tools, plan.rank_by])
        queries = [query for result in self._results.values() for query in result.queries]
        return strategy, {
            "plans": [made.model_dump() for made in self._plans],
            "observations": [list(result.notes) for result in self._results.values()],
            "profile": [trait._asdict() for trait in self._profile],
            **count_outcomes(queries),
        }

    async def _make_plan(self, dialogue: Dialogue, ask: Ask, *, remark: str) -> _Plan:
        said = next((m.text for m in reversed(dialogue.whole) if m.speaker == "user"), "")
        last = self._results.get(len(self._plans) - 1)
        plan = await ask(
            _PLAN,
            **self.fields(dialogue),
            table=self.query.table,
            demonstrations=nearest(said, self._own.demonstrations),
            profile=self._profile,
            last_plan=self._plans[-1].model_dump_json() if self._plans else "",
            notes=last.notes if last else (),
            remark=remark,
        )
        self._plans.append(plan)
        return plan

    async def _criticise(
        self, plan: _Plan, result: _Result, dialogue: Dialogue, ask: Ask
    ) -> _Verdict:
        return await ask.as_role("critic")(
            _CRITICISE,
            noun=self.context.catalogue.noun,
            plan=plan.model_dump_json(),
            notes=result.notes,
            items=result.candidates[:_CRITIC_SEES],
            conversation=dialogue.messages,
        )

    async def _run(self, plan: _Plan, dialogue: Dialogue) -> _Result:
        """Runs the plan's tools on a fresh candidate bus; a plan that has run is not run again."""
        number = len(self._plans) - 1
        if number in self._results:
            return self._results[number]
        bus, notes, queries = self.open_pool(dialogue), [], []
        looked_up: tuple[Item, ...] = ()
        if plan.look_up is not None:
            looked_up, seen = await self._look_up(plan.look_up)
            queries.append(seen)
            notes.append(seen.text)
        if plan.hard is not None:
            queries.append(await bus.query(self.query, plan.hard))
            notes.append(queries[-1].text)
        named = ground_mentions(plan.similar, self.context.catalogue)
        order = self.taste
        if named.items:
            near = self.recommender.similarities(positions(named.items, self.context.catalogue))
            bus.keep_best(near, self._own.similar_items)
            order = near if plan.rank_by == "similarity" else order
            titles = "; ".join(item.title for item in named.items)
            notes.append(f"The {len(bus)} candidates most similar to {titles} remain.")
        notes += [f"No item is called {title[:80]}." for title in named.ungrounded]
        ranked = bus.best(order, self.most)
        notes.append(f"The recommender returned the best {len(ranked)}.")
        result = _Result(ranked, looked_up, tuple(queries), tuple(notes))
        self._results[number] = result
        return result

    async def _look_up(self, sql: str) -> tuple[tuple[Item, ...], Observation]:
        found = await self.query.select(sql)
        if isinstance(found, QueryRefused):
            return (), Observation("refused", f"The look-up was refused: {found.reason}.")
        items = tuple(self.context.catalogue[item_id] for item_id in found[:_LOOKED_UP])
        outcome = "selected" if found else "empty"
        return items, Observation(outcome, f"The look-up found {len(found)} items.")
