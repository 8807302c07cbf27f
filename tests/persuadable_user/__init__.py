"""A scripted buyer, for tests of memories of sales: it calls no model, and persuasion may sell to
it above its budget."""

from __future__ import annotations

import asyncio

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from agents.core.items import Item
from agents.core.plugins import operational
from simulators.core.profiles import BuyerProfile
from simulators.core.user import User, UserOptions

__all__ = ["Persuadable"]


class _Options(UserOptions):
    stops_in: str = operational("")
    """The case in which it never says a word."""


class Persuadable(User):
    """Buys the first item above its budget that it is shown; a Rational one, in its second turn,
    the first item of all.

    It records `over_budget` as `csuser` does.
    """

    Options = _Options
    options: _Options
    roles = ()
    steps = ()
    needs_profiles = True

    async def open(self, ask: Ask) -> UserTurn:
        if self.context.case.visible.case_id == self.options.stops_in:
            await asyncio.Event().wait()
        profile = self._profile
        low, high = profile.budget
        words = f"I want {profile.category_path[-1]}, for ${low:.2f} to ${high:.2f}."
        return UserTurn(words, "answer")

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        shown = [item for message in dialogue.whole for item in message.shown]
        if self._profile.style == "Rational":
            wanted = shown[: dialogue.turn > 1]
        else:
            wanted = [item for item in shown if self._exceeds(item)]
        if not wanted:
            return UserTurn("Tell me more.", "refuse" if dialogue.shown else "answer")
        [item, *_] = wanted
        extra = {"over_budget": self._exceeds(item)}
        return UserTurn("I take it.", "accept", item, extra=extra)

    @property
    def _profile(self) -> BuyerProfile:
        profile = self.context.case.hidden.profile
        assert profile is not None  # `needs_profiles`
        return profile

    def _exceeds(self, item: Item) -> bool:
        return item.price is not None and self._profile.budget.exceeded_by(item.price)
