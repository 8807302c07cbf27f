"""Success when the critic's score is above its threshold (RSO, section III-D: the termination
signal d_t, which its Conv-SR counts)."""

from __future__ import annotations

from agents.core.dialogue import AgentTurn, UserTurn
from simulators.core.cases import HiddenCase
from simulators.core.critic import CriticTurn

__all__ = ["critic_above"]


def critic_above(
    agent: AgentTurn, user: UserTurn, hidden: HiddenCase, critic: CriticTurn | None
) -> bool:
    """Whether the critic is satisfied; a turn without a verdict is not a success."""
    return critic is not None and critic.above
