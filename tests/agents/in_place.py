"""A recommender for tests: the first item of the catalogue is the best, neighbours are alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from agents.core.artifacts import Content, Progress
from agents.core.items import TrainingData
from agents.core.plugins import Options
from agents.recommenders.core import Recommender

__all__ = ["InPlace"]

FIRST_IS_BEST = "tests.agents.in_place"


class InPlace(Recommender):
    """Items lie on half a circle, in the order of the catalogue."""

    @staticmethod
    def fit(
        options: Options, data: TrainingData, seed: int, state: Content | None
    ) -> Iterator[Progress]:
        yield Progress(1, 1, "placed", result=_placed(data.items))

    @property
    def item_embeddings(self) -> np.ndarray:
        return self.content.arrays["places"]

    def user_embedding(self, history: Sequence[int]) -> np.ndarray:
        return self.item_embeddings[list(history)].sum(axis=0)

    def scores(self, history: Sequence[int]) -> np.ndarray:
        return -np.arange(len(self.item_embeddings), dtype=np.float32)


def in_place(items: int) -> InPlace:
    return InPlace(_placed(items))


def _placed(items: int) -> Content:
    angles = np.pi * np.arange(items) / items
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return Content(arrays={"places": places})
