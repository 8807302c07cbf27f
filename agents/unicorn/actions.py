"""What UNICORN sees of a state, and which actions it considers (sections 4.2.1 and 4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from agents.multi_round.rounds import NO_ITEM, Decisions, Rounds, top
from agents.multi_round.space import AttributeSpace
from agents.multi_round.vectors import Vectors, sigmoid
from agents.unicorn.network import States

NO_ACTION = -1


def action_vectors(space: AttributeSpace, vectors: Vectors) -> np.ndarray:
    """(questions + items, d): questions, whose vector is the mean of their facts', then items."""
    share = space.members / space.members.sum(axis=1, keepdims=True)
    return np.concatenate([(share @ vectors.facts).astype(np.float32), vectors.items])


@dataclass(frozen=True)
class Actions:
    """The states of the dialogues `rows`, and the actions in them.

    `ids` (rows, a): the position of a question, or that of an item plus the number of questions;
    -1 where there are fewer. Items come first, best first.
    """

    rows: np.ndarray
    near: np.ndarray
    accepted: np.ndarray
    """(rows, l): positions of accepted facts, in the order of the catalogue's facts, since the
    network has no positions; -1: padding."""
    ids: np.ndarray
    facts: np.ndarray
    """The vectors of all facts."""

    @classmethod
    def of(cls, rounds: Rounds, rows: np.ndarray, options: Any, *, items: int) -> Self:
        questions = len(rounds.space.questions)
        best = rounds.best(rows, items)
        if options.question_selection == "preference":
            liked = rounds.users[rows] + rounds.accepted[rows] @ rounds.vectors.facts
            worth = (liked @ rounds.vectors.facts.T) @ rounds.space.members_of
        else:
            worth = rounds.entropies(rounds.weighted_shares(rows))
        worth = np.where(rounds.reachable(rows), worth, -np.inf)
        asked = np.full((len(rows), options.asked), NO_ACTION, np.int64)
        for place, row in enumerate(worth):
            chosen = top(row, min(options.asked, int(np.isfinite(row).sum())))
            asked[place, : len(chosen)] = chosen
        ids = np.concatenate([np.where(best >= 0, best + questions, NO_ACTION), asked], axis=1)
        return cls(rows, _near(rounds, rows), _accepted(rounds, rows), ids, rounds.vectors.facts)

    @property
    def states(self) -> States:
        return states_of(self.near, self.accepted, self.facts)

    def vectors(self, rounds: Rounds) -> np.ndarray:
        """(rows, a, d); padding has the vector of the first question."""
        questions = len(rounds.space.questions)
        width = rounds.vectors.items.shape[1]
        found = np.zeros((*self.ids.shape, width), np.float32)
        is_item = self.ids >= questions
        found[is_item] = rounds.vectors.items[self.ids[is_item] - questions]
        asks = (self.ids >= 0) & ~is_item
        share = rounds.space.members / rounds.space.members.sum(axis=1, keepdims=True)
        found[asks] = (share @ rounds.vectors.facts).astype(np.float32)[self.ids[asks]]
        return found


def states_of(near: np.ndarray, accepted: np.ndarray, facts: np.ndarray) -> States:
    """States as the network takes them."""
    real = (accepted >= 0).astype(np.float32)
    return States(near, facts[np.maximum(accepted, 0)] * real[:, :, None], real)


def _near(rounds: Rounds, rows: np.ndarray) -> np.ndarray:
    """(rows, d): see `States`. An item's edges are those to the user, with the sigmoid of its score
    as weight, and to the facts that were not refused."""
    found = np.zeros((len(rows), rounds.vectors.items.shape[1]), np.float32)
    for place, row in enumerate(rows):
        items = rounds.candidates(row)
        if not len(items):
            continue
        edges = rounds.vectors.has[items] @ (~rounds.refused[row]).astype(np.float32)
        weights = 1 / np.sqrt((edges + sigmoid(rounds.scores(row))) * np.float32(len(items)))
        found[place] = weights.astype(np.float32) @ rounds.vectors.items[items]
    return found


def _accepted(rounds: Rounds, rows: np.ndarray) -> np.ndarray:
    accepted = rounds.accepted[rows]
    most = max(int(accepted.sum(axis=1).max(initial=0)), 1)
    found = np.full((len(rows), most), NO_ACTION, np.int64)
    for place, row in enumerate(accepted):
        facts = np.flatnonzero(row)
        found[place, : len(facts)] = facts
    return found


def decisions_of(
    given: Actions,
    values: np.ndarray,
    rounds: Rounds,
    shown: int,
    recommends: np.ndarray | None = None,
) -> Decisions:
    """The actions with the highest values (rows, a); where `recommends`, the best candidates by
    their scores instead. An item means the `shown` items with the highest values."""
    questions = len(rounds.space.questions)
    rows = np.arange(len(values))
    ids = given.ids[rows, values.argmax(axis=1)]
    asks = (ids >= 0) & (ids < questions)
    is_item = given.ids >= questions
    items = np.full((len(values), shown), NO_ITEM, np.int64)
    few = np.zeros(len(values), bool) if recommends is None else recommends
    for row in np.flatnonzero(~asks | few):
        own = given.ids[row][is_item[row]] - questions
        order = np.arange(len(own)) if few[row] else top(values[row][is_item[row]], shown)
        best = own[order][:shown]
        items[row, : len(best)] = best
    return Decisions(np.where(asks & ~few, ids, -1), items)
