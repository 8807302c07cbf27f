"""CRM (Sun and Zhang, Conversational Recommender System, SIGIR 2018), in the multi-round setting.

- **Belief tracker** (3.1): the paper's LSTM turns the user's words into a distribution over the
  values of each facet. Here the words are read without error (`agents.multi_round.talk`), so the
  belief is 1 for what the user wants, 0 for what it does not want, and for the rest the share of
  the candidates that have it.
- **Recommender** (3.2): a factorisation machine over user, item and belief; here that of EAR.
- **Policy** (3.3): a perceptron over the belief alone chooses a question or the recommendation, and
  is trained by REINFORCE after a start from a rule.

The paper's dialogues end with the first recommendation. EAR (section 5.2.2) lets CRM continue
after a refusal, with EAR's rewards and training, and so do we; the papers that print CRM's numbers
on LastFM follow EAR.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from agents.multi_round.reinforce import (
    NetworkAgent,
    NetworkPolicy,
    ReinforceOptions,
    ReinforceRecipe,
)
from agents.multi_round.rounds import Rounds

__all__ = ["CRM"]


class _Policy(NetworkPolicy):
    def states(self, rounds: Rounds, rows: np.ndarray) -> np.ndarray:
        belief = np.where(rounds.refused[rows], 0, rounds.shares(rows))
        return np.where(rounds.accepted[rows], 1, belief).astype(np.float32)


class _Recipe(ReinforceRecipe):
    name = "crm"
    policy_class = _Policy


class CRM(NetworkAgent):
    """Asks or recommends as a policy network over its belief decides."""

    version: ClassVar[int] = 2
    Options = ReinforceOptions
    recipe = _Recipe
