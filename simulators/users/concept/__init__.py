"""The user of CONCEPT (Huang et al., 2024), which PC-CRS (Qin et al., 2024) uses too.

It has a persona, an age group and an emotional style, and attributes that an item must have all at
once. It does not know the target. It keeps to its persona, describes what it wants in its own
words, and accepts an item when it is sure that the item has everything it wants.

Decided here:

- CONCEPT draws attributes from fixed sets of genres. Here they are facts of the case's target, so
  that there is an item to find: `wanted` of them, drawn by case and seed, as the persona is.
- CONCEPT's user learns about items from the recommender alone. Here the prompt that decides also
  lists the facts of what is recommended; `item_facts: false` leaves them out.
- CONCEPT asks for the user's feelings first, then for the words. Here the feelings are a field of
  the reply that decides (`reason`), before the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from agents.core.ask import Ask
from agents.core.items import Fact, Item, facts_of
from simulators.core.user import UserContext
from simulators.users.concept.persona import (
    AGES,
    EMOTIONAL_STYLES,
    Age,
    EmotionalStyle,
    Persona,
    draw_persona,
    draw_wanted,
)
from simulators.users.core.accepting import AcceptingOptions, AcceptingUser
from simulators.users.core.hidden import knew

__all__ = ["Concept"]


class _Options(AcceptingOptions):
    wanted: Annotated[int, Field(ge=1)] | None = 3
    """The maximum number of the target's facts that the user wants; `null`: all of them."""
    item_facts: bool = True
    """Whether the prompt for the decision lists the catalogue's facts of the recommended items."""
    age: Age | None = None
    """The same age group for all users; by default, it is drawn."""
    style: EmotionalStyle | None = None
    """The same emotional style for all users; by default, it is drawn."""


class _Drawn(NamedTuple):
    persona: Persona
    wanted: tuple[Fact, ...]


class Concept(AcceptingUser):
    """Wants an item with certain attributes, and has a persona."""

    version = 3
    Options = _Options

    def __init__(self, options: _Options, context: UserContext) -> None:
        super().__init__(options, context)
        self._own = options
        self._drawn: _Drawn | None = None

    def fields(self, ask: Ask) -> Mapping[str, Any]:
        drawn = self._draw(ask)
        return {
            "age": AGES[drawn.persona.age],
            "style": EMOTIONAL_STYLES[drawn.persona.style],
            "wishes": drawn.wanted,
            "item_facts": self._own.item_facts,
        }

    def wants(self, item: Item, ask: Ask) -> bool:
        return set(self._draw(ask).wanted) <= set(facts_of(item))

    def knew(self, ask: Ask) -> dict[str, Any]:
        drawn = self._draw(ask)
        return {**knew((), drawn.wanted), **drawn.persona._asdict()}

    def why(self, accepted: Item | None) -> str:
        shown = "no item that is shown" if accepted is None else "an item that is shown"
        return f"{shown} has everything that is wanted"

    def _draw(self, ask: Ask) -> _Drawn:
        if self._drawn is None:
            own = self._own
            self._drawn = _Drawn(
                draw_persona(ask, own.age, own.style),
                draw_wanted(ask, facts_of(self.targets[0]), own.wanted),
            )
        return self._drawn
