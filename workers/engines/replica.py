"""The actor that hosts one engine, and its communication with clients and the driver.

- Workers connect to it and are pushed their replies (`transport`); the driver calls it through Ray.
- If the engine dies or hangs, this process exits (`os._exit`): an actor that outlived its engine
  would swallow every retry. Ray restarts it.
- A model that cannot be loaded does not count as a death: the actor stays up and reports why.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from agents.core.errors import CrsweepError, EngineRefused, ReplicaLost
from sweeps.identity import digest
from workers.backends.core.backend import EngineSpec
from workers.backends.core.engines import EmbedRequest, Engine, EngineStopped, Request
from workers.backends.core.watchdog import Counts
from workers.core.concurrency import Load
from workers.core.environment import Environment
from workers.engines.output import cause_of, redirect
from workers.engines.transport import Clients, ReplicaAnswer
from workers.processes.channel import Address, Server, own_host
from workers.processes.logs import log_to
from workers.processes.parent_watch import end_now, end_with_parent

log = logging.getLogger(__name__)

_MEMORY_SECONDS = 90.0  # that the end of another engine may take to give its memory back
_MEMORY_AGAIN_SECONDS = 5.0
_MEMORY_TAKEN = re.compile(r"(Free|Available) memory on .* is less than desired", re.I)
_LAST_WORDS_SECONDS = 0.1  # long enough to send them

ReplicaPhase = Literal["loading", "ready", "dying", "failed"]


class ReplicaStatus(NamedTuple):
    """The state that a replica reports. `cause` says why it failed or is dying."""

    incarnation: str
    state: ReplicaPhase
    cause: str
    fingerprint: str
    details: dict[str, Any]
    pid: int
    replied: int
    address: Address | None = None
    """Where workers reach it."""
    load: Load = Load()
    """The engine's load since the last request for it."""


class ModelReplica:
    """The actor."""

    def __init__(
        self, spec: EngineSpec, name: str, log_folder: Path, cpu_share: int | None
    ) -> None:
        end_with_parent()
        spec.engine.prepare_process(
            Path(spec.arguments["model"]).is_dir(), cpu=cpu_share is not None, cores=cpu_share
        )
        log_to(log_folder, f"{name}-replica")
        self._output = log_folder / f"{name}-engine.log"
        redirect(self._output)
        self._spec = spec
        self._incarnation = f"{os.getpid()}-{time.time():.3f}"
        self._state: ReplicaPhase = "loading"
        self._cause = ""
        self._details: dict[str, Any] = {}
        self._fingerprint = ""
        self._engine: Engine | None = None
        self._server: Server | None = None
        self._starting: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._clients = Clients(self._answer)
        self._replied = 0

    async def hello(
        self, known: ReplicaPhase | None, wait: float, environment: Environment | None = None
    ) -> ReplicaStatus:
        """Returns its state once it differs from `known`, or after at most `wait` seconds.

        Starts the engine with `environment`: tokens, for weights that need them.
        """
        if self._starting is None:
            if environment is not None:
                environment.take()
            self._starting = asyncio.create_task(self._start())
        if self._state == known:
            self._changed.clear()
            with suppress(TimeoutError):  # nothing changed, which is also an answer
                await asyncio.wait_for(self._changed.wait(), wait)
        return ReplicaStatus(
            self._incarnation,
            self._state,
            self._cause,
            self._fingerprint,
            self._details,
            os.getpid(),
            self._replied,
            self._server.address if self._server else None,
            self._engine.pulse.take_load() if self._engine else Load(),
        )

    async def counts(self) -> Counts:
        """What its engine has done so far."""
        return self._engine.pulse.counts if self._engine else Counts()

    async def stop(self) -> None:
        """Ends the engine, then this process."""
        if self._engine is not None:
            self._engine.close()
        end_now()

    async def _start(self) -> None:
        try:
            async with asyncio.timeout(self._spec.start_timeout):
                self._engine = await self._load()
            self._details = self._engine.fingerprint()
            self._fingerprint = digest(self._details)
            self._server = await Server.start(own_host(), self._clients.accept)
            self._state = "ready"
        except EngineStopped as error:
            self._die(cause_of(error, self._output))
        except TimeoutError:
            self._fail(f"it was not ready within {self._spec.start_timeout:g} s (start_timeout)")
        except Exception as error:  # whatever its library raises, for whichever reason
            log.exception("%s does not start", self._spec.label)
            self._fail(cause_of(error, self._output))
        self._changed.set()

    async def _load(self) -> Engine:
        """The engine. Waits for memory that the previous one still holds."""
        end = time.monotonic() + _MEMORY_SECONDS
        while True:
            try:
                return await self._spec.engine.start(self._spec, self._on_death)
            except Exception as error:
                cause = cause_of(error, self._output)
                if not _MEMORY_TAKEN.search(cause) or time.monotonic() > end:
                    raise
                log.warning("%s waits for memory: %s", self._spec.label, cause)
            await asyncio.sleep(_MEMORY_AGAIN_SECONDS)

    def _fail(self, cause: str) -> None:
        self._state, self._cause = "failed", cause

    async def _answer(self, request: Request | EmbedRequest) -> ReplicaAnswer:
        """The reply to a client's request, or its error."""
        assert self._engine is not None
        try:
            if isinstance(request, EmbedRequest):
                reply: ReplicaAnswer = await self._engine.embed(request)
            else:
                done = await self._engine.generate(request)
                reply = done._replace(fingerprint=self._fingerprint)
        except CrsweepError as error:
            reply = error
        except EngineStopped as error:
            self._die(str(error))
            return ReplicaLost(str(error))
        except Exception as error:  # a bug in crsweep or vLLM: the call fails, not the engine
            log.exception("request failed")
            reply = EngineRefused(f"{self._spec.label}: {type(error).__name__}: {error}")
        self._replied += 1
        return reply

    def _on_death(self, cause: str) -> None:
        """Reports the death. One during startup needs no report, because the start fails with the
        cause."""
        if self._state == "ready":
            self._die(cause)

    def _die(self, cause: str) -> None:
        if self._state == "dying":
            return
        self._state, self._cause = "dying", cause
        self._changed.set()
        log.error("%s ends: %s", self._spec.label, cause)
        self._clients.end(cause)
        asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, end_now)
