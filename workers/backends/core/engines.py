"""Engines that serve a model on machines of the run: what they are asked, and what they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from agents.core.calls import Completion
from workers.backends.core.watchdog import Watchdog

if TYPE_CHECKING:
    from workers.backends.core.backend import EngineSpec


class Request(NamedTuple):
    """One generation. Pass a text that many requests share as one object, so that it is
    sent once."""

    messages_json: str
    schema_json: str
    """JSON schema for guided decoding; empty: none."""
    seed: int
    sampling_json: str
    thinking_end: str
    """The text that ends a reasoning model's thinking; empty if it does not think."""


class EmbedRequest(NamedTuple):
    """One text to embed."""

    text: str


class Vector(NamedTuple):
    """An embedding as float32 bytes."""

    data: bytes
    input_tokens: int


class EngineStopped(Exception):
    """The engine is dead or hangs; this process can no longer serve."""


class Engine(Protocol):
    """What a replica and a local run need of an engine (`EngineSpec.engine`)."""

    pulse: Watchdog

    @staticmethod
    def without_gpu() -> bool:
        """Whether this machine has no GPU that the engine could use. Slow: imports its library."""
        ...

    @staticmethod
    def prepare_process(offline: bool, *, cpu: bool, cores: int | None = None) -> None:
        """Prepares the environment of this process, before the engine's library is imported.

        `offline`: nothing may be downloaded. `cores` of this machine are for an engine on the
        CPU; None leaves the choice to the engine.
        """
        ...

    @classmethod
    async def start(cls, spec: EngineSpec, on_death: Callable[[str], None]) -> Engine:
        """Loads the model and tries it. `on_death` is called once, with the cause."""
        ...

    async def generate(self, request: Request) -> Completion:
        """One completion. Raises engine errors of `agents.core.errors`, and EngineStopped."""
        ...

    async def embed(self, request: EmbedRequest) -> Vector:
        """One embedding. Raises as `generate` does."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What serves the requests, as far as it can change the last bits of results."""
        ...

    def close(self) -> None:
        """Ends the engine."""
        ...
