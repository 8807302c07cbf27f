"""CRIF's decision phase: inverse reinforcement learning of a reward, and REINFORCE with it.

In every turn of a training dialogue both actions are tried out on the simulated user, and the one
that brings the target further ahead is preferred (`asking_is_better`, which is the "human feedback"
of the public code). A second perceptron learns a reward for each action, so that the softmax over
both agrees with the preferences (cross entropy). The policy is trained with what it says at the
time: the learned reward, within 0.1 of zero, -0.1 for every turn, 1 for success, -0.3 at the end;
discount 0.7.

Decided here: both perceptrons learn from batches of dialogues with Adam, the policy with the
baseline of `agents.multi_round.reinforce` (the code: single dialogues, SGD, standardised returns);
the reward is that of the state before the action; no dropout.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from agents.crif.policy import ASK, RECOMMEND
from agents.multi_round.policy import most_informative_questions
from agents.multi_round.practice import Game
from agents.multi_round.reinforce import NetworkPolicy, ReinforceTraining, TrajectoryStep
from agents.multi_round.rounds import Rounds, Users

_NEAR = 5  # lists of items: the code has 50 candidates, and lists of 10
_LENGTH = 0.5  # what a candidate less is worth, in ranks


def asking_is_better(rounds: Rounds, users: Users, rows: np.ndarray, shown: int) -> np.ndarray:
    """(rows,), bool: whether the most telling question would bring the target further ahead than a
    recommendation. It cannot where the target would be shown. A target within the first five lists
    gains by its rank, one further down also by the number of candidates that drop out."""
    questions = most_informative_questions(rounds, rows)
    liked, disliked = users.answers(rows, np.maximum(questions, 0))
    known = rounds.accepted[rows] | rounds.refused[rows]
    liked, disliked = liked & ~known, disliked & ~known
    found = np.zeros(len(rows), bool)
    none = np.zeros(0, np.int64)
    for place in np.flatnonzero(questions >= 0):
        row, target = int(rows[place]), int(users.targets[rows[place]])
        rank, number = rounds.rank_of(row, target, none, none)
        if rank < shown:
            continue
        then, left = rounds.rank_of(
            row, target, np.flatnonzero(liked[place]), np.flatnonzero(disliked[place])
        )
        asking, recommending = float(rank - then), float(shown)
        if rank > _NEAR * shown:
            asking += _LENGTH * (number - left)
            recommending += _LENGTH * shown
        found[place] = asking > recommending
    return found


class CRIFTraining(ReinforceTraining):
    def _initial(self) -> dict[str, Any]:
        found = super()._initial()
        rng = np.random.default_rng([self.seed, 0, 1])
        inputs, hidden = found["inner"].shape
        drawn = {
            "reward_inner": rng.standard_normal((inputs, hidden)) * (2 / inputs) ** 0.5,
            "reward_outer": rng.standard_normal((hidden, 2)) * 0.1 * hidden**-0.5,
            "reward_inner_bias": np.zeros(hidden),
            "reward_outer_bias": np.zeros(2),
        }
        return found | {n: torch.from_numpy(a.astype(np.float32)) for n, a in drawn.items()}

    def one_round(self) -> None:
        self._preferred: list[np.ndarray] = []
        super().one_round()

    def _act(
        self, policy: NetworkPolicy, game: Game, rng: np.random.Generator, imitates: bool
    ) -> TrajectoryStep:
        step = super()._act(policy, game, rng, imitates)
        with self.clock.on("feedback"):
            better = asking_is_better(game.rounds, game.users, step.rows, self.options.shown)
        self._preferred.append(np.where(better, ASK, RECOMMEND))
        return step

    def _loss(self, steps: list[TrajectoryStep], rewards: np.ndarray, imitates: bool) -> Any:
        w = self.weights
        given = torch.from_numpy(np.concatenate([step.states for step in steps])).to(self.device)
        inner = torch.relu(given @ w["reward_inner"] + w["reward_inner_bias"])
        learned = torch.tanh(inner @ w["reward_outer"] + w["reward_outer_bias"])
        learned = learned * self.recipe.options.reward_learned
        said, first = learned.detach().cpu().numpy(), 0
        for turn, step in enumerate(steps):
            own = said[first : first + len(step.rows)]
            rewards[step.rows, turn] += own[np.arange(len(own)), step.actions]
            first += len(own)
        wanted = torch.from_numpy(np.concatenate(self._preferred)).to(self.device)
        # Where nothing is left to ask, there is nothing to prefer.
        choice = torch.from_numpy(np.concatenate([step.open_now[:, ASK] for step in steps]))
        chosen = choice.to(self.device)
        irl = cross_entropy(learned[chosen], wanted[chosen]) if bool(choice.any()) else 0.0
        return super()._loss(steps, rewards, imitates) + irl
