"""A recommender for tests: scores are how often an item was had in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from agents.core.artifacts import Content, Progress
from agents.core.items import TrainingData
from agents.core.plugins import Options
from agents.recommenders.core import Recommender

__all__ = ["MostHad"]


class MostHad(Recommender):
    """The same scores for everybody."""

    @staticmethod
    def fit(
        options: Options, data: TrainingData, seed: int, state: Content | None
    ) -> Iterator[Progress]:
        counts = np.bincount(data.interactions.items, minlength=data.items).astype(np.float32)
        yield Progress(1, 1, "counted", result=Content(arrays={"counts": counts}))

    @property
    def item_embeddings(self) -> np.ndarray:
        return self.content.arrays["counts"][:, None]

    def user_embedding(self, history: Sequence[int]) -> np.ndarray:
        return np.ones(1, np.float32)

    def scores(self, history: Sequence[int]) -> np.ndarray:
        return self.content.arrays["counts"]
