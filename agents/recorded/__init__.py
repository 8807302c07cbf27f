"""Repeats what the recommender of a recorded dialogue said, so that judges can read it.

It belongs to the domain `recordings`, asks no model, and has no prompts.
"""

from __future__ import annotations

from agents.core.agent import Agent
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.replay import RecordedCase

__all__ = ["RecordedAgent"]


class RecordedAgent(Agent):
    """Replays the recommender's side of a recorded dialogue."""

    roles = ()
    steps = ()

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        case = self.context.case
        if not isinstance(case, RecordedCase):
            raise TypeError("the agent `recorded` replays dialogues of the domain `recordings`")
        return case.replies[dialogue.turn - 1]
