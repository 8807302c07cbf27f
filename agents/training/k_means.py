"""K-means by scikit-learn, on one thread, so that a seed gives the same centroids anywhere."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits


def k_means(vectors: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """(at most `clusters`, d), float32: centroids; fewer where fewer vectors differ."""
    different = len(np.unique(vectors, axis=0))
    with threadpool_limits(1):
        made = KMeans(min(clusters, different), n_init=1, random_state=seed)  # pyright: ignore[reportArgumentType] its default is a word
        found = made.fit(vectors)
    return found.cluster_centers_.astype(np.float32)


def assigned(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(vectors,), int64: the nearest centroid of each."""
    squares = (centroids * centroids).sum(axis=1)
    return np.argmin(squares - 2 * vectors @ centroids.T, axis=1)
