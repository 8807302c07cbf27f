"""A model request and its answer, as they pass from `Ask` to a backend and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from agents.core.steps import ReplyModel, Step
from agents.core.text import quoted

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

# Given more bytes at once, hashlib releases the GIL, and the event loop waits to get it back.
_HELD = 2047

MOST_TOKENS = 100_000_000
"""The maximum plausible token count of a call, far above any context. A larger count is a server
error, and a single one would reach a run's token cap."""

ChatRole = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "content_filter"]


class ChatMessage(NamedTuple):
    role: ChatRole
    content: str


class Shown(NamedTuple):
    """What a template used: names of fields, and (id of object, attribute) pairs."""

    names: frozenset[str]
    pairs: frozenset[tuple[int, str]]


@dataclass(frozen=True)
class Call:
    """One request for one completion.

    `role` is the role that calls (`agent`, `user`, `agent.probe`); `scope` is its case; `sampling`
    is the episode's sampling seed, from which `seed` was derived. `fields` are the inputs of the
    prompt; only the `rules` backend reads them, through `shown`: what the template really used.
    """

    step: Step[Any]
    role: str
    scope: str
    turn: int
    draw: int
    reask: int
    seed: int
    messages: tuple[ChatMessage, ...]
    fields: Mapping[str, Any]
    shown: Shown | None = None
    sampling: int = 0
    temperature: float | None = None
    """Overrides the model's own."""

    @cached_property
    def messages_json(self) -> str:
        parts = [f'{{"role":"{m.role}","content":{quoted(m.content)}}}' for m in self.messages]
        return f"[{','.join(parts)}]"

    def key(self, model: Model) -> bytes:
        """BLAKE2b-128 of the declared model (canonical JSON) and of the request as it is sent.

        For a schema, every byte counts, because guided decoding follows the order of its
        properties, and so does its name, which some servers receive; a model that is not guided
        receives neither. A greedy model draws nothing, so the same messages are the same request,
        whatever the seed.
        """
        found = self.__dict__.get("_key")
        if found is None:
            greedy = model.greedy if self.temperature is None else self.temperature == 0
            seed = "greedy" if greedy else str(self.seed)
            sent = self.step.schema_json if model.guided else ""
            schema = f"{self.step.name}\0{sent}" if sent else ""
            parts = [model.identity, schema, seed, self.messages_json]
            if self.temperature is not None:
                parts.insert(1, f"temperature {self.temperature!r}")
            text = memoryview("\0".join(parts).encode("utf-8", "surrogatepass"))
            digest = hashlib.blake2b(digest_size=16)
            for start in range(0, len(text), _HELD):
                digest.update(text[start : start + _HELD])
            found = self.__dict__["_key"] = digest.digest()
        return found


EMBED = Step("embed", "summarise", ReplyModel)  # no prompt, no reply: a name for the records


class EmbedCall(Call):
    """Texts to embed, as the journal stores them: one message per text. It uses no
    random numbers."""

    @classmethod
    def of(cls, role: str, scope: str, turn: int, draw: int, texts: Sequence[str]) -> EmbedCall:
        messages = tuple(ChatMessage("user", text) for text in texts)
        return cls(EMBED, role, scope, turn, draw, 0, 0, messages, {})

    @cached_property
    def messages_json(self) -> str:
        return _encode([message.content for message in self.messages])


class Completion(NamedTuple):
    """A model's answer. Token counts are the server's own; None if it gives none."""

    text: str
    finish_reason: FinishReason
    input_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    cached: bool = False
    retries: int = 0
    thinking: str | None = None
    """What a reasoning model wrote before its reply; its tokens are included in `output_tokens`."""
    fingerprint: str | None = None
    """Digest of what served it (versions, hardware, engine settings), explained in the manifest.
    For an external server, what the server reports."""
    waited: float = 0.0
    """Seconds until an engine was ready. They do not count as time of the call."""


REHEARSED_WIDTH = 128
"""Dimensions of the embeddings by the backend `rules`, which plays rehearsals."""


class Embedded(NamedTuple):
    """The embeddings of some texts: float32, one row per text."""

    vectors: np.ndarray
    input_tokens: int | None = None
    cached: bool = False
    retries: int = 0
    fingerprint: str | None = None
    waited: float = 0.0
    """As in `Completion`."""


class Model(Protocol):
    """A model as `Ask` sees it: a name, an identity, and what it can do.

    `name` is the model's name in the sweep file. `identity` is canonical JSON of what determines
    its answers, including the engine's version. `complete` and `embed` raise only `CrsweepError`s,
    after their own retries. Most models support only one of the two.
    """

    name: str
    identity: str
    wants_shown: bool
    """Whether calls must carry `shown`, which costs time and is needed only by `rules`."""
    greedy: bool
    """Whether it always takes the most likely token, so that seeds do not matter."""
    guided: bool
    """Whether decoding follows the reply's schema; otherwise the reply is extracted
    from free text."""

    async def complete(self, call: Call) -> Completion: ...
    async def embed(self, texts: Sequence[str]) -> Embedded: ...
