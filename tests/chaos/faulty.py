"""A simulated user whose code breaks for one case in a hundred, always the same ones."""

from __future__ import annotations

import hashlib

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from simulators.users.target_item import TargetItem

__all__ = ["Faulty"]

SHARE = 100  # one case in so many


def breaks(case_id: str) -> bool:
    return int.from_bytes(hashlib.blake2b(case_id.encode(), digest_size=4).digest()) % SHARE == 0


class Faulty(TargetItem):
    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        if breaks(ask.scope) and len(dialogue.whole) > 3:
            raise RuntimeError("this user is broken")
        return await super().reply(dialogue, ask)
