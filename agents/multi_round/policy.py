"""Policies: in each turn they choose a question to ask, or items to recommend."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from agents.multi_round.rounds import NO_ITEM, Decisions, Rounds


class Policy(ABC):
    """Decides for a batch of dialogues at once. It is read-only and shared by all dialogues."""

    def begin(self, rounds: Rounds) -> None:
        """Called once for new dialogues, before their first turn."""
        rounds.reflects = None

    @abstractmethod
    def decide(self, rounds: Rounds, rows: np.ndarray, draws: np.ndarray, shown: int) -> Decisions:
        """Decides for the dialogues `rows`.

        `draws` (rows,) are uniform in [0, 1), for policies that sample; `shown` items are
        recommended in one turn.
        """


class MaxEntropyPolicy(Policy):
    """Asks the question with the highest entropy over the candidates, and recommends with the
    probability `shown` / candidates (SCPR and UNICORN say "a certain probability"), or when no
    question is left. With `asks`, it recommends from the turn after so many questions on."""

    def __init__(self, asks: int | None = None) -> None:
        self._asks = asks

    def decide(self, rounds: Rounds, rows: np.ndarray, draws: np.ndarray, shown: int) -> Decisions:
        if self._asks is None:
            wants = draws * rounds.left(rows) >= shown
        else:
            wants = rounds.turn[rows] < self._asks
        questions = np.where(wants, most_informative_questions(rounds, rows), -1)
        return Decisions(questions, shown_items(rounds, rows, questions < 0, shown))


def most_informative_questions(rounds: Rounds, rows: np.ndarray) -> np.ndarray:
    """(rows,): the questions with the highest entropy over the candidates, of those that can be
    asked; -1 where none can."""
    can = rounds.reachable(rows)
    entropies = np.where(can, rounds.entropies(rounds.shares(rows)), -np.inf)
    return np.where(can.any(axis=1), entropies.argmax(axis=1), -1)


def shown_items(rounds: Rounds, rows: np.ndarray, which: np.ndarray, shown: int) -> np.ndarray:
    """(rows, shown): the best candidates of the rows marked by `which`; -1 in the others."""
    found = np.full((len(rows), shown), NO_ITEM)
    found[which] = rounds.best(rows[which], shown)
    return found


class AbsGreedyPolicy(Policy):
    """Recommends in every turn, and treats refused items as negative (Christakopoulou et al., KDD
    2016)."""

    def decide(self, rounds: Rounds, rows: np.ndarray, draws: np.ndarray, shown: int) -> Decisions:
        return Decisions(np.full(len(rows), -1), rounds.best(rows, shown))
