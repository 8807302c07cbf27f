"""A user that wants one item and never accepts it, so that every dialogue has all its turns."""

from __future__ import annotations

from dataclasses import replace

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from simulators.users.target_item import TargetItem

__all__ = ["Stubborn"]


class Stubborn(TargetItem):
    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        turn = await super().reply(dialogue, ask)
        return replace(turn, decision="refuse", accepted=None, leaves=False)
