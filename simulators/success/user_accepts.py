"""Success when the user accepts (AF-IRS 5.1.4, DESIRE, CSI)."""

from __future__ import annotations

from agents.core.dialogue import AgentTurn, UserTurn
from simulators.core.cases import HiddenCase
from simulators.core.critic import CriticTurn

__all__ = ["user_accepts"]


def user_accepts(
    agent: AgentTurn, user: UserTurn, hidden: HiddenCase, critic: CriticTurn | None
) -> bool:
    """Whether the user accepted, whatever the item."""
    return user.decision == "accept"
