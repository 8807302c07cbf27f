"""Popularity: the same ranking for every user, by training interactions. The baseline.

It knows no user, so eq. 4 of AF-IRS says nothing of it (the cosine of one-dimensional vectors is
1): its similarities are its scores, divided by the highest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from agents.core.artifacts import Content, Progress
from agents.core.items import TrainingData
from agents.core.plugins import Options
from agents.core.plural import many
from agents.recommenders.core import Recommender

__all__ = ["Popularity"]


class Popularity(Recommender):
    """Scores are how often an item occurs in training. The seed changes nothing."""

    @staticmethod
    def fit(
        options: Options, data: TrainingData, seed: int, state: Content | None
    ) -> Iterator[Progress]:
        counts = np.bincount(data.interactions.items, minlength=data.items).astype(np.float32)
        yield Progress(
            1, 1, f"{many(data.items, 'item')} counted", result=Content(arrays={"counts": counts})
        )

    @property
    def item_embeddings(self) -> np.ndarray:
        return self.content.arrays["counts"][:, None]

    def user_embedding(self, history: Sequence[int]) -> np.ndarray:
        return np.ones(1, np.float32)

    def scores(self, history: Sequence[int]) -> np.ndarray:
        return self.content.arrays["counts"].copy()

    def similarities(self, history: Sequence[int]) -> np.ndarray:
        counts = self.content.arrays["counts"]
        return counts / max(counts.max(), 1)
