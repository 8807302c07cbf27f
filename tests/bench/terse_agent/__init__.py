"""An agent of one short call per turn, so that a benchmark measures calls and not their length."""

from __future__ import annotations

from typing import Annotated

from agents.core.agent import Agent
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.steps import ReplyModel, Step, text

__all__ = ["Terse"]


class _Words(ReplyModel):
    words: Annotated[str, text(64, "what you say")]


_SAY = Step("say", "verbalise", _Words)


class Terse(Agent):
    steps = (_SAY,)

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        said = await ask(_SAY, conversation=dialogue.messages)
        return AgentTurn(said.words, "chat")
