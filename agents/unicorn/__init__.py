"""UNICORN: one policy that asks or recommends, over a graph (Deng et al., SIGIR 2021).

- **Graph** (4.2.1): users, items and attribute values, with vectors from TransE that stay fixed.
  The graph of a state holds the user, the accepted values, the candidates and the values that can
  still be asked about; between user and candidate, the weight is the sigmoid of its score (eq. 7).
- **State** (4.2.2): a graph convolution, then a transformer over the accepted values (`network`).
- **Actions** (4.3): 10 candidates with the highest scores (eq. 13) and 10 questions with the
  highest weighted entropy (eq. 14, 15). An item as the action means: the best items by Q are shown.
- **Learning** (4.4): dueling double DQN with prioritised replay (`training`). Rewards: 1 for
  success, -0.1 for refused items, 0.01 and -0.1 for a yes and a no, -0.3 at the end.

The numbers are those of section 5.1.4 and of the public code: 64 units of vectors, 100 hidden,
batches of 128, replay of 50,000, learning rate 1e-4, weight decay 1e-6, discount 0.999.

Decided here, and where the public code differs from the paper:

- One graph convolution, as in the code; the paper has 2. With one, and fixed vectors, the sum over
  neighbours does not depend on weights, so it is made once for each state.
- The normalised adjacency of eq. 9 (the code leaves it out). Candidates count as neighbours of all
  accepted values, which they have.
- Q is value plus advantage, as eq. 11; the code subtracts the mean advantage when it acts. The
  target network holds all weights; the code's shares the encoder of states. No dropout.
- Questions are ranked by weighted entropy, as the paper; the code ranks them by preference
  (`question_selection: preference`), and says that entropy reaches the published numbers on Yelp.
- With `updates_every: 4`, one batch is learned for every 4 turns; the code learns one for each.
- Explores with the probability 0.1, which is what the code's schedule amounts to.
- In use, what is left is recommended when it fits into one turn, as in the code.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from agents.core.artifacts import Content
from agents.core.items import Catalogue
from agents.core.plural import many
from agents.multi_round.embeddings import EmbeddingOptions
from agents.multi_round.policy import Policy
from agents.multi_round.practice import Practice, Rewards
from agents.multi_round.rounds import Decisions, Rounds
from agents.multi_round.trained import (
    PolicyRecipe,
    PolicyTraining,
    TrainedAgent,
    TrainedOptions,
)
from agents.unicorn.actions import Actions, decisions_of
from agents.unicorn.network import NUMPY, q_values, state_vectors

__all__ = ["UNICORN"]


class _Options(TrainedOptions):
    vectors: EmbeddingOptions = EmbeddingOptions(method="transe")
    """The paper's are TransE's; EAR's FM, or a file of vectors, can be used instead."""
    hidden: Annotated[int, Field(ge=4, le=1024, multiple_of=4)] = 100
    heads: Literal[1, 2, 4] = 4
    items: Annotated[int, Field(ge=1, le=1000)] = 10
    """K_v: candidates among the actions; at least as many as are shown."""
    asked: Annotated[int, Field(ge=1, le=1000)] = 10
    """K_p: questions among the actions."""
    question_selection: Literal["weighted_entropy", "preference"] = "weighted_entropy"
    dialogues: Annotated[int, Field(ge=1)] = 10_000
    """How many are played in training; the public code plays 100 times 100."""
    updates_every: Annotated[int, Field(ge=1)] = 4
    """Turns for each batch that is learned."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    replay: Annotated[int, Field(ge=1)] = 50_000
    """Turns that the replay memory holds."""
    priority: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Alpha of prioritised replay."""
    correction: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Beta at the beginning; it grows by 0.001 a batch up to 1."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 1e-6
    discount: Annotated[float, Field(ge=0, le=1)] = 0.999
    target_rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Tau: how far the target network moves at each batch."""
    explore: Annotated[float, Field(ge=0, le=1)] = 0.1
    reward_success: float = 1.0
    reward_refused: float = -0.1
    reward_yes: float = 0.01
    reward_no: float = -0.1
    reward_quit: float = -0.3

    def rewards(self) -> Rewards:
        own = (self.reward_yes, self.reward_no, self.reward_success, self.reward_refused)
        return Rewards(*own, self.reward_quit)


class GraphPolicy(Policy):
    """Chooses the action with the highest Q."""

    def __init__(self, content: Content, options: _Options) -> None:
        self._weights, self._options = content.arrays, options

    def decide(self, rounds: Rounds, rows: np.ndarray, draws: np.ndarray, shown: int) -> Decisions:
        given = Actions.of(rounds, rows, self._options, items=max(shown, self._options.items))
        states = state_vectors(self._weights, NUMPY, given.states, self._options.heads)
        values = q_values(self._weights, NUMPY, states, given.vectors(rounds))
        values = np.where(given.ids >= 0, values, -np.inf)
        few = rounds.left(rows) <= shown
        return decisions_of(given, values, rounds, shown, recommends=few)


class _Recipe(PolicyRecipe):
    name = "unicorn"

    @property
    def size(self) -> str:
        return many(self.options.dialogues, "dialogue")

    def short(self) -> Any:
        small = {"dialogues": 8, "at_once": 8, "batch_size": 4, "updates_every": 64}
        return self.options.model_copy(update=small)

    def training(self, practice: Practice, seed: int, state: Content | None) -> PolicyTraining:
        from agents.unicorn.training import UNICORNTraining

        return UNICORNTraining(self.options, practice, seed, state)

    def load(self, content: Content, catalogue: Catalogue) -> GraphPolicy:
        return GraphPolicy(content, self.options)


class UNICORN(TrainedAgent):
    """Asks or recommends, whichever has the highest value."""

    version: ClassVar[int] = 2
    Options = _Options
    recipe = _Recipe
