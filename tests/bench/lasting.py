"""A user that leaves after a number of turns drawn from a heavy-tailed distribution. No model."""

from __future__ import annotations

import math
import random

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from simulators.core.user import User

__all__ = ["Lasting"]

MEDIAN, MEAN, MOST = 45, 54, 217  # turns
_SIGMA = math.sqrt(2 * math.log(MEAN / MEDIAN))  # of a log-normal with this median and mean


def turns_of(case_id: str) -> int:
    drawn = random.Random(case_id).lognormvariate(math.log(MEDIAN), _SIGMA)
    return max(1, min(MOST, round(drawn)))


class Lasting(User):
    steps = ()

    async def open(self, ask: Ask) -> UserTurn:
        return UserTurn("Hello.", "answer")

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        leaves = len(dialogue.whole) // 2 >= turns_of(ask.scope)
        return UserTurn("Go on.", "answer", leaves=leaves)
