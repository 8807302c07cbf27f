"""Engines in the driver's own process, for the executor `local`: loaded when first asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agents.core.calls import Completion
from agents.core.errors import EngineRefused, ReplicaLost
from sweeps.identity import digest
from workers.backends.core import EngineSpec
from workers.backends.vllm.clients import Losses, View
from workers.backends.vllm.engine import (
    Death,
    EmbedRequest,
    Engine,
    Request,
    Vector,
    clean_environment,
)

_MOST_DEATHS = 3  # without a reply in between

SpecFor = Callable[[bool], EngineSpec]
"""The spec of an engine, for a machine without (True) or with a GPU."""


class LocalEngines:
    """The engines of one process, with the interface of `clients.Engines`."""

    def __init__(self) -> None:
        self._clients: dict[str, LocalClient] = {}

    def of(self, key: str, label: str, max_inflight: int, spec_for: SpecFor) -> LocalClient:
        """The one engine with this key."""
        if key not in self._clients:
            self._clients[key] = LocalClient(label, max_inflight, spec_for)
        return self._clients[key]

    def update(self, view: View) -> None:
        """Nothing comes or goes here."""

    def losses(self) -> Losses:
        """Sums over all engines."""
        found = Losses()
        for client in self._clients.values():
            found.calls += client.losses.calls
        return found

    async def close(self) -> None:
        for client in self._clients.values():
            client.close()


class LocalClient:
    """One engine in this process."""

    def __init__(self, label: str, max_inflight: int, spec_for: SpecFor) -> None:
        self._label, self._spec_for = label, spec_for
        self._slots = asyncio.Semaphore(max_inflight)
        self._starting = asyncio.Lock()
        self._engine: Engine | None = None
        self._fingerprint = ""
        self._deaths = 0
        self._failed = ""
        self.losses = Losses()

    async def ask(self, route: str, request: Request | EmbedRequest) -> Completion | Vector:
        """One reply; errors as in `clients.EngineClient.ask`."""
        async with self._slots:
            engine = await self._running()
            try:
                if isinstance(request, EmbedRequest):
                    reply: Completion | Vector = await engine.embed(request)
                else:
                    done = await engine.generate(request)
                    reply = done._replace(fingerprint=self._fingerprint)
            except Death as error:
                self.losses.calls += 1
                raise ReplicaLost(f"{self._label}: {error}") from error
        self._deaths = 0
        return reply

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    async def _running(self) -> Engine:
        async with self._starting:
            if self._failed:
                raise EngineRefused(f"{self._label}: {self._failed}")
            if self._engine is None:
                self._engine = await self._start()
            return self._engine

    async def _start(self) -> Engine:
        from vllm.platforms import current_platform

        spec = self._spec_for(current_platform.is_cpu())
        clean_environment(True, None)
        try:
            async with asyncio.timeout(spec.start_timeout):
                engine = await Engine.start(spec, self._on_death)
        except TimeoutError:
            self._failed = f"it was not ready within {spec.start_timeout:g} s (start_timeout)"
        except Exception as error:  # noqa: BLE001  (vLLM raises anything, for any reason)
            self._failed = f"the model cannot be served: {type(error).__name__}: {error}"
        else:
            self._fingerprint = digest(engine.fingerprint())
            return engine
        raise EngineRefused(f"{self._label}: {self._failed}")

    def _on_death(self, cause: str) -> None:
        self._deaths += 1
        self.close()
        if self._deaths >= _MOST_DEATHS:
            self._failed = f"its engine died {_MOST_DEATHS} times without one reply: {cause}"
