"""The built-in network's forward pass in numpy, for one text.

A pre-norm transformer encoder. Positions are counted from the end of the text, where the network
reads out, so that the latest words are always in the same places.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from agents.core.layers import layer_norm, softmax

EPSILON = 1e-5
_GELU = 0.7978845608028654  # sqrt(2 / pi), of the approximation by tanh


def logits(
    weights: Mapping[str, np.ndarray],
    words: np.ndarray,
    heads: int,
    blocks: int,
    dropout: tuple[float, np.random.Generator] | None = None,
) -> np.ndarray:
    """(labels,), of the places of a text's words (length,). `dropout` is a rate and its numbers."""
    length = len(words)

    def dropped(values: np.ndarray) -> np.ndarray:
        if dropout is None:
            return values
        rate, numbers = dropout
        kept = numbers.random(values.shape) >= rate
        return values * kept / (1 - rate)

    positions = np.arange(length - 1, -1, -1)
    x = dropped(weights["words"][words] + weights["positions"][positions])
    width = x.shape[1]
    for block in range(blocks):
        own = f"block{block}_"
        normal = layer_norm(x, weights[own + "norm1"], weights[own + "shift1"], EPSILON)
        mixed = normal @ weights[own + "mix"] + weights[own + "mix_bias"]
        # (heads, length, width / heads) each
        query, key, value = mixed.reshape(length, 3, heads, width // heads).transpose(1, 2, 0, 3)
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(width // heads)
        seen = (softmax(scores) @ value).transpose(1, 0, 2).reshape(length, width)
        x = x + dropped(seen @ weights[own + "out"] + weights[own + "out_bias"])
        normal = layer_norm(x, weights[own + "norm2"], weights[own + "shift2"], EPSILON)
        inner = normal @ weights[own + "wide"] + weights[own + "wide_bias"]
        inner = 0.5 * inner * (1 + np.tanh(_GELU * (inner + 0.044715 * inner**3)))
        x = x + dropped(inner @ weights[own + "narrow"] + weights[own + "narrow_bias"])
    last = layer_norm(x[-1], weights["norm"], weights["shift"], EPSILON)
    return last @ weights["labels"] + weights["labels_bias"]
