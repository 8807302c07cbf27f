"""A policy as agents consult it: a small trained model that draws one of a few labels.

`Ask.decide` asks it and records the call like any other: the state is the prompt, the reply is a
`Decision`, the fingerprint is the digest of the weights. The digest is also part of the model's
identity, so the call cache never answers for older weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

from agents.core.calls import Call, ChatMessage, Model
from agents.core.steps import ReplyModel, Step

Decoding = Literal["sample", "argmax", "sample_dropout"]
"""`sample` draws from the probabilities, by the call's seed. `argmax` takes the likeliest label, so
that no exploration is left. `sample_dropout` draws from the probabilities that the network gives
with its dropout on, which the call's seed drives too: flatter on average and noisier than `sample`.
It is what the released evaluation of RSO does."""

DECIDE = Step("decide", "choose", ReplyModel)  # no prompt, no schema: a name for the records


class Decision(NamedTuple):
    """One draw of a policy. The log-probability is the natural one of `label`, at most 0."""

    label: str
    log_probability: float
    probabilities: Mapping[str, float]
    """Every label in the policy's order -> its probability. They add up to 1."""
    digest: str
    """Of the weights."""

    @property
    def text(self) -> str:
        """As it is recorded in `calls.reply`: JSON."""
        return json.dumps(self._asdict(), separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> Decision:
        """The decision of a record. ValueError or TypeError for text that holds none."""
        return cls(**json.loads(text))


class DecisionCall(Call):
    """A state that a policy decides in, as the journal keeps it."""

    @classmethod
    def of(
        cls, role: str, scope: str, turn: int, draw: int, seed: int, sampling: int, state: str
    ) -> DecisionCall:
        message = ChatMessage("user", state)
        return cls(DECIDE, role, scope, turn, draw, 0, seed, (message,), {}, None, sampling)


class LabelPolicy(Protocol):
    """A trained policy, as an agent gets it in `context.artifacts`."""

    labels: tuple[str, ...]
    digest: str
    """Of its weights."""

    def model(self, decoding: Decoding) -> Model:
        """What answers a `DecisionCall` with the text of a `Decision`."""
        ...
