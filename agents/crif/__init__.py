"""CRIF (Hu et al., Learning to Infer User Implicit Preference in Conversational Recommendation,
SIGIR 2022).

We have its abstract and its authors' code (github.com/Studenthc/CRIF), not its text. The abstract
names four phases. What they hold here, and what was decided where the code cannot be followed:

- **Offline representation learning.** The code trains vectors of users, items and attributes with
  two graph convolutions and BPR. An item's score is the sum of its agreement with the user and with
  accepted attributes, less that with refused ones. Decided: the vectors of EAR's FM, as for `ear`
  and `crm`, whose score is the same sum without convolutions.
- **Tracking.** Accepted and refused attributes, refused items, candidates, and the outcome of each
  turn. Refused attributes lower scores.
- **Decision.** A perceptron with 64 hidden units chooses to ask or to recommend. Like the code, it
  asks about the attribute with the highest entropy. The state holds the outcomes of the turns and
  the number of candidates in eight steps, here in lists of `shown` items; the code adds the number
  of the user, which is left out. Inverse reinforcement learning gives the reward
  (`agents.crif.training`).
- **Inference.** The user's vector moves away from refused items and from what their refusal implies
  (`agents.crif.policy`), in this dialogue alone. The code subtracts the mean vector of the refused
  items. Up to five of its recommended items have one attribute that was not accepted yet, and its
  simulated user says whether the target has that one. `attribute_user` only refuses. So here all
  recommended items are the best ones, a refusal is shared out among the attributes that could
  explain it, and the step has the size `inference`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from agents.core.artifacts import Content
from agents.crif.policy import CRIFPolicy
from agents.multi_round.practice import Practice, Rewards
from agents.multi_round.reinforce import NetworkAgent, NetworkOptions, ReinforceRecipe
from agents.multi_round.trained import PolicyTraining

__all__ = ["CRIF"]


class _Options(NetworkOptions):
    imitated: Annotated[int, Field(ge=0)] = 0
    """Batches in which the network imitates Max Entropy; the public code has none."""
    inference: Annotated[float, Field(ge=0)] = 0.1
    """The size of a step of inference; 0: none."""
    reward_learned: Annotated[float, Field(ge=0)] = 0.1
    """The most that the learned reward of an action adds or takes."""

    def rewards(self) -> Rewards:
        turn, won = self.reward_turn, self.reward_success + self.reward_turn
        return Rewards(turn, turn, won, turn, self.reward_quit)


class _Recipe(ReinforceRecipe):
    name = "crif"

    def policy_of(self, content: Content) -> CRIFPolicy:
        given = self.options
        return CRIFPolicy(content, given.turns, given.shown, given.inference)

    def training(self, practice: Practice, seed: int, state: Content | None) -> PolicyTraining:
        from agents.crif.training import CRIFTraining

        return CRIFTraining(self, practice, seed, state)


class CRIF(NetworkAgent):
    """Asks or recommends as a policy decides whose reward is learned, and infers from refusals."""

    version: ClassVar[int] = 2
    Options = _Options
    recipe = _Recipe
