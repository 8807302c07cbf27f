"""A trained policy in one process: probabilities, and what is drawn from them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from agents.core.artifacts import Content
from agents.core.policy import Decision, Decoding
from agents.policies.core.network import Network


class TrainedPolicy:
    """A network and its labels. It answers at once, in the thread of the caller: on a worker,
    `workers.policies` serves it."""

    def __init__(
        self, network: Network, labels: Sequence[str], content: Content, name: str
    ) -> None:
        self._network = network
        self.labels = tuple(labels)
        self.digest = content.digest()
        self.name = name
        self.version = network.version

    def probabilities(
        self, states: Sequence[str], dropout: Sequence[int] | None = None
    ) -> np.ndarray:
        """(states, labels), float64; each row adds up to 1. With a seed for each state, its dropout
        is on."""
        logits = self._network.logits(states, dropout)
        if not np.isfinite(logits).all():
            raise ValueError(f"the policy {self.name} gives numbers that are not finite")
        return np.exp(log_softmax(logits))

    def decide(
        self, states: Sequence[str], seeds: Sequence[int], decoding: Decoding
    ) -> list[Decision]:
        """A decision for each state, by its call's seed."""
        found = self.probabilities(states, seeds if decoding == "sample_dropout" else None)
        return [self._decision(row, seed, decoding) for row, seed in zip(found, seeds, strict=True)]

    def _decision(self, row: np.ndarray, seed: int, decoding: Decoding) -> Decision:
        if decoding == "argmax":
            place = int(row.argmax())
        else:
            place = drawn(row, random.Random(seed).random())
        named = dict(zip(self.labels, row.tolist(), strict=True))
        return Decision(self.labels[place], float(np.log(row[place])), named, self.digest)


def drawn(probabilities: np.ndarray, at: float) -> int:
    """The place that a uniform number in [0, 1) picks."""
    cumulated = np.cumsum(probabilities)
    place = int(np.searchsorted(cumulated, at * cumulated[-1], side="right"))
    return min(place, len(probabilities) - 1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Of each row."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
