"""A made-up world of games: a catalogue with an attribute hierarchy, and users with tastes.

- The catalogue's slots are in the order of a tree, genre > subgenre > theme, so that every node of
  it is one range of slots. Items are a permutation of the slots.
- A user likes a few nodes of the tree. An interaction picks one of them, or with chance 1 - taste
  the whole catalogue, and in it an item by popularity. So users who like the same meet at the same
  items, which is what collaborative filtering finds.
- User n draws from its own place in one Philox stream: a case is made on demand, a million cases
  cost nothing before, and one user and a chunk of users go through the same code.
- Only raw random words and exact arithmetic decide, so platforms and versions agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Self, overload

import numpy as np
from pydantic import Field, model_validator

from agents.core.errors import DataError
from agents.core.items import Catalogue, Interactions
from agents.core.plugins import Options
from simulators.core.cases import Case, Domain, Split
from simulators.domains.core.leave_one_out import HELD_OUT, SHORTEST_HISTORY, case_of
from simulators.domains.core.recorded import fingerprint
from simulators.domains.synthetic.items import make_items
from simulators.domains.synthetic.profiles import make_profile, profile_groups
from simulators.domains.synthetic.users import Population

__all__ = ["Synthetic"]

# Users drawn at once: 4 MB of random words at a history of 20.
_CHUNK = 4096


class NumberedIds(Sequence[str]):
    """`u0`, `u1`, ... computed when asked for."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> NumberedIds: ...
    def __getitem__(self, index: int | slice) -> str | NumberedIds:
        found = self._numbers[index]
        return NumberedIds(found) if isinstance(found, range) else f"u{found}"

    def __contains__(self, case_id: object) -> bool:
        return isinstance(case_id, str) and self.number(case_id) is not None

    def number(self, case_id: str) -> int | None:
        """The number of a user, None where there is no such id."""
        digits = case_id[1:]
        if not (digits.isascii() and digits.isdigit()) or case_id != f"u{int(digits)}":
            return None
        return int(digits) if int(digits) in self._numbers else None


class _Options(Options):
    seed: int = Field(0, ge=0, lt=2**63)
    items: int = Field(500, ge=20, le=100_000)
    users: int = Field(200, ge=1, le=10_000_000)
    history: int = Field(20, ge=SHORTEST_HISTORY, le=200)
    """Interactions of every user, the two held-out ones included."""
    taste: float = Field(0.9, ge=0, le=1)
    """Share of the interactions that follow the user's tastes, not popularity alone."""

    @model_validator(mode="after")
    def _enough_items(self) -> Self:
        if 2 * self.history > self.items:
            raise ValueError(
                f"history must be at most half of items, found history {self.history} "
                f"with items {self.items}"
            )
        return self


class Synthetic(Domain):
    """A seeded catalogue of games, and users whose histories follow latent tastes."""

    Options = _Options
    version = 1

    def __init__(self, options: _Options) -> None:
        self.options = options
        self._ids = NumberedIds(range(options.users))

    def fingerprint(self) -> str:
        return fingerprint("synthetic", self.version, self.options)

    @property
    def catalogue(self) -> Catalogue:
        return self._catalogue

    @cached_property
    def _catalogue(self) -> Catalogue:
        return Catalogue(make_items(self.options.seed, self.options.items), noun="game")

    def case_ids(self, split: Split) -> Sequence[str]:
        return self._ids

    def case(self, split: Split, case_id: str) -> Case:
        number = self._ids.number(case_id)
        if number is None:
            raise DataError(f"the synthetic domain has no case {case_id!r}")
        events = self._population.histories(number, 1)[0].tolist()
        visible, hidden = case_of(self.catalogue, case_id, events, split)
        profile = make_profile(self.options.seed, number, hidden.targets[0], visible.history)
        return Case(visible, replace(hidden, profile=profile))

    @property
    def has_profiles(self) -> bool:
        return True

    def groups(self, split: Split, case_id: str) -> Mapping[str, str]:
        number = self._ids.number(case_id)
        return {} if number is None else profile_groups(self.options.seed, number)

    def interactions(self) -> Interactions:
        users, length = self.options.users, self.options.history - HELD_OUT
        items = np.empty((users, length), dtype=np.int32)
        times = np.empty((users, length), dtype=np.int64)
        for first in range(0, users, _CHUNK):
            chunk = slice(first, min(first + _CHUNK, users))
            count = chunk.stop - first
            items[chunk] = self._population.histories(first, count)[:, :length]
            times[chunk] = self._population.times(first, count)[:, :length]
        numbers = np.repeat(np.arange(users, dtype=np.int32), length)
        return Interactions(tuple(self._ids), numbers, items.ravel(), times.ravel())

    def validation_items(self) -> np.ndarray:
        users, place = self.options.users, self.options.history - 2
        chunks = range(0, users, _CHUNK)
        found = [
            self._population.histories(first, min(_CHUNK, users - first))[:, place]
            for first in chunks
        ]
        return np.concatenate(found).astype(np.int32)

    def statistics(self) -> dict[str, int]:
        options = self.options
        return {
            "users": options.users,
            "items": options.items,
            "interactions": options.users * options.history,
        }

    @cached_property
    def _population(self) -> Population:
        options = self.options
        return Population(options.seed, options.items, options.history, options.taste)
