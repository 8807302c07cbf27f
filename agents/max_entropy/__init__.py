"""Max Entropy: asks what splits the candidates most evenly (a baseline of EAR, SCPR and UNICORN).

It asks about the attribute with the highest entropy among the candidates, and recommends with the
probability 10 / candidates, so always once ten are left. Items are ranked by the vectors of EAR's
FM, as in SCPR. The papers say "with a certain probability"; this one is that of SCPR's public code.
"""

from __future__ import annotations

from agents.multi_round.agent import MultiRound
from agents.multi_round.policy import MaxEntropyPolicy, Policy

__all__ = ["MaxEntropy"]


class MaxEntropy(MultiRound):
    """Asks by entropy, and recommends once few candidates are left."""

    def policy(self) -> Policy:
        return MaxEntropyPolicy()
