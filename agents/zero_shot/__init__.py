"""Zero-shot (AF-IRS, section 5.1.3): a model makes the decision and executes it, untaught.

The paper says only that it "directly makes decisions and executes actions". We decided: one
call to decide, one to name items or to ask, one to write the response; items are named by title
from the model's own knowledge and grounded in the catalogue afterwards.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agents.core.ask import Ask
from agents.core.decision_first import ASK, RECOMMEND, RESPOND, DecisionFirst
from agents.core.dialogue import Dialogue
from agents.core.steps import ReplyModel, Step

__all__ = ["ZeroShot"]


class _Decision(ReplyModel):
    action: Annotated[Literal["recommend", "ask"], Field(description="Choose your next action.")]


_DECIDE = Step("decide", "decide", _Decision)


class ZeroShot(DecisionFirst):
    """Decide, execute, respond; no reasoning, no tools."""

    version = 3
    steps = (_DECIDE, RECOMMEND, ASK, RESPOND)

    async def decide(self, dialogue: Dialogue, ask: Ask) -> Literal["recommend", "ask"]:
        return (await ask(_DECIDE, **self.fields(dialogue))).action
