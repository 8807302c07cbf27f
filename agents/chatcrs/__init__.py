"""ChatCRS (AF-IRS, section 5.1.3; Li et al. 2024, the paper's reference [21]).

Li et al. give a conversational model two helpers. A knowledge retrieval agent finds the entities
of the conversation, shows the model the relations that lead from them in a knowledge base, and
looks up those that the model picks, one hop far; a goal planning agent predicts the goal of the
next message. Both go into the prompt of the message. The paper says that ChatCRS "uses an
external Knowledge Base to decide the next action and generates the response based on it", without
a recommender, items being named from the model's knowledge (5.1.5).

We decided: the knowledge base is the catalogue (`agents.chatcrs.knowledge`). Of a relation with
many items, `facts` drawn at random are shown, without those the user has had or been shown. The
goal is one of the paper's two actions and a topic, planned on the knowledge as well, since the
paper says so. Li et al. tune a small model for goals and give examples; here all is prompted
without, and the sub-roles `agent.knowledge` and `agent.goal` may be given models of their own.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from agents.chatcrs.knowledge import Relation, knowledge_base
from agents.core.agent import AgentContext
from agents.core.ask import Ask
from agents.core.decision_first import (
    ASK,
    RECOMMEND,
    RESPOND,
    DecisionFirst,
    DecisionFirstOptions,
)
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.items import Item
from agents.core.seeds import call_seed
from agents.core.steps import Bound, ReplyModel, Step, text
from agents.recommenders.core import pool

__all__ = ["ChatCRS"]

_MOST_RELATIONS = 100  # that one prompt lists
_PICKED = 6  # relations that one reply picks


class _Entities(ReplyModel):
    entities: Annotated[
        list[Annotated[str, text(100)]],
        Field(max_length=6, description="List entities, most important first; [] for none."),
    ]


class _Relations(ReplyModel):
    relations: Annotated[
        list[Annotated[int, Field(ge=1, le=_MOST_RELATIONS)]],
        Field(max_length=_PICKED, description="Give the numbers of the relations; [] for none."),
    ]


class _Goal(ReplyModel):
    topic: Annotated[str, text(200, "Name the topic in a few words.")]
    goal: Annotated[Literal["recommend", "ask"], Field(description="Choose the goal.")]


_ENTITIES = Step("entities", "extract", _Entities)
_RELATIONS = Step("relations", "choose", _Relations)
_GOAL = Step("goal", "decide", _Goal)


class _Options(DecisionFirstOptions):
    facts: Annotated[int, Field(ge=1, le=100)] = 30
    """The maximum number of items of one relation in a prompt."""


class ChatCRS(DecisionFirst):
    """Retrieves knowledge, plans a goal, and writes by both."""

    version = 4
    Options = _Options
    roles = ("agent", "agent.knowledge", "agent.goal")
    steps = (_ENTITIES, _RELATIONS, _GOAL, RECOMMEND, ASK, RESPOND)

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._facts = options.facts
        self._base = knowledge_base(context.catalogue)
        self._knowledge: tuple[str, ...] = ()
        self._looked_up: list[str] = []
        self._unknown: list[str] = []
        self._topic = ""

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        turn = await super().respond(dialogue, ask)
        record = {
            "topic": self._topic,
            "looked_up": self._looked_up,
            "not_in_knowledge_base": self._unknown,
        }
        strategy = "with knowledge" if self._knowledge else "without knowledge"
        return replace(turn, strategy=strategy, extra={**turn.extra, **record})

    async def decide(self, dialogue: Dialogue, ask: Ask) -> Literal["recommend", "ask"]:
        self._knowledge = await self._retrieve(dialogue, ask)
        planned = await ask.as_role("goal")(
            _GOAL, **self.fields(dialogue), knowledge=self._knowledge
        )
        self._topic = planned.topic
        return planned.goal

    async def would_recommend(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...] | None:
        self._topic = ""  # what was planned is a question
        return await super().would_recommend(dialogue, ask)

    def extra_fields(self) -> dict[str, Any]:
        return {"knowledge": self._knowledge, "topic": self._topic}

    async def _retrieve(self, dialogue: Dialogue, ask: Ask) -> tuple[str, ...]:
        """A line for each relation that the model picks at the entities it finds."""
        retriever = ask.as_role("knowledge")
        self._looked_up, self._unknown = [], []
        properties = list(self.context.catalogue.attributes)
        found = await retriever(_ENTITIES, **self.fields(dialogue), attributes=properties)
        relations: dict[str, Relation] = {}
        for name in found.entities:
            there = self._base.relations(name)
            relations |= {relation.text: relation for relation in there}
            if not there:
                self._unknown.append(name)
        if not relations:
            return ()
        options = tuple(relations)[:_MOST_RELATIONS]
        step = _RELATIONS.bounded(relations=Bound(min(_PICKED, len(options)), len(options)))
        reply = await retriever(step, **self.fields(dialogue), options=options)
        picked = [relations[options[number - 1]] for number in dict.fromkeys(reply.relations)]
        self._looked_up = [relation.text for relation in picked]
        allowed = pool(self.context, dialogue, self.options.repeat)
        seed = call_seed(ask.sampling, ask.scope, ask.role, "facts", dialogue.turn, 0, 0)
        rng = random.Random(seed)
        return tuple(relation.facts(allowed, self._facts, rng) for relation in picked)
