"""A user of one short call per turn, who never decides anything."""

from __future__ import annotations

from typing import Annotated

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from agents.core.steps import ReplyModel, Step, text
from simulators.core.user import User

__all__ = ["Terse"]


class _Words(ReplyModel):
    words: Annotated[str, text(64, "what you say")]


_REPLY = Step("reply", "verbalise", _Words)


class Terse(User):
    steps = (_REPLY,)

    async def open(self, ask: Ask) -> UserTurn:
        return UserTurn((await ask(_REPLY, conversation=[])).words, "answer")

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        return UserTurn((await ask(_REPLY, conversation=dialogue.messages)).words, "answer")
