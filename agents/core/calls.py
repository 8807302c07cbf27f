"""One model request and its answer, as they cross from `Ask` to a backend and back."""

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

# For more bytes at once hashlib lets other threads run, and the event loop waits to get back in.
_HELD = 2047

MOST_TOKENS = 100_000_000
"""That one call can be given or write, far above any context. A larger count is an error of the
server's: one such count would end a run at its cap of tokens."""

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

    `role` is the role that speaks (`agent`, `user`, `agent.probe`); `scope` is the case that it
    speaks in, `sampling` the episode's sampling seed, from which `seed` was derived. `fields` are
    what the prompt was rendered from; only the `rules` backend reads them, through `shown`: what
    the template really used.
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
    """Instead of the model's own."""

    @cached_property
    def messages_json(self) -> str:
        parts = [f'{{"role":"{m.role}","content":{quoted(m.content)}}}' for m in self.messages]
        return f"[{','.join(parts)}]"

    def key(self, model: Model) -> bytes:
        """BLAKE2b-128 of the declared model (canonical JSON) and of the request as it is sent.

        Of a schema each byte counts, since guided decoding follows the order of its properties,
        and so does the name that some servers are sent with it; a model that is not guided is
        sent neither. A greedy model draws nothing: to it the same words are the same request,
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
    """Texts to embed, as the journal keeps them: a message a text. It draws no random numbers."""

    @classmethod
    def of(cls, role: str, scope: str, turn: int, draw: int, texts: Sequence[str]) -> EmbedCall:
        messages = tuple(ChatMessage("user", text) for text in texts)
        return cls(EMBED, role, scope, turn, draw, 0, 0, messages, {})

    @cached_property
    def messages_json(self) -> str:
        return _encode([message.content for message in self.messages])


class Completion(NamedTuple):
    """What a model answered. Token counts are the server's own; None where it gives none."""

    text: str
    finish_reason: FinishReason
    input_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    cached: bool = False
    retries: int = 0
    thinking: str | None = None
    """What a reasoning model wrote before its reply; its tokens are in `output_tokens` too."""
    fingerprint: str | None = None
    """Digest of what served it (versions, hardware, engine settings); the manifest explains it.
    From another's server it is the server's own word for that."""
    waited: float = 0.0
    """Seconds until an engine was ready. They do not count as time of the call."""


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

    `name` is the model's name in the sweep file. `identity` is canonical JSON of what decides
    its answers, the engine's version included. `complete` and `embed` raise `CrsweepError`s only,
    after the retries that they own. Most models do only one of the two.
    """

    name: str
    identity: str
    wants_shown: bool
    """Whether calls must carry `shown`, which costs time that only `rules` repays."""
    greedy: bool
    """Whether it always takes the likeliest token, so that seeds do not matter."""
    guided: bool
    """Whether decoding keeps to the reply's schema; else the reply is looked for in free text."""

    async def complete(self, call: Call) -> Completion: ...
    async def embed(self, texts: Sequence[str]) -> Embedded: ...
