"""The trained model of LatentCRS in numpy: what episodes run (`losses` has the equations).

Arrays of its content:

    the weights of the generative model (`losses.GENERATIVE`), float32
    anchors (K, d_m), items (N, d_v)
    history_mean, history_scale (d_s,), words_mean, words_scale (d_x,): inputs are standardised
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np

from agents.core.artifacts import Content
from agents.core.layers import softmax


class Ranker(Protocol):
    """What scores the catalogue for a user's history and words."""

    def scores(self, history: np.ndarray, words: np.ndarray) -> np.ndarray: ...


class IntentModel:
    """p(v | S, x), read-only. `g` is `eq6` or `independent`."""

    def __init__(self, content: Content) -> None:
        self._arrays = content.arrays
        self._g: str = content.data["g"]

    def intents(self, histories: np.ndarray, words: np.ndarray) -> np.ndarray:
        """(B, K), eq. 5: p(m_j | S, x) for embeddings of histories and words."""
        return softmax(self._logits(histories, words))

    def probabilities(self, histories: np.ndarray, words: np.ndarray) -> np.ndarray:
        """(B, N): the sum over the intents of p(m_j | S, x) p(v | m_j, S, x).

        With `eq6` K x N numbers are in memory for one example at a time.
        """
        logits = self._logits(histories, words)
        prior = softmax(logits)
        if self._g == "independent":
            return prior @ self._choices
        return np.stack(
            [
                p @ softmax(self._products * row[:, None])
                for p, row in zip(prior, logits, strict=True)
            ]
        )

    def scores(self, history: np.ndarray, words: np.ndarray) -> np.ndarray:
        """(N,), float32: the probability of every item for one history and its words."""
        return self.probabilities(history[None], words[None])[0]

    def _logits(self, histories: np.ndarray, words: np.ndarray) -> np.ndarray:
        own = self._arrays
        parts = []
        for name, given in (("history", histories), ("words", words)):
            standard = (given.astype(np.float32) - own[f"{name}_mean"]) / own[f"{name}_scale"]
            parts.append(standard @ own[f"{name}_weight"].T + own[f"{name}_bias"])
        inner = np.concatenate(parts, axis=1) @ own["inner_weight"].T + own["inner_bias"]
        outer = np.maximum(inner, 0) @ own["outer_weight"].T + own["outer_bias"]
        return outer @ (own["anchors"] @ own["anchor_weight"].T).T

    @cached_property
    def _products(self) -> np.ndarray:
        """(K, N): (W_j m_j)(W_v v)^T."""
        own = self._arrays
        intents = own["anchors"] @ own["intent_weight"].T
        return intents @ (own["items"] @ own["item_weight"].T).T

    @cached_property
    def _choices(self) -> np.ndarray:
        return softmax(self._products)


class PopularityRanker:
    """In rehearsals, in place of what is not trained yet: counts, whatever is said."""

    def __init__(self, content: Content) -> None:
        self._counts = content.arrays["counts"]

    def scores(self, history: np.ndarray, words: np.ndarray) -> np.ndarray:
        return self._counts.astype(np.float32)
