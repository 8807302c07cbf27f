"""ReAct (AF-IRS, section 5.1.3; Yao et al. 2023, the paper's reference [46]).

The paper says that it "combines reasoning and action, using chain-of-thought reasoning for
decision-making", without external tools. We decided: up to `max_thoughts` thoughts before the
decision, each a call of its own that sees the thoughts before it; the thoughts of the turn go
into the prompt that executes the decision, and are forgotten with the turn.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

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
from agents.core.steps import ReplyModel, Step, text

__all__ = ["ReAct"]


class _Thought(ReplyModel):
    thought: Annotated[str, text(600, "Say what the user wants, what is unclear and what follows.")]
    action: Annotated[
        Literal["recommend", "think", "ask"],
        Field(description='Choose your next action; "think" adds one more thought first.'),
    ]


class _LastThought(ReplyModel):
    thought: Annotated[str, text(600, "Say what the user wants, what is unclear and what follows.")]
    action: Annotated[Literal["recommend", "ask"], Field(description="Choose your next action.")]


_THINK = Step("think", "decide", _Thought)
_CONCLUDE = Step("conclude", "decide", _LastThought)


class _Options(DecisionFirstOptions):
    max_thoughts: Annotated[int, Field(ge=1, le=10)] = 2


class ReAct(DecisionFirst):
    """Thinks aloud before it decides."""

    version = 4
    Options = _Options
    steps = (_THINK, _CONCLUDE, RECOMMEND, ASK, RESPOND)

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._max_thoughts = options.max_thoughts
        self._thoughts: list[str] = []

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        self._thoughts = []
        return await super().respond(dialogue, ask)

    async def decide(self, dialogue: Dialogue, ask: Ask) -> Literal["recommend", "ask"]:
        for _ in range(self._max_thoughts - 1):
            thought = await ask(_THINK, **self.fields(dialogue), thoughts=self._thoughts)
            self._thoughts.append(thought.thought)
            if thought.action != "think":
                return thought.action
        last = await ask(_CONCLUDE, **self.fields(dialogue), thoughts=self._thoughts)
        self._thoughts.append(last.thought)
        return last.action

    def extra_fields(self) -> dict[str, Any]:
        return {"thoughts": self._thoughts}
