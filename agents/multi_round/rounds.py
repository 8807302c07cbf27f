"""Many dialogues at once, as arrays: what an agent knows of each, and the user in numpy.

An agent's dialogue is a batch of one, so training and dialogues run the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agents.multi_round.space import AttributeSpace
from agents.multi_round.vectors import Vectors, sigmoid

ASK_YES, ASK_NO, REC_YES, REC_NO = 1, -1, 2, -2
"""Outcomes of turns, as EAR and UNICORN code their history; 0: not played yet."""
NO_ITEM = -1


class Decisions(NamedTuple):
    """What a policy decides in each of n dialogues."""

    questions: np.ndarray
    """(n,): the position of the question to ask; -1 where items are recommended."""
    items: np.ndarray
    """(n, k): positions of items, best first, -1 after the last; the ranking also where it asks."""


class Rounds:
    """What the agent knows in n dialogues. Every method takes `rows`, positions of dialogues.

    - `candidates` (n, items): has every accepted fact, was not refused. Refused facts leave the
      candidates as they are (SCPR, section 4.1; UNICORN, section 4.2.1) unless `exclude` is set.
    - `scores` (n, items), float32: e_u e_v + the sum over accepted facts of e_v e_p - the sum over
      refused facts of the item of sigmoid(e_v e_p) (UNICORN, eq. 7; without the last term the FM of
      EAR, eq. 3).
    """

    def __init__(
        self,
        space: AttributeSpace,
        vectors: Vectors,
        users: np.ndarray,
        allowed: np.ndarray,
        turns: int,
        *,
        exclude: bool = False,
    ) -> None:
        """`users` are vectors (n, d), `allowed` (n, items) what may be recommended at all."""
        n = len(users)
        self.space, self.vectors, self.users, self.exclude = space, vectors, users, exclude
        self.allowed = allowed.copy()
        self.candidates = allowed.copy()
        self.scores = (users @ vectors.items.T).astype(np.float32)
        self.accepted = np.zeros((n, len(space.facts)), bool)
        self.refused = np.zeros_like(self.accepted)
        self.asked = np.zeros((n, len(space.questions)), bool)
        self.outcomes = np.zeros((n, turns), np.int8)
        self.order = np.zeros((n, len(space.facts)), np.int16)
        """The place of each accepted fact in the order of acceptance, from 1."""
        self.turn = np.zeros(n, np.int64)
        """Turns that are over."""

    def __len__(self) -> int:
        return len(self.users)

    def learn(self, rows: np.ndarray, liked: np.ndarray, disliked: np.ndarray) -> None:
        """Notes facts, (rows, facts) each. Where no candidate has what was newly accepted, the
        candidates stay: such a user contradicts itself."""
        new = liked & ~self.accepted[rows]
        self.accepted[rows] |= new
        self.order[rows] += new * (self.order[rows].max(axis=1, keepdims=True) + 1).astype(np.int16)
        for places, facts in _one_by_one(new):
            into = rows[places]
            self.scores[into] += self.vectors.facts_items[facts]
            self._narrow(into, self.space.items_with[facts])
        no = disliked & ~self.refused[rows] & ~self.accepted[rows]
        self.refused[rows] |= no
        for places, facts in _one_by_one(no):
            into = rows[places]
            self.scores[into] -= self.vectors.penalties[facts]
            if self.exclude:
                self._narrow(into, ~self.space.items_with[facts])
        about = self.accepted[rows] | self.refused[rows]
        # A question is settled once nothing that it is about is unknown.
        self.asked[rows] |= ~((~about).astype(np.float32) @ self.space.members_of).astype(bool)

    def _narrow(self, rows: np.ndarray, kept: np.ndarray) -> None:
        narrowed = self.candidates[rows] & kept
        some = narrowed.any(axis=1)
        self.candidates[rows[some]] = narrowed[some]

    def answer(
        self, rows: np.ndarray, questions: np.ndarray, liked: np.ndarray, disliked: np.ndarray
    ) -> None:
        """Notes the answers to `questions`, (rows,), and that a turn is over."""
        self.asked[rows, questions] = True
        self.learn(rows, liked, disliked)
        self.end_turn(rows, np.where(liked.any(axis=1), ASK_YES, ASK_NO))

    def refuse(self, rows: np.ndarray, items: np.ndarray) -> None:
        """Notes that `items`, (rows, k) with -1 for none, were refused, and that a turn is over.

        Where no candidate is left, everything that was not refused yet is a candidate again."""
        places, columns = np.nonzero(items != NO_ITEM)
        into, out = rows[places], items[places, columns]
        self.candidates[into, out] = False
        self.allowed[into, out] = False
        empty = rows[~self.candidates[rows].any(axis=1)]
        self.candidates[empty] = self.allowed[empty]
        self.end_turn(rows, np.full(len(rows), REC_NO))

    def end_turn(self, rows: np.ndarray, outcomes: np.ndarray) -> None:
        last = self.outcomes.shape[1] - 1
        self.outcomes[rows, np.minimum(self.turn[rows], last)] = outcomes
        self.turn[rows] += 1

    def weights(self, rows: np.ndarray) -> np.ndarray:
        """(rows, items), float32: sigmoid of the scores of candidates, 0 elsewhere."""
        return sigmoid(self.scores[rows]) * self.candidates[rows]

    def reachable(self, rows: np.ndarray) -> np.ndarray:
        """(rows, questions): not asked yet, and about a fact that some candidate has."""
        counts = self.candidates[rows].astype(np.float32) @ self.vectors.has
        open_facts = (counts > 0) & ~self.accepted[rows] & ~self.refused[rows]
        some = open_facts.astype(np.float32) @ self.space.members_of > 0
        return some & ~self.asked[rows]

    def entropies(self, rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """(rows, questions), bits: how evenly a question splits the candidates.

        Yes/no questions: the entropy of having the fact or not (EAR, section 4.2; with `weights`,
        UNICORN, eq. 14 and 15). Enumerated ones: the sum over their facts, as EAR's facets.
        """
        given = self.candidates[rows].astype(np.float32) if weights is None else weights
        whole = given.sum(axis=1, keepdims=True)
        counts = given @ self.vectors.has
        share = np.divide(counts, whole, out=np.zeros_like(counts), where=whole > 0)
        share = np.clip(share, 0, 1)
        each = -(_xlogx(share) + _xlogx(1 - share))
        return each @ self.space.members_of

    def best(self, rows: np.ndarray, k: int) -> np.ndarray:
        """(rows, k): the candidates with the highest scores, best first, ties by position; -1
        where there are no more."""
        return top(np.where(self.candidates[rows], self.scores[rows], -np.inf), k)

    def left(self, rows: np.ndarray) -> np.ndarray:
        """(rows,): how many candidates there are."""
        return np.count_nonzero(self.candidates[rows], axis=1)


def top(values: np.ndarray, k: int) -> np.ndarray:
    """(n, k): columns of the highest of `values` (n, m), best first, ties by position; -1 for
    -inf."""
    k = min(k, values.shape[1])
    if k < values.shape[1]:
        at_least = np.partition(values, -k, axis=1)[:, -k]
        chosen = np.full((len(values), k), NO_ITEM, np.int64)
        for row, bound in enumerate(at_least):
            places = np.flatnonzero(values[row] >= bound) if np.isfinite(bound) else None
            if places is None:
                places = np.flatnonzero(np.isfinite(values[row]))
            order = places[np.argsort(-values[row, places], kind="stable")[:k]]
            chosen[row, : len(order)] = order
        return chosen
    order = np.argsort(-values, axis=1, kind="stable")
    found = np.take_along_axis(values, order, axis=1)
    return np.where(np.isfinite(found), order, NO_ITEM)


def _xlogx(share: np.ndarray) -> np.ndarray:
    return share * np.log2(share, out=np.zeros_like(share), where=share > 0)


def _one_by_one(marked: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The marked columns of each row, at most one a row in each pair of (rows, columns)."""
    rows, columns = np.nonzero(marked)
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return [
        (rows[place == turn], columns[place == turn])
        for turn in range(int(place.max()) + 1 if len(place) else 0)
    ]


@dataclass(frozen=True)
class Users:
    """Simulated users in numpy, with one target each: `targets` (n,) are positions of items.

    Word for word the same as the simulated user `attribute_user`.
    """

    space: AttributeSpace
    targets: np.ndarray

    def opening(self, draws: np.ndarray) -> np.ndarray:
        """(n, facts): the one fact of the target that the whole number `draws` (n,) picks; none for
        an item without facts."""
        has = self.space.has[self.targets]
        counts = has.sum(axis=1)
        chosen = np.zeros_like(has)
        some = counts > 0
        nth = (draws[some] % counts[some]) + 1
        reached = has[some].cumsum(axis=1) == nth[:, None]
        chosen[np.flatnonzero(some), reached.argmax(axis=1)] = True
        return chosen

    def answers(self, rows: np.ndarray, questions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows, facts) twice: what is true of the target, and what is not, of what is asked."""
        about, has = self.space.members[questions], self.space.has[self.targets[rows]]
        return about & has, about & ~has

    def places(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(rows,): the place of the target in `items` (rows, k), from 1; 0 if it is not there."""
        hit = items == self.targets[rows][:, None]
        return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)


class Outcomes(NamedTuple):
    """What n dialogues came to."""

    turns: np.ndarray
    """(n,): the turn of success, from 1; 0 without success."""
    places: np.ndarray
    """(n,): the place of the target among the items then shown, from 1; 0 without success."""

    def success(self, turn: int) -> float:
        """SR@turn."""
        return float(((self.turns > 0) & (self.turns <= turn)).mean())

    def average_turns(self, most: int) -> float:
        """A failure counts `most` turns."""
        return float(np.where(self.turns > 0, self.turns, most).mean())

    def hdcg(self) -> float:
        """hDCG@(T, K) (UNICORN, eq. 19), with one success at most."""
        t, k = self.turns.astype(float), self.places.astype(float)
        won = self.turns > 0
        t, k = np.where(won, t, 1), np.where(won, k, 1)
        turn, following = 1 / np.log2(t + 1), 1 / np.log2(t + 2)
        return float((won * (following + (turn - following) / np.log2(k + 1))).mean())


def play(
    decide: Callable[[Rounds, np.ndarray], Decisions],
    rounds: Rounds,
    users: Users,
    draws: np.ndarray,
    *,
    turns: int,
    shown: int,
    after: Callable[[np.ndarray, Decisions, np.ndarray], None] | None = None,
) -> Outcomes:
    """Plays dialogues to their ends. `draws` (n,) pick the facts that users open with.

    `after` is called in each turn with the rows that were played, what was decided, and the turn's
    outcomes, before the agent learns of them.
    """
    every = np.arange(len(rounds))
    liked = users.opening(draws)
    rounds.learn(every, liked, np.zeros_like(liked))
    won, places = np.zeros(len(rounds), np.int64), np.zeros(len(rounds), np.int64)
    for turn in range(1, turns + 1):
        rows = every[won == 0]
        if not len(rows):
            break
        decided = decide(rounds, rows)
        step(rounds, users, rows, decided, shown, won, places, turn, after)
    return Outcomes(won, places)


def step(
    rounds: Rounds,
    users: Users,
    rows: np.ndarray,
    decided: Decisions,
    shown: int,
    won: np.ndarray,
    places: np.ndarray,
    turn: int,
    after: Callable[[np.ndarray, Decisions, np.ndarray], None] | None = None,
) -> None:
    """One turn of the dialogues `rows`; successes are noted in `won` and `places`."""
    asks = decided.questions >= 0
    items = decided.items[:, :shown]
    found = np.where(asks, 0, users.places(rows, items))
    liked, disliked = users.answers(rows, np.maximum(decided.questions, 0))
    outcomes = np.where(
        asks,
        np.where(liked.any(axis=1), ASK_YES, ASK_NO),
        np.where(found > 0, REC_YES, REC_NO),
    )
    if after is not None:
        after(rows, decided, outcomes)
    won[rows[found > 0]], places[rows] = turn, found
    rounds.answer(rows[asks], decided.questions[asks], liked[asks], disliked[asks])
    failed = ~asks & (found == 0)
    rounds.refuse(rows[failed], items[failed])
    rounds.end_turn(rows[found > 0], np.full(int((found > 0).sum()), REC_YES))
