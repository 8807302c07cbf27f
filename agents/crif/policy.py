"""What CRIF sees and does: its state, its two actions, and its inference from refusals."""

from __future__ import annotations

import numpy as np

from agents.core.artifacts import Content
from agents.multi_round.policy import most_informative_questions, shown_items
from agents.multi_round.reinforce import NetworkPolicy
from agents.multi_round.rounds import NO_ITEM, Decisions, Rounds

ASK, RECOMMEND = range(2)
_LISTS = (1, 5, 10, 20, 30, 50, 100)  # the code has 10, 50, ... 1,000 candidates, and lists of 10


class CRIFPolicy(NetworkPolicy):
    """Asks about the attribute with the highest entropy, or recommends."""

    def __init__(self, content: Content, turns: int, shown: int, inference: float) -> None:
        """`shown` items are a list; `inference` is the size of a step."""
        super().__init__(content, turns)
        self._shown, self._inference = shown, inference

    def begin(self, rounds: Rounds) -> None:
        rounds.reflects = self._infer if self._inference else None

    def states(self, rounds: Rounds, rows: np.ndarray) -> np.ndarray:
        most = np.array(_LISTS) * self._shown
        step = (rounds.left(rows)[:, None] > most).sum(axis=1)
        length = step[:, None] == np.arange(len(_LISTS) + 1)
        return np.concatenate([self.history(rounds, rows), length], axis=1).astype(np.float32)

    def open_actions(self, rounds: Rounds, rows: np.ndarray) -> np.ndarray:
        asks = rounds.reachable(rows).any(axis=1)
        return np.stack([asks, np.ones_like(asks)], axis=1)

    def decisions(
        self, actions: np.ndarray, rounds: Rounds, rows: np.ndarray, shown: int
    ) -> Decisions:
        questions = np.where(actions == ASK, most_informative_questions(rounds, rows), -1)
        return Decisions(questions, shown_items(rounds, rows, questions < 0, shown))

    def actions_of(self, questions: np.ndarray) -> np.ndarray:
        return np.where(questions < 0, RECOMMEND, ASK)

    def _infer(self, rounds: Rounds, rows: np.ndarray, items: np.ndarray) -> None:
        refused = (items != NO_ITEM)[:, :, None]
        number = np.maximum(refused.sum(axis=1), 1)
        alike = (rounds.vectors.items[np.maximum(items, 0)] * refused).sum(axis=1) / number
        disliked = implied_dislikes(rounds, rows, items) @ rounds.vectors.facts
        step = np.float32(-self._inference) * (alike + disliked)
        rounds.move_users(rows, step.astype(np.float32))


def implied_dislikes(rounds: Rounds, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(rows, facts), float32, in [0, 1]: how far the refusal of `items` (rows, k) is put down to
    each fact. An item's refusal is shared out equally among its facts that are neither accepted nor
    refused, so an item with one such fact puts it down to that alone; the mean over the items."""
    known = rounds.accepted[rows] | rounds.refused[rows]
    refused = (items != NO_ITEM)[:, :, None]
    open_facts = rounds.space.has[np.maximum(items, 0)] & ~known[:, None] & refused
    shares = open_facts / np.maximum(open_facts.sum(axis=2, keepdims=True), 1)
    return (shares.sum(axis=1) / np.maximum(refused.sum(axis=1), 1)).astype(np.float32)
