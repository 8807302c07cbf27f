"""Max Entropy: asks what splits the candidates most evenly (a baseline of EAR, SCPR and UNICORN).

It asks about the attribute with the highest entropy among the candidates, and recommends with the
probability 10 / candidates, so always once ten are left. Items are ranked by the vectors of EAR's
FM, as in SCPR. The papers say "with a certain probability"; this one is that of SCPR's public code.
With `asks: 5` it asks so many questions first and only recommends after that, which is in no paper.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agents.multi_round.agent import MultiRound, MultiRoundOptions
from agents.multi_round.policy import MaxEntropyPolicy, Policy

__all__ = ["MaxEntropy"]


class _Options(MultiRoundOptions):
    asks: Annotated[int, Field(ge=0)] | None = None
    """The number of questions, after which it only recommends. None: it recommends with the
    probability 10 / candidates."""


class MaxEntropy(MultiRound):
    """Asks by entropy, and recommends once few candidates are left."""

    Options = _Options

    def policy(self) -> Policy:
        assert isinstance(self.options, _Options)
        return MaxEntropyPolicy(self.options.asks)
