"""Reinforcement learning of a policy (RSO section III-D2): updates from rollouts, in torch.

The gradient is of the policy as `sample` draws from it, with its dropout off: rollouts are always
drawn that way, whatever decoding the agent has later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch

from agents.core.artifacts import Content, Learner
from agents.core.errors import AgentError
from agents.policies.core.labels import LabelSet, labels_of
from agents.policies.core.network import NetworkRef
from agents.policies.core.policy_gradient import accumulate, returns, whitened
from agents.policies.core.supervised import network_of, prefixed
from agents.training.weights import adam_arrays, device_of, restore_adam, seeded


class PolicyLearner(Learner):
    """AdamW on eq. 7, with a linear decay of the learning rate to 0.

    `rl` are the options of `agents.policies.core.options.RlOptions`. A rollout is a mapping:
    `steps`, a list of `state`, `label`, `reward` (in [0, 1], or None without a verdict) for each
    turn; `success`.
    """

    def __init__(
        self,
        ref: NetworkRef,
        labels: LabelSet,
        start: Content,
        rl: Mapping[str, Any],
        updates: int,
        seed: int,
        state: Content | None,
        *,
        device: str,
        threads: int,
    ) -> None:
        self._rl, self._updates, self._seed, self._threads = rl, updates, seed, threads
        self._names = labels_of(labels)
        self._device = device_of(f"the policy {ref.name!r}", device)
        network = bare(start) if state is None else network_of(state)
        self._network = ref.network.trainable(network, self._device)
        weights = self._network.weights
        self._adam = torch.optim.AdamW(
            weights.values(), lr=rl["lr"], weight_decay=rl["weight_decay"]
        )
        self.done = 0
        if state is not None:
            self.done = state.data["done"]
            restore_adam(self._adam, weights, state.data["step"], state, self._device)

    def weights(self) -> Content:
        return self._network.content()

    def update(self, rollouts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        played = [rollout for rollout in rollouts if rollout["steps"]]
        if not played:
            raise AgentError(
                f"no rollout of update {self.done + 1} has a turn, so there is nothing to learn"
            )
        place = {name: at for at, name in enumerate(self._names)}
        rewards = [[step["reward"] for step in rollout["steps"]] for rollout in played]
        worth = [returns(row, self._rl["gamma"]) for row in rewards]
        firsts = [row[0] for row in worth]
        if self._rl["whiten"]:
            worth = whitened(worth)
        taken = [
            [(place[step["label"]], value) for step, value in zip(r["steps"], values, strict=True)]
            for r, values in zip(played, worth, strict=True)
        ]
        states = [[step["state"] for step in rollout["steps"]] for rollout in played]
        for group in self._adam.param_groups:
            group["lr"] = self._rl["lr"] * (1 - self.done / self._updates)
        with seeded(self._seed, self.done, self._threads, self._device):
            self._adam.zero_grad()
            loss, entropy = accumulate(
                taken,
                states,
                lambda texts: self._network.logits(texts, dropout=False),
                self._rl["beta"],
            )
            self._adam.step()
        self.done += 1
        scored = [each for row in rewards for each in row if each is not None]
        drawn = Counter(step["label"] for rollout in played for step in rollout["steps"])
        turns = sum(drawn.values())
        found = {
            "return": fmean(firsts),
            "entropy": entropy,
            "success": fmean(rollout["success"] for rollout in played),
            "turns": turns / len(played),
            "loss": loss,
        }
        if scored:  # else no turn has a verdict
            found = {"reward": fmean(scored), **found}
        return found | {f"strategy: {name}": drawn[name] / turns for name in self._names}

    def state(self) -> Content:
        network = self._network.content()
        step, arrays = adam_arrays(self._adam, self._network.weights)
        data = {"network": network.data, "done": self.done}
        return Content({**data, "step": step}, prefixed(network.arrays) | arrays)

    def result(self) -> Content:
        return self.weights()


def bare(policy: Content) -> Content:
    """A policy without the record of its training: equal weights then have equal digests."""
    data = {name: value for name, value in policy.data.items() if name != "report"}
    return Content(data, policy.arrays)
