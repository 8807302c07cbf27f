"""Says again what the user of a recorded dialogue said, so that judges can read it.

It belongs to the domain `recordings`, asks no model, and has no prompts. Where the user of the
recording said nothing (before a recommender who spoke first, after the last reply), its words are
empty, which judges are not shown.
"""

from __future__ import annotations

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from simulators.core.cases import RecordedAnswers
from simulators.core.user import User

__all__ = ["Recorded"]


class Recorded(User):
    """Replays the user's side of a recorded dialogue, and leaves where it ends."""

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
