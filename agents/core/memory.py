"""Memory across dialogues: what an agent keeps of dialogues that are over.

A cell whose agent has one is a stream: its dialogues follow each other, and what is learned of one
batch of them is known in the next (`sweeps.streams`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MEMORY = "memory"
"""The name of the memory in `AgentContext.artifacts`: a sequence of entries, oldest first. In
rehearsals there is none."""


class LearnedTurn(NamedTuple):
    """A turn of a dialogue that is over, as far as an agent may learn from it: its own words, and
    what came of them."""

    text: str
    action: str
    strategy: str | None
    shown: tuple[str, ...]
    """Ids of items."""
    extra: Mapping[str, Any]
    """What the agent recorded, of JSON types."""
    accepted: str | None
    """The id of the item that the user bought after it."""
    over_budget: bool | None
    """Whether that was above the user's budget; None if unknown."""


class Memory(ABC):
    """How an agent learns. Crosses processes."""

    batch: int
    """Dialogues that run at once between two updates."""

    @abstractmethod
    def learn(self, turns: Sequence[LearnedTurn]) -> list[dict[str, Any]]:
        """What is kept of one dialogue: entries of JSON types."""
