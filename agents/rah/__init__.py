"""RAH (AF-IRS, section 5.1.3; Shu et al. 2023, the paper's reference [28]).

Shu et al. put an assistant of five agents between recommender and user. Perceive enriches items
with what characterises them; Learn infers a personality of likes and dislikes from how the user
took the items; Act does by the personality what the user would do; Critic says whether the act
suits the user and why not; Reflect revises the personality, free of doubles and contradictions.
The paper says that RAH "emphasizes extracting user preferences and making decisions based on
them", and that it names items from the model's knowledge (5.1.5), without a recommender.

We decided, to make of it a recommender that talks:

- Perceive reads the history in the first turn, and later each list that the user turned down;
  it sees titles and attributes, as their items come with descriptions.
- Learn sees that and the conversation, which stands for the user's actions.
- Act decides on the personality, then names items or asks.
- The true action is not known before the user answers, so Critic compares the named items with
  the user's words. If they do not suit, Reflect revises the personality and Act names items once
  more: at most `rounds` times a turn, the last list unchecked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from agents.core.agent import AgentContext
from agents.core.ask import Ask
from agents.core.decision_first import (
    ASK,
    RECOMMEND,
    RESPOND,
    DecisionFirst,
    DecisionFirstOptions,
    Recommendation,
)
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.grounded_titles import GroundedTitles, ground
from agents.core.items import Item
from agents.core.steps import ReplyModel, Step, text

__all__ = ["RAH"]

_AT_ONCE = 10  # items that one call perceives: their features must fit into a short reply


class _Features(ReplyModel):
    features: Annotated[
        list[Annotated[str, text(120)]],
        Field(
            min_length=1,
            max_length=_AT_ONCE,
            description="Write a short line for each item: its title and its qualities.",
        ),
    ]


class _Trait(ReplyModel):
    stance: Annotated[Literal["likes", "dislikes"], Field(description="Choose one.")]
    what: Annotated[str, text(80, "Name a quality of items in a few words.")]


class _Personality(ReplyModel):
    traits: Annotated[
        list[_Trait],
        Field(
            max_length=16,
            description="List likes and dislikes, most important first.",
        ),
    ]

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{trait.stance}: {trait.what}" for trait in self.traits)


class _Decision(ReplyModel):
    action: Annotated[Literal["recommend", "ask"], Field(description="Choose the next action.")]


class _Criticism(ReplyModel):
    reason: Annotated[str, text(400, "Say what suits the user, what does not, and why.")]
    verdict: Annotated[Literal["suits", "does not suit"], Field(description="Give your verdict.")]


_PERCEIVE = Step("perceive", "summarise", _Features)
_LEARN = Step("learn", "extract", _Personality)
_DECIDE = Step("decide", "decide", _Decision)
_CRITICISE = Step("criticise", "decide", _Criticism)
_REFLECT = Step("reflect", "extract", _Personality)


class _Options(DecisionFirstOptions):
    rounds: Annotated[int, Field(ge=0, le=5)] = 1
    """How often in a turn Critic may look, and Reflect and Act try again."""


class _Objection(NamedTuple):
    """What Critic had against some items that Act had named."""

    items: tuple[Item, ...]
    misses: tuple[str, ...]
    """What was named besides and cannot be recommended, each with the reason."""
    reason: str


@dataclass(frozen=True)
class _Act:
    """Named items, the personality that they were named by, and what Critic had against others."""

    named: GroundedTitles
    personality: tuple[str, ...]
    objections: Sequence[_Objection]


class RAH(DecisionFirst):
    """Learns a personality, acts by it, criticises the act and reflects."""

    version = 5
    Options = _Options
    steps = (_PERCEIVE, _LEARN, _DECIDE, RECOMMEND, _CRITICISE, _REFLECT, ASK, RESPOND)

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._rounds = options.rounds
        self._personality: tuple[str, ...] = ()
        self._objections: Sequence[_Objection] = ()

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        self._objections = ()
        turn = await super().respond(dialogue, ask)
        strategy = "elicit" if turn.action == "ask" else "reflect" if self._objections else "act"
        reasons = [objection.reason for objection in self._objections]
        record = {"personality": list(self._personality), "objections": reasons}
        return replace(turn, strategy=strategy, extra={**turn.extra, **record})

    async def decide(self, dialogue: Dialogue, ask: Ask) -> Literal["recommend", "ask"]:
        fields = self.fields(dialogue)
        first = dialogue.turn == 1
        learned = await ask(
            _LEARN,
            **fields,
            personality=self._personality,
            stance="liked" if first else "turned down",
            features=await self._perceive(fields["history"] if first else dialogue.shown, ask),
        )
        self._personality = learned.lines()
        return (await ask(_DECIDE, **fields, personality=self._personality)).action

    async def name_items(self, dialogue: Dialogue, ask: Ask) -> GroundedTitles:
        act = await self._act(dialogue, ask)
        self._personality, self._objections = act.personality, act.objections
        return act.named

    async def would_recommend(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...] | None:
        # What a probe reflects on is not learned.
        return (await self._act(dialogue, ask)).named.items

    def extra_fields(self) -> dict[str, Any]:
        return {"personality": self._personality}

    async def _perceive(self, items: Sequence[Item], ask: Ask) -> list[str]:
        features: list[str] = []
        for start in range(0, len(items), _AT_ONCE):
            batch = items[start : start + _AT_ONCE]
            reply = await ask(
                _PERCEIVE.bounded(features=len(batch)),
                noun=self.context.catalogue.noun,
                items=batch,
            )
            features += reply.features
        return features

    async def _act(self, dialogue: Dialogue, ask: Ask) -> _Act:
        """Names items, until Critic is content or has looked often enough."""
        fields, personality = self.fields(dialogue), self._personality
        objections: list[_Objection] = []
        while True:
            reply: Recommendation = await ask(
                RECOMMEND.bounded(titles=self.context.shown_items),
                **fields,
                personality=personality,
                objections=tuple(objections),
                limit=self.context.shown_items,
                repeat=self.options.repeat,
            )
            named = ground(reply.titles, self.context, dialogue, repeat=self.options.repeat)
            if len(objections) == self._rounds:
                return _Act(named, personality, objections)
            shown = named.items[: self.context.shown_items]
            found = await ask(
                _CRITICISE, **fields, personality=personality, items=shown, misses=named.misses
            )
            if found.verdict == "suits":
                return _Act(named, personality, objections)
            objections.append(_Objection(shown, named.misses, found.reason))
            reflected = await ask(
                _REFLECT, **fields, personality=personality, items=shown, objection=found.reason
            )
            personality = reflected.lines()
