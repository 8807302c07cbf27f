"""Prioritised replay (Schaul et al., ICLR 2016), in arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_LEAST = 0.01  # added to errors, so that no turn is never drawn again
_FIRST = 0.1  # the largest error before any is known
_GROWTH = 0.001


class Replay:
    """Turns by the names of their parts. When it is full, new ones replace the oldest.

    A turn is drawn with a probability in proportion to (|error| + 0.01) ** alpha, where new turns
    have the largest error so far. Its loss is weighted by (n P) ** -beta over the largest weight of
    the batch.
    """

    def __init__(self, size: int, alpha: float, beta: float) -> None:
        self.size, self.alpha, self.beta = size, alpha, beta
        self.parts: dict[str, np.ndarray] = {}
        self.priorities = np.zeros(size)
        self.filled = self.at = 0
        self.largest = _FIRST

    def add(self, parts: Mapping[str, np.ndarray]) -> None:
        """Adds turns: arrays with one row for each, of the same shapes in every call."""
        n = len(next(iter(parts.values())))
        places = (self.at + np.arange(n)) % self.size
        for name, rows in parts.items():
            if name not in self.parts:
                self.parts[name] = np.zeros((self.size, *rows.shape[1:]), rows.dtype)
            self.parts[name][places] = rows
        self.priorities[places] = (self.largest + _LEAST) ** self.alpha
        self.at = int((self.at + n) % self.size)
        self.filled = min(self.filled + n, self.size)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The places of `n` turns, one of each n-th of all priorities, and their weights."""
        sums = np.cumsum(self.priorities[: self.filled])
        points = (np.arange(n) + rng.random(n)) / n * sums[-1]
        places = np.minimum(np.searchsorted(sums, points, side="right"), self.filled - 1)
        self.beta = min(1.0, self.beta + _GROWTH)
        chances = self.probabilities()[places]
        weights = (self.filled * chances) ** -self.beta
        return places, (weights / weights.max()).astype(np.float32)

    def probabilities(self) -> np.ndarray:
        """(turns,): how likely each is drawn."""
        priorities = self.priorities[: self.filled]
        return priorities / priorities.sum()

    def update(self, places: np.ndarray, errors: np.ndarray) -> None:
        """Sets the priorities of turns by their errors."""
        errors = np.abs(errors.astype(np.float64))
        self.largest = max(self.largest, float(errors.max()))
        self.priorities[places] = (errors + _LEAST) ** self.alpha

    def state(self) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        arrays = {f"replay_{name}": rows[: self.filled].copy() for name, rows in self.parts.items()}
        arrays["priorities"] = self.priorities[: self.filled].copy()
        data = {"at": self.at, "largest": self.largest, "beta": self.beta}
        return data, arrays

    def restore(self, data: Mapping[str, float], arrays: Mapping[str, np.ndarray]) -> None:
        for name, rows in arrays.items():
            if name.startswith("replay_"):
                whole = np.zeros((self.size, *rows.shape[1:]), rows.dtype)
                whole[: len(rows)] = rows
                self.parts[name.removeprefix("replay_")] = whole
        self.filled = len(arrays["priorities"])
        self.priorities[: self.filled] = arrays["priorities"]
        self.at, self.largest, self.beta = int(data["at"]), data["largest"], data["beta"]
