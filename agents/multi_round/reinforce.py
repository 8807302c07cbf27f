"""The policy networks of `ear`, `crm` and `crif`, and their training.

- The networks are perceptrons with one hidden layer over a state vector. Those of `ear` and `crm`
  choose one of the questions, or to recommend (EAR, section 4.2; CRM, section 3.3).
- First they imitate the rule Max Entropy (EAR, section 5.2.3: the network is initialised from
  rule-based dialogues), then they learn by REINFORCE with discounted returns (EAR, eq. 12).

Decided here: questions that cannot be asked any more have the probability 0. The baseline is the
mean return of the batch's dialogues in the same turn; without one, batches of this size learn
slowly. In use, the network takes the likeliest action, or draws one (`actions: sampled`); the
papers do not say which they did. Training imports torch, use does not.
"""

from __future__ import annotations

from abc import abstractmethod
from copy import copy
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field

from agents.core.artifacts import Content
from agents.core.items import Catalogue
from agents.core.plural import many
from agents.multi_round.policy import MaxEntropyPolicy, Policy, shown_items
from agents.multi_round.practice import Game, Practice, Rewards
from agents.multi_round.rounds import Decisions, Rounds
from agents.multi_round.trained import (
    PolicyRecipe,
    PolicyTraining,
    TrainedAgent,
    TrainedOptions,
)

_NEVER = -1e9


class NetworkOptions(TrainedOptions):
    """Options of agents whose network is trained by REINFORCE."""

    hidden: Annotated[int, Field(ge=1, le=4096)] = 64
    """Units of the hidden layer."""
    imitated: Annotated[int, Field(ge=0)] = 40
    """Batches of dialogues in which the network imitates Max Entropy."""
    updates: Annotated[int, Field(ge=0)] = 300
    """Batches of dialogues, and steps of REINFORCE, after that."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    discount: Annotated[float, Field(ge=0, le=1)] = 0.7
    reward_success: float = 1.0
    reward_turn: float = -0.1
    """In every turn without success."""
    reward_quit: float = -0.3
    """When the dialogue ends without success."""
    actions: Literal["greedy", "sampled"] = "greedy"
    """How the trained network acts: it takes the likeliest action, or draws from its distribution,
    as in training."""

    @abstractmethod
    def rewards(self) -> Rewards: ...


class ReinforceOptions(NetworkOptions):
    """Options of agents whose rewards are given."""

    reward_yes: float = 0.1
    """When the user has an attribute that was asked about."""

    def rewards(self) -> Rewards:
        turn = self.reward_turn
        return Rewards(self.reward_yes + turn, turn, self.reward_success, turn, self.reward_quit)


class NetworkPolicy(Policy):
    """Chooses an action from a state vector, which subclasses compute from what the agent knows.

    The actions are the questions, followed by recommending, unless a subclass has others."""

    def __init__(self, content: Content, turns: int) -> None:
        self._weights = content.arrays
        self._samples = False
        self.turns = turns

    def sampled(self) -> Self:
        """The same policy, drawing its actions."""
        found = copy(self)
        found._samples = True
        return found

    @abstractmethod
    def states(self, rounds: Rounds, rows: np.ndarray) -> np.ndarray:
        """(rows, s), float32."""

    def history(self, rounds: Rounds, rows: np.ndarray) -> np.ndarray:
        """(rows, turns), float32: the outcomes of the turns so far, halved; 0 for later ones."""
        found = np.zeros((len(rows), self.turns), np.float32)
        outcomes = rounds.outcomes[rows, : self.turns]
        found[:, : outcomes.shape[1]] = outcomes
        return found / 2

    def decide(self, rounds: Rounds, rows: np.ndarray, draws: np.ndarray, shown: int) -> Decisions:
        w = self._weights
        inner = np.maximum(self.states(rounds, rows) @ w["inner"] + w["inner_bias"], 0)
        logits = inner @ w["outer"] + w["outer_bias"]
        values = np.where(self.open_actions(rounds, rows), logits, -np.inf)
        actions = drawn(values, draws) if self._samples else values.argmax(axis=1)
        return self.decisions(actions, rounds, rows, shown)

    def open_actions(self, rounds: Rounds, rows: np.ndarray) -> np.ndarray:
        """(rows, actions), bool: what is possible; recommending, the last one, always is."""
        always = np.ones((len(rows), 1), bool)
        return np.concatenate([rounds.reachable(rows), always], axis=1)

    def decisions(
        self, actions: np.ndarray, rounds: Rounds, rows: np.ndarray, shown: int
    ) -> Decisions:
        """The decisions that the actions (rows,) mean."""
        questions = np.where(actions == len(rounds.space.questions), -1, actions)
        return Decisions(questions, shown_items(rounds, rows, questions < 0, shown))

    def actions_of(self, questions: np.ndarray) -> np.ndarray:
        """The actions that ask `questions` (rows,); -1: recommends."""
        return np.where(questions < 0, self._weights["outer"].shape[1] - 1, questions)


def drawn(logits: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(rows,): for each row of `logits` (rows, n), of which one is finite, the index that the draw
    in [0, 1) picks from their softmax."""
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    reached = weights.cumsum(axis=1)
    return (reached > draws[:, None] * reached[:, -1:]).argmax(axis=1)


class ReinforceRecipe(PolicyRecipe):
    """Trains a network by imitation, then by REINFORCE."""

    policy_class: type[NetworkPolicy]

    @property
    def size(self) -> str:
        batches = self.options.imitated + self.options.updates
        return many(batches * self.options.at_once, "dialogue")

    def short(self) -> Any:
        return self.options.model_copy(update={"imitated": 1, "updates": 1, "at_once": 8})

    def training(self, practice: Practice, seed: int, state: Content | None) -> PolicyTraining:
        return ReinforceTraining(self, practice, seed, state)

    def load(self, content: Content, catalogue: Catalogue) -> NetworkPolicy:
        return self.policy_of(content)

    def policy_of(self, content: Content) -> NetworkPolicy:
        return self.policy_class(content, self.options.turns)


class TrajectoryStep(NamedTuple):
    """States, possible actions and chosen actions of one turn of the dialogues `rows`."""

    states: np.ndarray
    open_now: np.ndarray
    actions: np.ndarray
    rows: np.ndarray


class ReinforceTraining(PolicyTraining):
    def __init__(
        self, recipe: ReinforceRecipe, practice: Practice, seed: int, state: Content | None
    ) -> None:
        import torch

        from agents.training import weights as helpers

        super().__init__(practice, seed)
        self._torch, self._helpers = torch, helpers
        self.recipe = recipe
        self.options: NetworkOptions = recipe.options
        self.most = self.options.imitated + self.options.updates
        self.device = helpers.device_of(f"the agent {recipe.name!r}", self.options.device)
        self.update = 0
        if state is None:
            weights = self._initial()
            self.weights = helpers.trainable(weights, self.device)
            self.adam = torch.optim.Adam(self.weights.values(), lr=self.options.lr)
        else:
            self.weights, _ = helpers.restored_weights(state, self.device)
            self.adam = torch.optim.Adam(self.weights.values(), lr=self.options.lr)
            helpers.restore_adam(self.adam, self.weights, state.data["step"], state, self.device)
            self.update = state.data["update"]
            self.curve = list(state.data["curve"])

    def _initial(self) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, 0])
        rounds, _, _ = self.practice.deal(np.random.default_rng(0), 1)
        probe = self.recipe.policy_of(Content({}, {}))
        probe.begin(rounds)
        one = np.zeros(1, np.int64)
        inputs = probe.states(rounds, one).shape[1]
        hidden, outputs = self.options.hidden, probe.open_actions(rounds, one).shape[1]
        drawn = {
            "inner": rng.standard_normal((inputs, hidden)) * (2 / inputs) ** 0.5,
            "outer": rng.standard_normal((hidden, outputs)) * 0.1 * hidden**-0.5,
            "inner_bias": np.zeros(hidden),
            "outer_bias": np.zeros(outputs),
        }
        from_numpy = self._torch.from_numpy
        return {name: from_numpy(array.astype(np.float32)) for name, array in drawn.items()}

    @property
    def done(self) -> int:
        return self.update

    @property
    def phase(self) -> str:
        phase = "imitation" if self.update <= self.options.imitated else "REINFORCE"
        return f"{phase}, update {self.update}"

    def one_round(self) -> None:
        self.update += 1
        rng = np.random.default_rng([self.seed, self.update])
        imitates = self.update <= self.options.imitated
        with self._helpers.seeded(self.seed, self.update, self.options.threads, self.device):
            game = self.begin(rng, self.options.rewards())
            rounds = game.rounds
            policy = self.recipe.policy_of(
                Content({}, {k: w.detach().cpu().numpy() for k, w in self.weights.items()})
            )
            policy.begin(rounds)
            steps, rewards = [], np.zeros((len(rounds), self.options.turns), np.float32)
            while len(rows := game.rows):
                step = self._act(policy, game, rng, imitates)
                steps.append(step)
                with self.clock.on("state"):
                    decided = policy.decisions(step.actions, rounds, rows, self.options.shown)
                turn = game.play(decided)
                rewards[rows, game.turn - 1] = turn.rewards
            with self.clock.on("network"):
                loss = self._learn(steps, rewards, imitates)
        self.record(game, loss)

    def _act(
        self,
        policy: NetworkPolicy,
        game: Game,
        rng: np.random.Generator,
        imitates: bool,
    ) -> TrajectoryStep:
        rounds, rows = game.rounds, game.rows
        with self.clock.on("state"):
            states, open_now = policy.states(rounds, rows), policy.open_actions(rounds, rows)
        if imitates:
            dice = rng.random(len(rows))
            questions, _ = MaxEntropyPolicy().decide(rounds, rows, dice, self.options.shown)
            actions = policy.actions_of(questions)
        else:
            with self.clock.on("network"), self._torch.no_grad():
                logits = self._logits(states).cpu().numpy()
            # The highest of logits with Gumbel noise is a draw from their softmax.
            noise = rng.gumbel(size=logits.shape)
            actions = np.where(open_now, logits + noise, -np.inf).argmax(axis=1)
        return TrajectoryStep(states, open_now, actions, rows)

    def _logits(self, states: np.ndarray) -> Any:
        w = self.weights
        given = self._torch.from_numpy(states).to(self.device)
        inner = self._torch.relu(given @ w["inner"] + w["inner_bias"])
        return inner @ w["outer"] + w["outer_bias"]

    def _learn(self, steps: list[TrajectoryStep], rewards: np.ndarray, imitates: bool) -> float:
        loss = self._loss(steps, rewards, imitates)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return float(loss.detach())

    def _loss(self, steps: list[TrajectoryStep], rewards: np.ndarray, imitates: bool) -> Any:
        """The loss over all turns of a batch; `rewards` (dialogues, turns)."""
        returns = np.zeros_like(rewards)
        ahead = np.zeros(len(rewards), np.float32)
        for turn in reversed(range(len(steps))):
            ahead = rewards[:, turn] + np.float32(self.options.discount) * ahead
            returns[:, turn] = ahead
        weights = []
        for turn, step in enumerate(steps):
            own = returns[step.rows, turn]
            weights.append(np.ones_like(own) if imitates else own - own.mean())
        torch = self._torch
        logits = self._logits(np.concatenate([step.states for step in steps]))
        closed = torch.from_numpy(~np.concatenate([step.open_now for step in steps]))
        chances = logits.masked_fill(closed.to(self.device), _NEVER).log_softmax(dim=1)
        actions = torch.from_numpy(np.concatenate([step.actions for step in steps]))
        chosen = chances.gather(1, actions.to(self.device)[:, None])[:, 0]
        given = torch.from_numpy(np.concatenate(weights).astype(np.float32)).to(self.device)
        return -(given * chosen).mean()

    def state(self) -> Content:
        arrays = self._helpers.weight_arrays(self.weights, {})
        step, memory = self._helpers.adam_arrays(self.adam, self.weights)
        data = {"update": self.update, "step": step, "curve": list(self.curve)}
        return Content(data, arrays | memory)

    def result(self) -> Content:
        return Content({"curve": list(self.curve)}, self._helpers.copied(self.weights))


class NetworkAgent(TrainedAgent):
    """An agent whose network is trained by REINFORCE."""

    Options = NetworkOptions

    def policy(self) -> Policy:
        found = super().policy()
        assert isinstance(self.options, NetworkOptions)
        assert isinstance(found, NetworkPolicy)
        return found.sampled() if self.options.actions == "sampled" else found
