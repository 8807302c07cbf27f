"""Abs Greedy: recommends in every turn (Christakopoulou et al., KDD 2016; a baseline of EAR, SCPR
and UNICORN).

It never asks. Candidates are ranked by the vectors of EAR's FM. The papers update their model with
refused items; here a refused item simply stops being a candidate, as UNICORN's public code does for
the other methods too.
"""

from __future__ import annotations

from agents.multi_round.agent import MultiRound
from agents.multi_round.policy import AbsGreedyPolicy, Policy

__all__ = ["AbsGreedy"]


class AbsGreedy(MultiRound):
    """Recommends the best candidates in every turn."""

    def policy(self) -> Policy:
        return AbsGreedyPolicy()
