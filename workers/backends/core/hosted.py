"""What backends share whose engines are started by the run: they call replicas, and read weights
from a folder or from the Hugging Face Hub."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.core.calls import Embedded
from agents.core.text import repaired
from workers.backends.core.backend import Backend, BackendContext, EngineSpec
from workers.backends.core.engines import EmbedRequest
from workers.core.environment import Variables

_HUB_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_HUB_PLACES = ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE")


class HostedBackend(Backend):
    """Sends calls to the replicas of one engine. Its options have a `model` and an `engine_key`."""

    def __init__(self, options: Any, context: BackendContext, max_inflight: int) -> None:
        self._options, self._label = options, context.name
        self._client = context.engines.of(
            options.engine_key(),
            context.name,
            max_inflight,
            lambda cpu: self.engine(options, context.name, cpu),
        )

    @classmethod
    @abstractmethod
    def engine(cls, options: Any, label: str, cpu: bool) -> EngineSpec: ...

    @classmethod
    def environment(cls, options: Any) -> Variables:
        if Path(options.model).is_dir():
            return Variables()
        return Variables(_HUB_SECRETS, _HUB_PLACES, network=True)

    @property
    def up_since(self) -> float:
        return self._client.up_since

    async def fingerprints(self) -> frozenset[str]:
        return await self._client.fingerprints()

    async def embed(self, texts: Sequence[str]) -> Embedded:
        words = [repaired(text) for text in texts]
        # Embedded texts have no growing prefix, so each goes to any replica with room.
        found = await asyncio.gather(
            *(self._client.ask(text, EmbedRequest(text)) for text in words)
        )
        vectors = np.stack([np.frombuffer(each.data, np.float32) for each in found])
        return Embedded(vectors, sum(each.input_tokens for each in found))
