"""SASRec's forward pass for one history, in numpy float32: what episodes run.

Weights have names; those of the blocks are stacked, so their first axis is the block:

    items (items, d), positions (max_length, d), last_scale, last_shift (d,)
    attention_scale, attention_shift, forward_scale, forward_shift (blocks, d)
    {query,key,value,output,inner,outer}_weight (blocks, d, d), ..._bias (blocks, d)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agents.core.layers import layer_norm, softmax

EPSILON = 1e-8
"""Of the layer normalisation, as in the authors' code."""


def encode_sequence(
    weights: Mapping[str, np.ndarray], history: Sequence[int], heads: int
) -> np.ndarray:
    """(d,): the output at the last of the items at these positions; zero where there is none."""
    items, places = weights["items"], weights["positions"]
    latest = np.asarray(history[-len(places) :], np.int64)
    width = items.shape[1]
    if not len(latest):
        return np.zeros(width, np.float32)
    x = items[latest] * np.float32(width**0.5) + places[: len(latest)]
    blocks = len(weights["query_weight"])
    for block in range(blocks):
        own = {name: stack[block] for name, stack in weights.items()}
        query = layer_norm(x, own["attention_scale"], own["attention_shift"], EPSILON)
        if block == blocks - 1:
            query = query[-1:]  # only the last output is wanted
        x = query + _attention(query, x, own, heads)
        x = layer_norm(x, own["forward_scale"], own["forward_shift"], EPSILON)
        inner = np.maximum(_linear(x, own, "inner"), 0)
        x = x + _linear(inner, own, "outer")
    return layer_norm(x, weights["last_scale"], weights["last_shift"], EPSILON)[-1]


def _attention(
    query: np.ndarray, x: np.ndarray, own: Mapping[str, np.ndarray], heads: int
) -> np.ndarray:
    """(queries, d): causal attention of the latest positions to all of `x`."""
    count, width = query.shape
    q, k, v = (
        _linear(given, own, name).reshape(len(given), heads, -1).swapaxes(0, 1)
        for given, name in ((query, "query"), (x, "key"), (x, "value"))
    )
    weights = q @ k.swapaxes(1, 2) * np.float32((width // heads) ** -0.5)
    later = np.triu(np.ones((count, len(x)), bool), k=len(x) - count + 1)
    weights[:, later] = -np.inf
    return _linear((softmax(weights) @ v).swapaxes(0, 1).reshape(count, width), own, "output")


def _linear(x: np.ndarray, own: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return x @ own[f"{name}_weight"].T + own[f"{name}_bias"]
