"""Repeats what the user of a recorded dialogue said, so that judges can read it.

It belongs to the domain `recordings`, asks no model, and has no prompts. If the recorded user said
nothing (before a recommender who spoke first, or after the last reply), its message is empty, and
judges do not see it.
"""

from __future__ import annotations

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from simulators.core.cases import RecordedAnswers
from simulators.core.user import User

__all__ = ["RecordedUser"]


class RecordedUser(User):
    """Replays the user's side of a recorded dialogue, and leaves when it ends."""

    roles = ()
    steps = ()

    async def open(self, ask: Ask) -> UserTurn:
        return self._said[0]

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        return self._said[len(dialogue.whole) // 2]

    @property
    def _said(self) -> tuple[UserTurn, ...]:
        hidden = self.context.case.hidden
        if not isinstance(hidden, RecordedAnswers):
            raise TypeError("the simulator `recorded` replays dialogues of the domain `recordings`")
        return hidden.said
