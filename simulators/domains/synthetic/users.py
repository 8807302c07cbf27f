"""Users of the synthetic world: who likes what, and what they played."""

from __future__ import annotations

import numpy as np

from simulators.domains.synthetic.items import USERS, leaf_bounds, slots, tree_for, uniform

# Draws that decide a user's tastes and start; a multiple of 4, the words of one Philox block.
_TASTE_DRAWS = 12
# Candidates drawn for each interaction, of which the distinct ones count. At 500 items and a
# history of 20, one user in 1,300 runs out of them; with two candidates it was one in 18.
_CANDIDATES = 3
# Shares of the favourites among interactions of taste: two genres, three subgenres, four themes.
_FAVOURITES = np.array([0.06, 0.04, 0.12, 0.08, 0.08, 0.22, 0.16, 0.14, 0.10])
_FIRST_DAY = 1_577_836_800  # 2020-01-01
_DAY = 86_400


class Population:
    """Draws users. What depends on the catalogue alone is computed once."""

    def __init__(self, seed: int, items: int, history: int, taste: float) -> None:
        self._seed = seed
        self._history = history
        self._tree = tree_for(items)
        weights, self._items = slots(seed, items)
        self._mass = np.cumsum(weights)
        mass = np.concatenate(([0], self._mass))
        self._leaf_mass = mass[leaf_bounds(self._tree, items)]
        self._cutoffs = np.cumsum(_FAVOURITES * taste)
        self._width = _TASTE_DRAWS + 2 * _CANDIDATES * history
        self._width += -self._width % 4

    def histories(self, first: int, count: int) -> np.ndarray:
        """Catalogue positions of users from `first`: one row each, oldest first, no repeats."""
        draws = self._draws(first, count)
        low, high = self._favourites(draws)
        start = self._leaf_mass[low]
        span = self._leaf_mass[high] - start

        candidates = _CANDIDATES * self._history
        split = _TASTE_DRAWS + candidates
        which = np.searchsorted(self._cutoffs, draws[:, _TASTE_DRAWS:split], side="right")
        within = draws[:, split : split + candidates]
        user = np.arange(count)[:, None]
        target = start[user, which] + (within * span[user, which]).astype(np.int64)
        drawn = np.searchsorted(self._mass, target, side="right").tolist()
        return self._items[[_distinct(row, self._history, len(self._items)) for row in drawn]]

    def times(self, first: int, count: int) -> np.ndarray:
        """Unix times of the interactions: one a day, from a day of 2020 on."""
        begin = (self._draws(first, count)[:, _TASTE_DRAWS - 1] * 365).astype(np.int64)
        days = begin[:, None] + np.arange(self._history)
        return _FIRST_DAY + days * _DAY

    def _draws(self, first: int, count: int) -> np.ndarray:
        return uniform(self._seed, USERS, first, count, self._width)

    def _favourites(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and last leaf of each favourite node; the last column is the whole tree."""
        tree, pick = self._tree, draws.T
        # Squared, so that some genres have more friends than others.
        genres = (pick[:2] * pick[:2] * tree.genres).astype(np.int64)
        subgenres = genres[[0, 0, 1]] * tree.subgenres
        subgenres += (pick[2:5] * tree.subgenres).astype(np.int64)
        themes = subgenres[[0, 0, 1, 2]] * tree.themes
        themes += (pick[5:9] * tree.themes).astype(np.int64)
        size = np.array([tree.subgenres * tree.themes] * 2 + [tree.themes] * 3 + [1] * 4)
        low = np.concatenate((genres, subgenres, themes)).T * size
        whole = np.zeros((len(draws), 1), dtype=np.int64)
        return np.hstack((low, whole)), np.hstack((low + size, whole + tree.leaves))


def _distinct(drawn: list[int], wanted: int, slots: int) -> list[int]:
    """The first `wanted` different slots; where too few, neighbours of the first fill up."""
    found = dict.fromkeys(drawn)
    slot = drawn[0]
    while len(found) < wanted:
        slot = (slot + 1) % slots
        found[slot] = None
    return list(found)[:wanted]
