"""A case whose dialogue was recorded elsewhere, as the agent `recorded` sees it."""

from __future__ import annotations

from dataclasses import dataclass

from agents.core.dialogue import AgentTurn
from agents.core.items import VisibleCase


@dataclass(frozen=True, slots=True)
class RecordedCase(VisibleCase):
    """What the recommender said, turn by turn."""

    replies: tuple[AgentTurn, ...]
