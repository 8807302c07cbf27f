"""Item-kNN: items whose users overlap with those of the history. The light default, no torch.

- **Similarity** of two items: the cosine of their columns in the binary user-item matrix X,
  c_ij / (|i| |j| + shrinkage), where c_ij counts the users of both (Sarwar et al., WWW 2001;
  the shrink term as in Ferrari Dacrema et al., RecSys 2019).
- **Scores**: every item keeps its `neighbours` most similar other items, and a candidate's score
  is the sum of its similarities to those items of the history that have it among theirs
  (Deshpande and Karypis, TOIS 2004: their matrix keeps the k largest values of each column). The
  default of 200 is that of the library RecPack.
- **Embeddings**: neighbour lists have none. With the columns of X divided by their norms, the
  cosines are the products of columns, so its truncated SVD, U S V', gives item vectors V S
  whose products are those cosines as well as `factors` dimensions can; a user is the sum of
  the history's items. `similarities` (AF-IRS, eq. 4) are then item-kNN scores over all
  neighbours, smoothed and scaled to [-1, 1]. This is our decision; shrinkage does not enter.

The order of the history does not matter, and nothing is drawn: the seed changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import svds

from agents.core.artifacts import Content, Progress
from agents.core.items import TrainingData
from agents.core.plugins import Options
from agents.core.plural import many
from agents.recommenders.core import Recommender

__all__ = ["ItemKNN"]

# Items whose similarities to all others are in memory at once.
_BLOCK = 512


class _Options(Options):
    neighbours: Annotated[int, Field(ge=1, le=100_000)] = 200
    """How many of the most similar items each item keeps."""
    shrinkage: Annotated[float, Field(ge=0)] = 0.0
    """Added to the product of norms, which lowers similarities that are based on few users."""
    factors: Annotated[int, Field(ge=1, le=4096)] = 64
    """Dimensions of the embeddings; fewer if there are fewer users or items."""


class ItemKNN(Recommender):
    """Cosine item-kNN on interactions, ignoring ratings."""

    Options = _Options

    @staticmethod
    def fit(
        options: _Options, data: TrainingData, seed: int, state: Content | None
    ) -> Iterator[Progress]:
        matrix = _matrix(data)
        places, weights = _neighbours(matrix, options.neighbours, options.shrinkage)
        arrays = {
            "neighbours": places,
            "weights": weights,
            "embeddings": _embeddings(matrix, options.factors),
        }
        yield Progress(1, 1, many(data.items, "item"), result=Content(arrays=arrays))

    @property
    def item_embeddings(self) -> np.ndarray:
        return self.content.arrays["embeddings"]

    def user_embedding(self, history: Sequence[int]) -> np.ndarray:
        return self.item_embeddings[np.asarray(history, np.int64)].sum(axis=0)

    def scores(self, history: Sequence[int]) -> np.ndarray:
        places = np.asarray(history, np.int64)
        near, weights = self.content.arrays["neighbours"], self.content.arrays["weights"]
        sums = np.bincount(near[places].ravel(), weights[places].ravel(), minlength=len(near))
        return sums.astype(np.float32)


def _matrix(data: TrainingData) -> csr_array:
    """(users, items), float64: 1 where the user had the item in training, however often."""
    found = data.interactions
    places = (np.asarray(found.users, np.int64), np.asarray(found.items, np.int64))
    shape = (len(found.user_ids), data.items)
    matrix = csr_array((np.ones(len(found)), places), shape=shape)
    matrix.data[:] = 1
    return matrix


def _neighbours(matrix: csr_array, k: int, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions (items, k) int32 and similarities (items, k) float32, highest first.

    Ties go to the lower position; where fewer are similar at all, similarities of 0 follow.
    """
    by_item = csr_array(matrix.T)
    norms = np.sqrt(by_item.sum(axis=1))
    items = len(norms)
    k = min(k, items)
    places, weights = np.empty((items, k), np.int32), np.empty((items, k), np.float32)
    for start in range(0, items, _BLOCK):
        block = slice(start, min(start + _BLOCK, items))
        both = csr_array(by_item[block] @ matrix).toarray()
        under = np.outer(norms[block], norms) + shrinkage
        similar = np.divide(both, under, out=np.zeros_like(both), where=both > 0)
        similar[np.arange(len(similar)), np.arange(block.start, block.stop)] = 0
        order = np.argsort(-similar, axis=1, kind="stable")[:, :k]
        places[block] = order
        weights[block] = np.take_along_axis(similar, order, axis=1)
    return places, weights


def _embeddings(matrix: csr_array, factors: int) -> np.ndarray:
    """(items, d), float32: the items' side of a truncated SVD of the normalised matrix."""
    norms = np.sqrt(matrix.sum(axis=0))
    normalised = csr_array(matrix @ diags_array(1 / np.maximum(norms, 1)))
    users = len(matrix.indptr) - 1
    most = min(users, len(norms))
    if factors < most:
        # A start that is fixed, or the solver draws one.
        start = np.random.default_rng(0).standard_normal(most)
        _, scale, vectors = map(np.asarray, svds(normalised, k=factors, v0=start))
        order = np.argsort(-scale, kind="stable")
        scale, vectors = scale[order], vectors[order]
    else:
        _, scale, vectors = np.linalg.svd(normalised.toarray(), full_matrices=False)
    # A singular vector's sign is free; its largest component is made positive.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    found = ((vectors * np.sign(largest)).T * scale).astype(np.float32)
    found[norms == 0] = 0  # not the solver's rounding errors, which would have a direction
    return found
