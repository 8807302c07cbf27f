"""The network of UNICORN: one forward pass, in numpy for use and in torch for training.

Weights by name: `near`, `own` and `graph_bias` of the graph convolution (eq. 8 and 9), `query`,
`key`, `value`, `out`, `inner`, `outer` and two `scale`s and `shift`s of the transformer (eq. 10),
`state`, and of the heads of eq. 11 `value_inner` and `value_outer`, `gain_state`, `gain_action` and
`gain_outer`; names with `_bias` are biases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from agents.core.layers import softmax

FORWARD = 4  # units of the transformer's inner layer, in widths of the hidden ones
_EPSILON = 1e-5
_NEVER = -1e9


class States(NamedTuple):
    """What the network sees of b states.

    - `near` (b, d): the sum over candidates v of e_v / sqrt(d_p d_v), which all accepted values
      have in common. d_p is the number of candidates, d_v the weight of the edges of v.
    - `own` (b, l, d): the vectors of the accepted values; their order does not matter.
    - `real` (b, l): which of these there are; the others are padding.
    """

    near: Any
    own: Any
    real: Any


class _Numpy:
    """The few operations that numpy and torch name differently."""

    @staticmethod
    def relu(x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0)

    softmax = staticmethod(softmax)
    square_root = staticmethod(np.sqrt)


NUMPY = _Numpy()


def state_vectors(w: Mapping[str, Any], ops: Any, given: States, heads: int) -> Any:
    """(b, h): the states. A state without accepted values has the bias of the last layer."""
    nodes = ops.relu(
        (given.near @ w["near"])[:, None] + given.own @ w["own"] + w["graph_bias"]
    )  # fmt: skip
    nodes = _normal(nodes + _attention(w, ops, nodes, given.real, heads), w, ops, "first")
    inner = ops.relu(nodes @ w["inner"] + w["inner_bias"])
    nodes = _normal(nodes + inner @ w["outer"] + w["outer_bias"], w, ops, "second")
    real = given.real[:, :, None]
    mean = (nodes * real).sum(axis=1) / (real.sum(axis=1) + (real.sum(axis=1) == 0))
    return ops.relu(mean @ w["state"] + w["state_bias"])


def q_values(w: Mapping[str, Any], ops: Any, states: Any, actions: Any) -> Any:
    """(b, a): Q of each action, of vectors (b, a, d), in each state: value plus advantage."""
    value = ops.relu(states @ w["value_inner"] + w["value_inner_bias"]) @ w["value_outer"]
    # One layer over the state and the action, whose product with the state is made once.
    of_state = states @ w["gain_state"] + w["gain_bias"]
    gain = ops.relu(of_state[:, None] + actions @ w["gain_action"]) @ w["gain_outer"]
    return value + w["value_outer_bias"] + gain[:, :, 0] + w["gain_outer_bias"]


def _attention(w: Mapping[str, Any], ops: Any, x: Any, real: Any, heads: int) -> Any:
    b, length, width = x.shape
    q, k, v = (
        (x @ w[name] + w[f"{name}_bias"]).reshape(b, length, heads, -1).swapaxes(1, 2)
        for name in ("query", "key", "value")
    )
    scores = q @ k.swapaxes(2, 3) / (width // heads) ** 0.5
    weights = ops.softmax(scores + (1 - real)[:, None, None] * _NEVER)
    found = (weights @ v).swapaxes(1, 2).reshape(b, length, width)
    return found @ w["out"] + w["out_bias"]


def _normal(x: Any, w: Mapping[str, Any], ops: Any, name: str) -> Any:
    centred = x - x.mean(axis=-1)[..., None]
    spread = ops.square_root((centred * centred).mean(axis=-1)[..., None] + _EPSILON)
    return centred / spread * w[f"{name}_scale"] + w[f"{name}_shift"]


def initial(rng: np.random.Generator, width: int, hidden: int) -> dict[str, np.ndarray]:
    """Weights to begin with, uniform within 1 / sqrt(inputs)."""
    shapes = {
        "near": (width, hidden),
        "own": (width, hidden),
        "query": (hidden, hidden),
        "key": (hidden, hidden),
        "value": (hidden, hidden),
        "out": (hidden, hidden),
        "inner": (hidden, FORWARD * hidden),
        "outer": (FORWARD * hidden, hidden),
        "state": (hidden, hidden),
        "value_inner": (hidden, hidden),
        "value_outer": (hidden, 1),
        "gain_state": (hidden, hidden),
        "gain_action": (width, hidden),
        "gain_outer": (hidden, 1),
    }
    inputs = {"gain_state": hidden + width, "gain_action": hidden + width}
    found = {
        name: rng.uniform(-1, 1, shape) / inputs.get(name, shape[0]) ** 0.5
        for name, shape in shapes.items()
    }
    shared = ("near", "own", "gain_state", "gain_action")
    found |= {f"{n}_bias": np.zeros(s[1]) for n, s in shapes.items() if n not in shared}
    found |= {"graph_bias": np.zeros(hidden), "gain_bias": np.zeros(hidden)}
    for name in ("first", "second"):
        found |= {f"{name}_scale": np.ones(hidden), f"{name}_shift": np.zeros(hidden)}
    return {name: array.astype(np.float32) for name, array in found.items()}
