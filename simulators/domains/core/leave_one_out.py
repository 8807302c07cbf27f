"""Leave-one-out: histories in time order, the latest items held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.core.errors import DataError
from agents.core.items import Catalogue, VisibleCase
from simulators.core.cases import Case, HiddenCase, Split

# A user needs a test target, a validation target, and something to have liked before.
SHORTEST_HISTORY = 3
# The target's place, counted from the end. `train` serves rollouts of training loops: its target
# is the last interaction that training may see.
_FROM_END: dict[Split, int] = {"test": 1, "validation": 2, "train": 3}
HELD_OUT = 2


def case_of(catalogue: Catalogue, case_id: str, events: Sequence[int], split: Split) -> Case:
    """The leave-one-out case of a user whose interactions, oldest first, are `events`.

    `events` holds positions in the catalogue, at least SHORTEST_HISTORY of them.
    """
    target = len(events) - _FROM_END[split]
    items = catalogue.items
    history = tuple(items[position] for position in events[:target])
    return Case(VisibleCase(case_id, history), HiddenCase((items[events[target]],)))


def _check_lengths(path: Path, names: Sequence[str], lengths: np.ndarray) -> None:
    """DataError that names the first user whose history is too short for leave-one-out."""
    too_short = np.flatnonzero(lengths < SHORTEST_HISTORY)
    if len(too_short):
        user, length = names[too_short[0]], lengths[too_short[0]]
        more = f" (and so have {len(too_short) - 1} others)" if len(too_short) > 1 else ""
        raise DataError(
            f"{path}: user {user} has too short a history{more}: found {length} after filtering, "
            f"expected at least {SHORTEST_HISTORY}; set k_core to {SHORTEST_HISTORY} or more"
        )


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Mask of the largest set of pairs in which every user and every item occurs k times or more.

    `users` and `items` hold small non-negative integers, one pair a position.
    """
    kept = np.ones(len(users), dtype=bool)
    while kept.any():
        user_counts = np.bincount(users[kept], minlength=users.max() + 1)
        item_counts = np.bincount(items[kept], minlength=items.max() + 1)
        enough = kept & (user_counts[users] >= k) & (item_counts[items] >= k)
        if np.array_equal(enough, kept):
            break
        kept = enough
    return kept


@dataclass(frozen=True)
class Histories:
    """Every user's interactions in one array: user i owns `items[starts[i] : starts[i + 1]]`.

    `users` are the data set's own names of them; `items` holds catalogue positions, oldest first
    within a user.
    """

    users: tuple[str, ...]
    starts: np.ndarray
    items: np.ndarray
    times: np.ndarray

    def of(self, user: int) -> list[int]:
        return self.items[self.starts[user] : self.starts[user + 1]].tolist()

    def validation(self) -> np.ndarray:
        """Every user's last but one item."""
        return self.items[self.starts[1:] - _FROM_END["validation"]]

    def training(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Users, items and times of all that is not held out."""
        lengths = np.diff(self.starts)
        users = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        before_end = self.starts[users + 1] - np.arange(len(users))
        kept = before_end > HELD_OUT
        return users[kept], self.items[kept], self.times[kept]


class Events(NamedTuple):
    """Interactions in the order of the file: positions in `names` and in a list of items."""

    names: Sequence[str] | Sequence[int]
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray


def first_of_title(titles: Sequence[str]) -> np.ndarray:
    """For every title the position where it occurs first: a dialogue cannot tell the two apart."""
    first: dict[str, int] = {}
    for position, title in enumerate(titles):
        first.setdefault(title, position)
    return np.array([first[title] for title in titles], dtype=np.int32)


def leave_one_out(
    path: Path, events: Events, k: int, filters: str, found: int
) -> tuple[np.ndarray, Histories]:
    """The items that are left, as positions in the list of `events`, and every user's history.

    Where a user has an item twice, the earliest counts. Ties in time stay in the order of the
    lines. `found` interactions were in `path` before those `filters` that `k_core` follows.
    """
    users, items, times = events.users, events.items, events.times
    # Sorting by user, then time is stable.
    order = np.lexsort((times, users))
    pairs = users[order].astype(np.int64) * (items.max(initial=0) + 1) + items[order]
    order = order[np.sort(np.unique(pairs, return_index=True)[1])]
    if k > 1:
        order = order[k_core(users[order], items[order], k)]
    if not len(order):
        raise DataError(
            f"{path}: no interaction of {found:,} is left after {filters}k_core {k}; "
            f"lower {'one of them' if filters else 'it'}"
        )
    kept_users, starts = np.unique(users[order], return_index=True)
    names = tuple(str(events.names[user]) for user in kept_users.tolist())
    starts = np.append(starts, len(order))
    _check_lengths(path, names, np.diff(starts))
    kept_items, positions = np.unique(items[order], return_inverse=True)
    return kept_items, Histories(names, starts, positions.astype(np.int32), times[order])
