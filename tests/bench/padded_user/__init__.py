"""A user of one call per turn, whose prompts are distinct and 2,000 characters long."""

from __future__ import annotations

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from agents.core.steps import Step
from simulators.core.user import User
from tests.bench.padding import Words

__all__ = ["Padded"]

_REPLY = Step("reply", "verbalise", Words)


class Padded(User):
    steps = (_REPLY,)

    async def open(self, ask: Ask) -> UserTurn:
        return UserTurn(f"I am user {ask.scope}.", "answer")

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        said = await ask(_REPLY, last=dialogue.messages[-1].text)
        return UserTurn(said.words, "answer")
