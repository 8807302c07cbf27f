"""EAR: estimation, action, reflection (Lei et al., WSDM 2020).

- **Estimation** (4.1): a factorisation machine scores items for the user and what was accepted,
  trained by attribute-aware BPR (`agents.multi_round.fm`).
- **Action** (4.2): a perceptron with one hidden layer of 64 units chooses to ask about an attribute
  or to recommend. Its state holds the entropy of each attribute over the candidates, the estimated
  preference for each attribute, the outcomes of the turns so far, and the number of candidates in
  steps. Rewards: 1 for success, 0.1 for an accepted attribute, -0.1 for each turn, -0.3 at the end;
  discount 0.7; REINFORCE after a start from Max Entropy (`agents.multi_round.reinforce`).
- **Reflection** (4.3): when items are refused, the vector of the user moves away from them and
  towards the items of the history, in this dialogue alone (eq. 13).

Decided here: the number of candidates is one of 12 powers of two; reflection is one step of the
gradient of eq. 13 over all pairs of an item of the history and a refused one, for the user's vector
(the paper updates the FM by stochastic steps and does not state which of its vectors).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from agents.core.artifacts import Content
from agents.multi_round.reinforce import (
    NetworkAgent,
    NetworkPolicy,
    ReinforceOptions,
    ReinforceRecipe,
)
from agents.multi_round.rounds import NO_ITEM, Rounds
from agents.multi_round.vectors import sigmoid

__all__ = ["EAR"]

_LENGTHS = 2 ** np.arange(1, 13)


class _Options(ReinforceOptions):
    reflection: Annotated[float, Field(ge=0)] = 0.1
    """The size of a step of reflection; 0: none."""


class _Policy(NetworkPolicy):
    def __init__(self, content: Content, turns: int, reflection: float) -> None:
        super().__init__(content, turns)
        self._reflection = reflection

    def begin(self, rounds: Rounds) -> None:
        if self._reflection:
            rounds.reflects = self._reflect

    def states(self, rounds: Rounds, rows: np.ndarray) -> np.ndarray:
        liked = rounds.users[rows] + rounds.accepted[rows] @ rounds.vectors.facts
        preferred = liked @ rounds.vectors.facts.T
        about = rounds.space.highest(preferred)
        length = rounds.left(rows)[:, None] >= _LENGTHS
        parts = [
            rounds.entropies(rounds.shares(rows)),
            np.tanh(about),
            self.history(rounds, rows),
            length,
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _reflect(self, rounds: Rounds, rows: np.ndarray, items: np.ndarray) -> None:
        """One step along the gradient of the mean of -ln sigmoid(y(u, v) - y(u, v')) by e_u."""
        vectors, had = rounds.vectors.items, rounds.histories[rows]
        liked, refused = had != NO_ITEM, items != NO_ITEM
        if not liked.any():
            return
        wanted = rounds.users[rows] + rounds.accepted[rows] @ rounds.vectors.facts
        own, other = vectors[np.maximum(had, 0)], vectors[np.maximum(items, 0)]
        high = (own @ wanted[:, :, None])[:, :, 0]
        low = (other @ wanted[:, :, None])[:, :, 0]
        slope = sigmoid(low[:, None] - high[:, :, None]) * liked[:, :, None] * refused[:, None]
        pairs = np.maximum(liked.sum(axis=1) * refused.sum(axis=1), 1)[:, None]
        towards = (slope.sum(axis=2)[:, :, None] * own).sum(axis=1)
        away = (slope.sum(axis=1)[:, :, None] * other).sum(axis=1)
        step = np.float32(self._reflection) * (towards - away) / pairs
        rounds.move_users(rows, step.astype(np.float32))


class _Recipe(ReinforceRecipe):
    name = "ear"
    policy_class = _Policy

    def policy_of(self, content: Content) -> _Policy:
        return _Policy(content, self.options.turns, self.options.reflection)


class EAR(NetworkAgent):
    """Asks or recommends as a policy network decides, and learns from refusals."""

    version: ClassVar[int] = 2
    Options = _Options
    recipe = _Recipe
