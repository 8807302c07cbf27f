"""Vectors of users, items and facts, read-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agents.core.errors import DataError
from agents.core.items import VisibleCase

Arrays = dict[str, np.ndarray]
"""Vectors in training, or their gradients, by the tables `users`, `items`, `facts` and (of TransE)
`relations`."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """Embeddings of one width: `users` (users, d), `items` (items, d), `facts` (facts, d), all
    float32. `has` (items, facts) is 1 where an item has a fact."""

    users: np.ndarray
    items: np.ndarray
    facts: np.ndarray
    user_places: Mapping[str, int]
    has: np.ndarray

    @cached_property
    def facts_items(self) -> np.ndarray:
        """(facts, items): the products of their vectors."""
        return self.facts @ self.items.T

    @cached_property
    def penalties(self) -> np.ndarray:
        """(facts, items): sigmoid(e_v e_p) where the item has the fact, 0 elsewhere."""
        return sigmoid(self.facts_items) * self.has.T

    def user(self, case: VisibleCase) -> np.ndarray:
        """(d,): the vector of the user of a case.

        DataError for a user that training has not seen: these methods know their users by name.
        """
        name = case.user_id or case.case_id
        if name not in self.user_places:
            raise DataError(
                f"the user {name!r} of case {case.case_id!r} is not among the "
                f"{len(self.user_places):,} users of the training interactions; agents that embed "
                "users cannot serve others"
            )
        return self.users[self.user_places[name]]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """float32, without overflow."""
    return (0.5 * (1 + np.tanh(0.5 * x))).astype(np.float32)
