"""TransE (Bordes et al., NIPS 2013) on the graph of users, items and facts, with its gradients.

UNICORN (section 5.1.4) pretrains its vectors this way: a user `interacts` with an item, an item
`has` a fact. A triple (h, r, t) has the distance |h + r - t|_1 of normalised vectors; the loss is
max(0, margin + distance - that of the triple with a random head or tail of the same kind).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agents.multi_round.vectors import Arrays

_TINY = 1e-12


class Triples(NamedTuple):
    """n triples: positions in the table `heads` and in `tails`, by the relation's row."""

    relation: int
    heads: str
    tails: str
    head: np.ndarray
    tail: np.ndarray


def graph(users: np.ndarray, items: np.ndarray, has: np.ndarray) -> tuple[Triples, Triples]:
    """Interactions (users and items of one length), and the facts of items (items, facts)."""
    holder, fact = np.nonzero(has)
    return (
        Triples(0, "users", "items", users.astype(np.int64), items.astype(np.int64)),
        Triples(1, "items", "facts", holder, fact),
    )


def loss_and_gradients(
    weights: Arrays, given: Triples, corrupt: np.ndarray, side: np.ndarray, margin: float
) -> tuple[float, Arrays]:
    """The mean loss of a batch, and its gradients by the tables and `relations` (2, d).

    `corrupt` (n,) replaces the tail where `side` (n,) is 1, else the head.
    """
    found = {name: np.zeros_like(array) for name, array in weights.items()}
    n = len(given.head)
    false = given._replace(
        head=np.where(side == 1, given.head, corrupt),
        tail=np.where(side == 1, corrupt, given.tail),
    )
    true_parts, false_parts = _distance(weights, given), _distance(weights, false)
    over = margin + true_parts[0] - false_parts[0]
    for triples, parts, sign in ((given, true_parts, 1.0), (false, false_parts, -1.0)):
        _, signs, heads, tails = parts
        slope = signs * (sign * (over > 0) / n)[:, None]
        np.add.at(found[triples.heads], triples.head, _through(heads, slope))
        np.add.at(found[triples.tails], triples.tail, _through(tails, -slope))
        found["relations"][triples.relation] += slope.sum(axis=0)
    return float(np.maximum(over, 0).mean()), found


_Normal = tuple[np.ndarray, np.ndarray]


def _distance(weights: Arrays, triples: Triples) -> tuple[np.ndarray, np.ndarray, _Normal, _Normal]:
    head = _normal(weights[triples.heads][triples.head])
    tail = _normal(weights[triples.tails][triples.tail])
    apart = head[0] + weights["relations"][triples.relation] - tail[0]
    return np.abs(apart).sum(axis=1), np.sign(apart), head, tail


def _normal(vectors: np.ndarray) -> _Normal:
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True)) + _TINY
    return vectors / lengths, lengths


def _through(normal: _Normal, slope: np.ndarray) -> np.ndarray:
    """The gradient by a vector, of `slope` by its normalised form."""
    unit, lengths = normal
    return (slope - unit * (unit * slope).sum(axis=1, keepdims=True)) / lengths
