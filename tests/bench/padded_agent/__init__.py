"""An agent of one call per turn, whose prompts are distinct and 2,000 characters long."""

from __future__ import annotations

from agents.core.agent import Agent
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.steps import Step
from tests.bench.padding import Words

__all__ = ["Padded"]

_SAY = Step("say", "verbalise", Words)


class Padded(Agent):
    steps = (_SAY,)

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        said = await ask(_SAY, last=dialogue.messages[-1].text)
        return AgentTurn(said.words, "chat")
