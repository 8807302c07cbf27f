"""Success when a target is shown (the LatentCRS code: the user's words are ignored)."""

from __future__ import annotations

from agents.core.dialogue import AgentTurn, UserTurn
from simulators.core.cases import HiddenCase
from simulators.core.critic import CriticTurn

__all__ = ["target_in_shown"]


def target_in_shown(
    agent: AgentTurn, user: UserTurn, hidden: HiddenCase, critic: CriticTurn | None
) -> bool:
    """Whether one of the targets is among the items shown in this turn."""
    return any(item in hidden.targets for item in agent.shown)
