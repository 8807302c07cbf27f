"""Memory across dialogues: what an agent keeps from finished dialogues.

A cell whose agent has a memory is a stream: its dialogues are played in order, and what is learned
from one batch is known in the next (`sweeps.streams`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MEMORY = "memory"
"""The name of the memory in `AgentContext.artifacts`: a sequence of entries, oldest first.
Rehearsals have none."""


class LearnedTurn(NamedTuple):
    """A turn of a finished dialogue, as far as an agent may learn from it: its own message, and the
    outcome."""

    text: str
    action: str
    strategy: str | None
    shown: tuple[str, ...]
    """Item ids."""
    extra: Mapping[str, Any]
    """The agent's record, in JSON types."""
    accepted: str | None
    """The id of the item that the user bought after it."""
    over_budget: bool | None
    """Whether its price was above the user's budget; None if unknown."""


class Memory(ABC):
    """How an agent learns. Crosses processes."""

    batch: int
    """The number of dialogues that run at once between two updates."""

    @abstractmethod
    def learn(self, turns: Sequence[LearnedTurn]) -> list[dict[str, Any]]:
        """The entries to keep from one dialogue, in JSON types."""
