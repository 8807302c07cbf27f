"""Training of UNICORN: dueling double DQN with prioritised replay (section 4.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from agents.core.artifacts import Content
from agents.core.plural import many
from agents.multi_round.practice import Game, Practice
from agents.multi_round.trained import PolicyTraining
from agents.training import weights as helpers
from agents.unicorn.actions import Actions, action_vectors, decisions_of, states_of
from agents.unicorn.network import NUMPY, States, initial, q_values, state_vectors
from agents.unicorn.replay import Replay

if TYPE_CHECKING:
    from agents.unicorn import _Options

_FEW_VALUES = 2
_CLIPPED = 1.0  # the largest gradient of any weight, as in the public code


class _Torch:
    """See `network._Numpy`."""

    relu = staticmethod(torch.relu)
    square_root = staticmethod(torch.sqrt)

    @staticmethod
    def softmax(x: Tensor) -> Tensor:
        return x.softmax(dim=-1)


TORCH = _Torch()


class UNICORNTraining(PolicyTraining):
    def __init__(
        self, options: _Options, practice: Practice, seed: int, state: Content | None
    ) -> None:
        super().__init__(practice, seed)
        self.options, self.most = options, options.dialogues
        self.device = helpers.device_of("the agent 'unicorn'", options.device)
        self.actions = action_vectors(practice.space, practice.vectors)
        self.items = max(options.items, options.shown)
        self.replay = Replay(options.replay, options.priority, options.correction)
        self.round = self.played = self.turns = self.batches = 0
        if state is None:
            rng = np.random.default_rng([seed, 0])
            drawn = initial(rng, practice.vectors.items.shape[1], options.hidden)
            first = {name: torch.from_numpy(array) for name, array in drawn.items()}
            self.target = {name: weight.clone().to(self.device) for name, weight in first.items()}
            self.weights = helpers.trainable(first, self.device)
            self.adam = self._adam()
        else:
            self._resume(state)

    def _adam(self) -> torch.optim.Adam:
        decay = self.options.weight_decay
        return torch.optim.Adam(self.weights.values(), lr=self.options.lr, weight_decay=decay)

    def _resume(self, state: Content) -> None:
        self.weights, target = helpers.restored_weights(state, self.device)
        self.target = {name: torch.from_numpy(w).to(self.device) for name, w in target.items()}
        self.adam = self._adam()
        data = state.data
        helpers.restore_adam(self.adam, self.weights, data["step"], state, self.device)
        self.replay.restore(data["replay"], state.arrays)
        self.round, self.played = data["round"], data["played"]
        self.turns, self.batches = data["turns"], data["batches"]
        self.curve = list(data["curve"])

    @property
    def done(self) -> int:
        return min(self.played, self.most)

    @property
    def phase(self) -> str:
        return f"{many(self.played, 'dialogue')}, {many(self.batches, 'update')}"

    def one_round(self) -> None:
        self.round += 1
        rng = np.random.default_rng([self.seed, self.round])
        with helpers.seeded(self.seed, self.round, self.options.threads, self.device):
            game = self.begin(rng, self.options.rewards())
            losses: list[float] = []
            now = self._look(game)
            while now is not None:
                decided, picked = self._decide(now, game, rng)
                turn = game.play(decided)
                after = self._look(game)
                with self.clock.on("replay"):
                    self._remember(now, picked, turn.rewards, turn.over, after)
                now = after
                self.turns += len(turn.rows)
                while self.batches < self.turns // self.options.updates_every:
                    self.batches += 1
                    losses.append(self._learn(rng))
        self.played += self.options.at_once
        self.record(game, float(np.mean(losses)) if losses else 0.0)

    def _look(self, game: Game) -> Actions | None:
        rows = game.rows
        if not len(rows):
            return None
        with self.clock.on("state"):
            return Actions.of(game.rounds, rows, self.options, items=self.items)

    def _decide(self, now: Actions, game: Game, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        """What is done, and the ids of the actions."""
        with self.clock.on("network"):
            w = {name: weight.detach().cpu().numpy() for name, weight in self.weights.items()}
            states = state_vectors(w, NUMPY, now.states, self.options.heads)
            values = q_values(w, NUMPY, states, now.vectors(game.rounds))
        explores = rng.random(len(values)) < self.options.explore
        values = np.where(explores[:, None], rng.random(values.shape), values)
        values = np.where(now.ids >= 0, values, -np.inf)
        picked = now.ids[np.arange(len(values)), values.argmax(axis=1)]
        return decisions_of(now, values, game.rounds, self.options.shown), picked

    def _remember(
        self,
        now: Actions,
        picked: np.ndarray,
        rewards: np.ndarray,
        over: np.ndarray,
        after: Actions | None,
    ) -> None:
        facts = len(self.practice.space.facts)
        parts = {
            "near": now.near,
            "accepted": _marks(now.accepted, facts),
            "picked": picked,
            "rewards": rewards,
            "over": over,
            "next_near": np.zeros_like(now.near),
            "next_accepted": np.zeros((len(now.rows), facts), bool),
            "next_ids": np.full_like(now.ids, -1),
        }
        if after is not None:
            places = np.searchsorted(now.rows, after.rows)
            parts["next_near"][places] = after.near
            parts["next_accepted"][places] = _marks(after.accepted, facts)
            parts["next_ids"][places] = after.ids
        self.replay.add(parts)

    def _learn(self, rng: np.random.Generator) -> float:
        with self.clock.on("replay"):
            places, importance = self.replay.draw(self.options.batch_size, rng)
            batch = {name: rows[places] for name, rows in self.replay.parts.items()}
        with self.clock.on("network"):
            loss, errors = self._step(batch, importance)
        with self.clock.on("replay"):
            self.replay.update(places, errors)
        return loss

    def _step(
        self, batch: Mapping[str, np.ndarray], importance: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """One step of Adam; the loss, and the error of each turn."""
        rate = self.options.target_rate
        with torch.no_grad():
            for name, weight in self.weights.items():
                self.target[name].mul_(1 - rate).add_(weight, alpha=rate)
            wanted = self._wanted(batch)
        states = self._states(batch["near"], batch["accepted"], self.weights)
        own = self._tensor(self.actions[batch["picked"]])[:, None]
        errors = q_values(self.weights, TORCH, states, own)[:, 0] - wanted
        loss = (self._tensor(importance) * errors * errors).mean()
        self.adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(self.weights.values(), _CLIPPED)
        self.adam.step()
        return float(loss.detach()), helpers.array_of(errors)

    def _wanted(self, batch: Mapping[str, np.ndarray]) -> Tensor:
        """(b,): the reward, and what follows by the target network, of the action that the network
        itself finds best (double DQN)."""
        ids = batch["next_ids"]
        actions = self._tensor(self.actions[np.maximum(ids, 0)])
        near, accepted = batch["next_near"], batch["next_accepted"]
        values = q_values(
            self.weights, TORCH, self._states(near, accepted, self.weights), actions
        )  # fmt: skip
        values = values.masked_fill(self._tensor(ids < 0), -torch.inf)
        best = values.argmax(dim=1)[:, None]
        after = q_values(self.target, TORCH, self._states(near, accepted, self.target), actions)
        following = after.gather(1, best)[:, 0]
        # Where the dialogue ended, or nothing could be done, nothing follows.
        ended = self._tensor(batch["over"] | (ids < 0).all(axis=1))
        following = following.masked_fill(ended, 0)
        return self._tensor(batch["rewards"]) + self.options.discount * following

    def _states(self, near: np.ndarray, accepted: np.ndarray, weights: Mapping[str, Any]) -> Tensor:
        """Few states have more than two accepted values, so they are passed apart: no padding."""
        counts = accepted.sum(axis=1)
        order = np.argsort(counts > _FEW_VALUES, kind="stable")
        few = int((counts <= _FEW_VALUES).sum())
        parts = []
        for rows in (order[:few], order[few:]):
            if len(rows):
                given = states_of(near[rows], _listed(accepted[rows]), self.practice.vectors.facts)
                states = States(*map(self._tensor, given))
                parts.append(state_vectors(weights, TORCH, states, self.options.heads))
        return torch.cat(parts)[self._tensor(np.argsort(order, kind="stable"))]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def state(self) -> Content:
        target = {name: helpers.array_of(weight) for name, weight in self.target.items()}
        arrays = helpers.weight_arrays(self.weights, target)
        step, memory = helpers.adam_arrays(self.adam, self.weights)
        replay, turns = self.replay.state()
        data = {
            "step": step,
            "replay": replay,
            "round": self.round,
            "played": self.played,
            "turns": self.turns,
            "batches": self.batches,
            "curve": list(self.curve),
        }
        return Content(data, arrays | memory | turns)

    def result(self) -> Content:
        data = {"curve": list(self.curve), "batches": self.batches}
        return Content(data, helpers.copied(self.weights))


def _marks(listed: np.ndarray, facts: int) -> np.ndarray:
    """(rows, facts), bool, of positions (rows, l) with -1 for padding."""
    found = np.zeros((len(listed), facts), bool)
    rows, columns = np.nonzero(listed >= 0)
    found[rows, listed[rows, columns]] = True
    return found


def _listed(marks: np.ndarray) -> np.ndarray:
    """(rows, l): the positions of the marks, with -1 for padding."""
    counts = marks.sum(axis=1)
    found = np.full((len(marks), max(int(counts.max(initial=0)), 1)), -1, np.int64)
    rows, columns = np.nonzero(marks)
    found[rows, np.arange(len(rows)) - np.searchsorted(rows, rows)] = columns
    return found
