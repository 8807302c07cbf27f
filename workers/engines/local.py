"""Engines in the driver's own process, for the executor `local`: loaded on the first call."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from agents.core.calls import Completion
from agents.core.errors import EngineRefused, ReplicaLost
from sweeps.identity import digest
from workers.backends.core.backend import EngineSpec
from workers.backends.core.engines import EmbedRequest, Engine, EngineStopped, Request, Vector
from workers.core.concurrency import Gate, Load
from workers.engines.clients import EngineViews, Losses
from workers.engines.output import cause_of, log_vllm_to, redirect

_MOST_DEATHS = 3  # without a reply in between

T = TypeVar("T")
SpecFor = Callable[[bool], EngineSpec]
"""The spec of an engine, for a machine without (True) or with a GPU."""


class LocalEngines:
    """The engines of one process, with the interface of `clients.Engines`."""

    def __init__(self, log_folder: Path | None = None) -> None:
        self._clients: dict[str, LocalClient] = {}
        self._log_folder = log_folder
        self._redirected: Path | None = None

    def of(self, key: str, label: str, max_inflight: int, spec_for: SpecFor) -> LocalClient:
        """The one engine with this key."""
        if key not in self._clients:
            self._clients[key] = LocalClient(label, max_inflight, spec_for, self._output)
        return self._clients[key]

    def _output(self) -> Path:
        """The file that engines print to. The redirection is permanent: their processes live as
        long as this one."""
        if self._redirected is None:
            folder = self._log_folder
            # nothing is stored while a dialogue is watched
            if folder is None or not folder.is_dir():
                folder = Path(tempfile.gettempdir())
            self._redirected = folder / f"local-{os.getpid()}-engine.log"
            redirect(self._redirected, keep_screen=True)
            log_vllm_to(self._redirected)
        return self._redirected

    def update(self, view: EngineViews) -> None:
        """Does nothing: engines do not come and go here."""

    def losses(self) -> Losses:
        """Totals over all engines."""
        found = Losses()
        for client in self._clients.values():
            found.calls += client.losses.calls
            found.seconds += client.losses.seconds
        return found

    def loads(self) -> dict[str, Load]:
        """The load of each serving engine, by key."""
        found = {key: client.load for key, client in self._clients.items()}
        return {key: load for key, load in found.items() if load is not None}

    def wanted(self) -> frozenset[str]:
        """Always empty: the first call starts the engine."""
        return frozenset()

    async def close(self) -> None:
        for client in self._clients.values():
            client.close()


class _Running(NamedTuple):
    """A serving engine. `gone` ends with the cause of its death."""

    engine: Engine
    gone: asyncio.Future[str]
    fingerprint: str


class LocalClient:
    """One engine in this process."""

    def __init__(
        self, label: str, max_inflight: int, spec_for: SpecFor, output: Callable[[], Path]
    ) -> None:
        self._label, self._spec_for, self._output = label, spec_for, output
        self._gate = Gate(max_inflight)
        self._start: asyncio.Task[_Running] | None = None
        self.up_since = 0.0
        """When the engine came up, by `time.monotonic`."""
        self._deaths = 0
        self._failed = ""
        self.losses = Losses()

    async def ask(self, route: str, request: Request | EmbedRequest) -> Completion | Vector:
        """Returns one reply; errors as in `clients.EngineClient.ask`."""
        async with self._gate:
            engine, gone, fingerprint = await self._running()
            started = time.monotonic()
            try:
                if isinstance(request, EmbedRequest):
                    reply: Completion | Vector = await _unless(gone, engine.embed(request))
                else:
                    done = await _unless(gone, engine.generate(request))
                    reply = done._replace(fingerprint=fingerprint)
            except EngineStopped as error:
                self.losses.calls += 1
                self.losses.seconds += time.monotonic() - started
                raise ReplicaLost(f"{self._label}: {error}") from error
        self._deaths = 0
        return reply

    @property
    def load(self) -> Load | None:
        """The engine's load, including calls that wait here; None while it does not serve."""
        start = self._start
        if start is None or not start.done() or start.cancelled() or start.exception() is not None:
            return None
        load = start.result().engine.pulse.take_load()
        return load._replace(waiting=load.waiting + self._gate.waiting)

    async def fingerprints(self) -> frozenset[str]:
        """The engine's fingerprint; starts the engine if necessary."""
        return frozenset({(await self._running()).fingerprint})

    def close(self) -> None:
        """Ends the engine. A later call starts a new one."""
        start, self._start = self._start, None
        if start is None:
            return
        if not start.done():
            start.cancel()
        elif not start.cancelled() and start.exception() is None:
            start.result().engine.close()

    async def _running(self) -> _Running:
        if self._failed:
            raise EngineRefused(f"{self._label}: {self._failed}")
        if self._start is None:
            self._start = asyncio.create_task(self._started())
        # Shielded: a dialogue that ends must not stop the engine that all others wait for.
        return await asyncio.shield(self._start)

    async def _started(self) -> _Running:
        output = self._output()
        cpu = self._spec_for(True).engine.without_gpu()
        spec = self._spec_for(cpu)
        spec.engine.prepare_process(Path(spec.arguments["model"]).is_dir(), cpu=cpu)
        gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def on_death(cause: str) -> None:
            gone.set_result(cause)
            self._deaths += 1
            if self._deaths >= _MOST_DEATHS:
                self._failed = f"its engine died {_MOST_DEATHS} times without one reply: {cause}"
            if asyncio.current_task() is not self._start:
                self.close()

        try:
            async with asyncio.timeout(spec.start_timeout):
                engine = await spec.engine.start(spec, on_death)
        except TimeoutError:
            self._failed = f"it was not ready within {spec.start_timeout:g} s (start_timeout)"
        except Exception as error:  # noqa: BLE001  (libraries raise anything, for any reason)
            self._failed = f"the model cannot be served: {cause_of(error, output)}"
        else:
            self.up_since = time.monotonic()
            return _Running(engine, gone, digest(engine.fingerprint()))
        raise EngineRefused(f"{self._label}: {self._failed}")


async def _unless(gone: asyncio.Future[str], answer: Coroutine[Any, Any, T]) -> T:
    """The result of `answer`, or EngineStopped once the engine has `gone`: vLLM may never
    answer the call."""
    work = asyncio.create_task(answer)
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise EngineStopped(gone.result())
    finally:
        work.cancel()
