"""The state of many dialogues as arrays: what an agent knows in each, and the user in numpy.

An episode is a batch of one dialogue, so training and episodes run the same code.
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
    """(n, k): positions of items, best first, -1 after the last; a ranking even if it asks."""


Reflects = Callable[["Rounds", np.ndarray, np.ndarray], None]


class Rounds:
    """What the agent knows in n dialogues. Every method takes `rows`, positions of dialogues.

    - Candidates: items that have every accepted fact and were not refused. Refused facts leave the
      candidates as they are (SCPR; UNICORN, section 4.2.1) unless `exclude` is set.
    - Scores: e_u e_v + the sum over accepted facts of e_v e_p - the sum over refused facts of the
      item of sigmoid(e_v e_p) (UNICORN, eq. 7; without the last term the FM of EAR, eq. 3).

    Candidates are marked in a boolean array, so facts narrow those of all dialogues at once. Most
    turns need no scores. So changes to the scores of a dialogue are queued until the scores are
    read, and are then applied, in their order, to the candidates that are left.
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
        histories: np.ndarray | None = None,
    ) -> None:
        """`users` are vectors (n, d), `allowed` (n, items) what may be recommended at all,
        `histories` (n, h) the items that users had, -1 after the last."""
        n = len(users)
        self.histories = np.full((n, 0), NO_ITEM) if histories is None else histories
        self.reflects: Reflects | None = None
        """Called with this object, the rows and the items of each refusal before it is recorded."""
        self.space, self.vectors, self.exclude = space, vectors, exclude
        self.users = users.copy()
        self.accepted = np.zeros((n, len(space.facts)), bool)
        self.refused = np.zeros_like(self.accepted)
        self.asked = np.zeros((n, len(space.questions)), bool)
        self.outcomes = np.zeros((n, turns), np.int8)
        self.turn = np.zeros(n, np.int64)
        """How many turns are over."""
        self._allowed = allowed.copy()
        self._alive = allowed.copy()
        self._base = (users @ vectors.items.T).astype(np.float32)
        self._seen: list[tuple[np.ndarray, np.ndarray] | None] = [None] * n
        """Candidates and scores when they were last read."""
        self._changes: list[list[tuple[np.ufunc, np.ndarray]]] = [[] for _ in range(n)]
        """The changes to the scores since then, each with its values for all items."""
        self._left = np.count_nonzero(allowed, axis=1)
        self._counts = np.zeros(self.accepted.shape, np.float32)
        self._uncounted = np.ones(n, bool)

    def __len__(self) -> int:
        return len(self.users)

    def candidates(self, row: int) -> np.ndarray:
        """The positions of the candidates of one dialogue, ascending."""
        return self._look(row)[0]

    def scores(self, row: int) -> np.ndarray:
        """Their scores, float32."""
        return self._look(row)[1]

    def _look(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        seen, changes = self._seen[row], self._changes[row]
        if seen is None:
            items = np.flatnonzero(self._alive[row])
            scores = self._base[row, items]
        else:
            items, scores = seen
            if len(items) != self._left[row]:
                kept = self._alive[row, items]
                items, scores = items[kept], scores[kept]
        for change, by in changes:
            scores = change(scores, by[items])
        changes.clear()
        self._seen[row] = items, scores
        return items, scores

    def score(self, row: int, items: np.ndarray) -> np.ndarray:
        """The scores of any items in one dialogue."""
        found = self.vectors.items[items] @ self.users[row]
        found += self.vectors.facts_items[self.accepted[row]][:, items].sum(axis=0)
        found -= self.vectors.penalties[self.refused[row]][:, items].sum(axis=0)
        return found.astype(np.float32)

    def rank_of(
        self, row: int, item: int, liked: np.ndarray, disliked: np.ndarray
    ) -> tuple[int, int]:
        """The rank of a candidate by score, from 0, and the number of candidates, in one dialogue,
        if the user also likes and dislikes these facts (positions; none that is known)."""
        items, scores = self._look(row)
        for fact in liked:
            kept = self.space.items_with[fact, items]
            items, scores = items[kept], scores[kept]
            scores = scores + self.vectors.facts_items[fact, items]
        for fact in disliked:
            if self.exclude:
                kept = ~self.space.items_with[fact, items]
                items, scores = items[kept], scores[kept]
            scores = scores - self.vectors.penalties[fact, items]
        place = int(np.searchsorted(items, item))
        ahead = np.count_nonzero(scores > scores[place])
        tied = np.count_nonzero(scores[:place] == scores[place])
        return int(ahead + tied), len(items)

    def learn(self, rows: np.ndarray, liked: np.ndarray, disliked: np.ndarray) -> None:
        """Records facts, (rows, facts) each. If no candidate has a newly accepted fact, the
        candidates stay as they are: the user contradicts itself."""
        new = liked & ~self.accepted[rows]
        self.accepted[rows] |= new
        no = disliked & ~self.refused[rows] & ~self.accepted[rows]
        self.refused[rows] |= no
        for place, fact in zip(*np.nonzero(new), strict=True):
            self._changes[rows[place]].append((np.add, self.vectors.facts_items[fact]))
        for place, fact in zip(*np.nonzero(no), strict=True):
            self._changes[rows[place]].append((np.subtract, self.vectors.penalties[fact]))
        self._narrow(rows, new, True)
        if self.exclude:
            self._narrow(rows, no, False)
        about = self.accepted[rows] | self.refused[rows]
        # A question is settled once all of its facts are known.
        self.asked[rows] |= ~((~about).astype(np.float32) @ self.space.members_of).astype(bool)

    def _narrow(self, rows: np.ndarray, facts: np.ndarray, wanted: bool) -> None:
        """Keeps candidates that have the `facts` (rows, facts) or, unless `wanted`, lack them."""
        places, which = np.nonzero(facts)
        nth = np.arange(len(places)) - np.searchsorted(places, places)
        for turn in range(int(nth.max(initial=-1)) + 1):
            own, fact = rows[places[nth == turn]], which[nth == turn]
            kept = self._alive[own] & (self.space.items_with[fact] == wanted)
            left = np.count_nonzero(kept, axis=1)
            own, kept, left = own[left > 0], kept[left > 0], left[left > 0]
            self._alive[own], self._left[own], self._uncounted[own] = kept, left, True

    def _counted(self, rows: np.ndarray) -> np.ndarray:
        """(rows, facts): how many candidates have a fact."""
        new = rows[self._uncounted[rows]]
        # Sums of ones are exact in float32, in any order.
        self._counts[new] = self._alive[new].astype(np.float32) @ self.vectors.has
        self._uncounted[new] = False
        return self._counts[rows]

    def answer(
        self, rows: np.ndarray, questions: np.ndarray, liked: np.ndarray, disliked: np.ndarray
    ) -> None:
        """Records the answers to `questions` (rows,), and ends the turn."""
        self.asked[rows, questions] = True
        self.learn(rows, liked, disliked)
        self.end_turn(rows, np.where(liked.any(axis=1), ASK_YES, ASK_NO))

    def refuse(self, rows: np.ndarray, items: np.ndarray) -> None:
        """Records that `items`, (rows, k) with -1 for none, were refused, and ends the turn.

        If no candidate is left, every item that was not refused becomes a candidate again."""
        if self.reflects is not None and len(rows):
            self.reflects(self, rows, items)
        for column in items.T:
            own, out = rows[column != NO_ITEM], column[column != NO_ITEM]
            gone = self._alive[own, out]
            self._counts[own[gone]] -= self.vectors.has[out[gone]]
            self._left[own] -= gone
            self._allowed[own, out] = self._alive[own, out] = False
        for row in rows[self._left[rows] == 0]:
            self._alive[row] = self._allowed[row]
            items = np.flatnonzero(self._allowed[row])
            self._seen[row] = items, self.score(row, items)
            self._changes[row].clear()
            self._left[row], self._uncounted[row] = len(items), True
        self.end_turn(rows, np.full(len(rows), REC_NO))

    def move_users(self, rows: np.ndarray, by: np.ndarray) -> None:
        """Adds `by` (rows, d) to the users' vectors, in these dialogues only."""
        self.users[rows] += by
        for row, step in zip(rows, by, strict=True):
            items, scores = self._look(row)
            self._seen[row] = items, scores + self.vectors.items[items] @ step

    def end_turn(self, rows: np.ndarray, outcomes: np.ndarray) -> None:
        last = self.outcomes.shape[1] - 1
        self.outcomes[rows, np.minimum(self.turn[rows], last)] = outcomes
        self.turn[rows] += 1

    def left(self, rows: np.ndarray) -> np.ndarray:
        """(rows,): the number of candidates."""
        return self._left[rows]

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """(rows, facts), float32: the share of the candidates that have a fact."""
        return self._counted(rows) / np.maximum(self.left(rows), 1).astype(np.float32)[:, None]

    def weighted_shares(self, rows: np.ndarray) -> np.ndarray:
        """The same, with candidates weighted by the sigmoid of their scores (UNICORN, eq. 15)."""
        found = np.zeros((len(rows), len(self.space.facts)), np.float32)
        for place, row in enumerate(rows):
            items, scores = self._look(row)
            weights = sigmoid(scores)
            found[place] = weights @ self.vectors.has[items]
            found[place] /= max(float(weights.sum()), 1e-12)
        return np.clip(found, 0, 1)

    def reachable(self, rows: np.ndarray) -> np.ndarray:
        """(rows, questions), bool: not asked yet, and about a fact that a candidate has."""
        open_facts = (self._counted(rows) > 0.5) & ~self.accepted[rows] & ~self.refused[rows]
        some = open_facts.astype(np.float32) @ self.space.members_of > 0
        return some & ~self.asked[rows]

    def entropies(self, shares: np.ndarray) -> np.ndarray:
        """(rows, questions), bits: how evenly a question splits candidates with these shares.

        Yes/no questions: the entropy of having the fact or not (EAR, section 4.2; UNICORN, eq. 14).
        Enumerated ones: the sum over their facts, as EAR's facets.
        """
        each = -(_xlogx(shares) + _xlogx(1 - shares))
        return each @ self.space.members_of

    def best(self, rows: np.ndarray, k: int) -> np.ndarray:
        """(rows, k): the candidates with the highest scores, best first, ties by position; -1
        where there are no more."""
        found = np.full((len(rows), k), NO_ITEM, np.int64)
        for place, row in enumerate(rows):
            items, scores = self._look(row)
            order = top(scores, k)
            found[place, : len(order)] = items[order]
        return found


def top(values: np.ndarray, k: int) -> np.ndarray:
    """The positions of the `k` highest of `values` (m,), or of all, best first, ties in order."""
    places = np.arange(len(values))
    if k < len(values):
        bound = np.partition(values, -k)[-k]
        places = np.flatnonzero(values >= bound)
    return places[np.argsort(-values[places], kind="stable")[:k]]


def _xlogx(share: np.ndarray) -> np.ndarray:
    return share * np.log2(share, out=np.zeros_like(share), where=share > 0)


@dataclass(frozen=True)
class Users:
    """Simulated users in numpy, with one target each: `targets` (n,) are positions of items.

    They behave exactly like the simulated user `attribute_user`.
    """

    space: AttributeSpace
    targets: np.ndarray

    def opening(self, draws: np.ndarray) -> np.ndarray:
        """(n, facts), bool: the one fact of the target that the whole numbers `draws` (n,) select;
        none for an item without facts."""
        has = self.space.has[self.targets]
        counts = has.sum(axis=1)
        chosen = np.zeros_like(has)
        some = counts > 0
        nth = (draws[some] % counts[some]) + 1
        reached = has[some].cumsum(axis=1) == nth[:, None]
        chosen[np.flatnonzero(some), reached.argmax(axis=1)] = True
        return chosen

    def answers(self, rows: np.ndarray, questions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows, facts), bool, twice: what was asked about and the target has, or does not have."""
        about, has = self.space.members[questions], self.space.has[self.targets[rows]]
        return about & has, about & ~has

    def places(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(rows,): the place of the target in `items` (rows, k), from 1; 0 if it is missing."""
        hit = items == self.targets[rows][:, None]
        return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)


class Outcomes(NamedTuple):
    """The outcomes of n dialogues."""

    turns: np.ndarray
    """(n,): the turn of success, from 1; 0 without success."""
    places: np.ndarray
    """(n,): the place of the target among the items then shown, from 1; 0 without success."""

    def success(self, turn: int) -> float:
        """SR@turn."""
        return float(((self.turns > 0) & (self.turns <= turn)).mean())

    def average_turns(self, most: int) -> float:
        """AT: the mean number of turns; a failure counts as `most`."""
        return float(np.where(self.turns > 0, self.turns, most).mean())

    def hdcg(self) -> float:
        """hDCG@(T, K) (UNICORN, eq. 19), with one success at most."""
        t, k = self.turns.astype(float), self.places.astype(float)
        won = self.turns > 0
        t, k = np.where(won, t, 1), np.where(won, k, 1)
        turn, following = 1 / np.log2(t + 1), 1 / np.log2(t + 2)
        return float((won * (following + (turn - following) / np.log2(k + 1))).mean())
