"""The factorisation machine of EAR (Lei et al., WSDM 2020, section 4.1), with its gradients.

- Items, eq. 3: y(u, v, P) = e_u e_v + the sum over accepted facts P of e_v e_p. Eq. 4 to 6: BPR
  against an item that the user never had (D1), and against one that the user never had but that
  has all of P (D2), like the candidates that remain in a conversation.
- Facts, eq. 8 to 10: g(p | u, P) = e_u e_p + the sum over P of e_p e_p', BPR of a fact of the item
  that is not in P against one that the item lacks.
- Eq. 11: the sum of the losses.

Decided here: P is a random non-empty part of the item's facts, drawn again in every epoch (the
paper makes P from simulated conversations); Adam instead of SGD; the mean over a batch, with an L2
term on the vectors of the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agents.core.items import Interactions
from agents.multi_round.vectors import Arrays

_TRIES = 16  # draws of an item that has all of P; after that, the example has none
_MOST_FACTS = 8  # of P in one example: the papers' dialogues have no more turns to learn them in


class Batch(NamedTuple):
    """b examples. `facts` (b, f) is 1 for the facts in P. -1 in the last three means none."""

    users: np.ndarray
    items: np.ndarray
    facts: np.ndarray
    any_item: np.ndarray
    fitting_item: np.ndarray
    own_fact: np.ndarray
    other_fact: np.ndarray


class BatchSampler:
    """Draws batches from interactions; `has` (items, facts) is bool."""

    def __init__(self, interactions: Interactions, has: np.ndarray) -> None:
        self.users = interactions.users.astype(np.int64)
        self.items = interactions.items.astype(np.int64)
        self.has = has
        self._pairs = np.sort(self.users * len(has) + self.items)
        self._with = [np.flatnonzero(column) for column in has.T]
        self._sizes = np.array([len(places) for places in self._with])
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._flat = np.concatenate(self._with) if self._with else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.users)

    def batch(self, places: np.ndarray, rng: np.random.Generator) -> Batch:
        users, items = self.users[places], self.items[places]
        facts = self._part_of(self.has[items], rng)
        return Batch(
            users,
            items,
            facts.astype(np.float32),
            self._unknown(users, rng.integers(len(self.has), size=(len(users), 4))),
            self._fitting(users, facts, rng),
            _one_of(self.has[items] & ~facts, rng),
            _one_of(~self.has[items], rng),
        )

    def _part_of(self, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A random part of each row's facts, of a random size from 1 to all of them."""
        counts = own.sum(axis=1)
        sizes = rng.integers(1, np.maximum(counts, 1) + 1)
        sizes = np.minimum(sizes, _MOST_FACTS)
        keys = np.where(own, rng.random(own.shape), 2.0)
        ranks = keys.argsort(axis=1).argsort(axis=1)
        return own & (ranks < sizes[:, None])

    def _unknown(self, users: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """The first item of each row of `drawn` that the user never had; -1 if there is none."""
        keys = users[:, None] * len(self.has) + drawn
        at = np.searchsorted(self._pairs, keys).clip(max=len(self._pairs) - 1)
        return _first(drawn, self._pairs[at] != keys)

    def _fitting(
        self, users: np.ndarray, facts: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """An item that the user never had and that has all of P; -1 if none was drawn."""
        if not facts.shape[1]:
            return np.full(len(users), -1)
        rarest = np.where(facts, self._sizes, np.iinfo(np.int64).max).argmin(axis=1)
        offsets = (rng.random((len(users), _TRIES)) * self._sizes[rarest][:, None]).astype(int)
        drawn = self._flat[self._starts[rarest][:, None] + offsets]
        lacks = facts[:, None] & ~self.has[drawn]
        keys = users[:, None] * len(self.has) + drawn
        at = np.searchsorted(self._pairs, keys).clip(max=len(self._pairs) - 1)
        fits = np.logical_not(lacks.any(axis=2)) & np.asarray(facts.any(axis=1))[:, None]
        good = fits & (self._pairs[at] != keys)
        return _first(drawn, good)


def loss_and_gradients(weights: Arrays, batch: Batch, l2: float) -> tuple[float, Arrays]:
    """The mean loss of a batch (eq. 11), and its gradients by `users`, `items` and `facts`."""
    users, facts = weights["users"], weights["facts"]
    b, said = len(batch.users), batch.facts.astype(users.dtype)
    # What an item or a fact is multiplied with: the user and all that was accepted.
    context = users[batch.users] + said @ facts
    into = np.zeros_like(context)
    found = {name: np.zeros_like(array) for name, array in weights.items()}
    loss = 0.0
    for name, own, other in (
        ("items", batch.items, batch.any_item),
        ("items", batch.items, batch.fitting_item),
        ("facts", batch.own_fact, batch.other_fact),
    ):
        rows = np.flatnonzero((own >= 0) & (other >= 0))
        table = weights[name]
        difference = table[own[rows]] - table[other[rows]]
        margin = (context[rows] * difference).sum(axis=1)
        loss += float(np.logaddexp(0, -margin).sum()) / b
        slope = -0.5 * (1 - np.tanh(0.5 * margin)) / b  # of -ln sigmoid(margin)
        into[rows] += slope[:, None] * difference
        np.add.at(found[name], own[rows], slope[:, None] * context[rows])
        np.add.at(found[name], other[rows], -slope[:, None] * context[rows])
    np.add.at(found["users"], batch.users, into)
    found["facts"] += said.T @ into
    for name, places in (("users", batch.users), ("items", batch.items)):
        own = weights[name][places]
        loss += l2 * float((own * own).sum()) / b
        np.add.at(found[name], places, 2 * l2 * own / b)
    return loss, found


def _first(drawn: np.ndarray, good: np.ndarray) -> np.ndarray:
    chosen = drawn[np.arange(len(drawn)), good.argmax(axis=1)]
    return np.where(good.any(axis=1), chosen, -1)


def _one_of(marked: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random marked column of each row; -1 if there is none."""
    keys = np.where(marked, rng.random(marked.shape), -1.0)
    return np.where(marked.any(axis=1), keys.argmax(axis=1), -1)
