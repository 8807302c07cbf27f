"""Random valid replies after a fixed time, for tests and benchmarks of everything around a model.

- The same request gets the same reply from any process and executor.
- It logs each request before it answers, as the ground truth for every count.
- With the executor `ray`, one actor serves all workers, as an engine would; otherwise each process
  serves itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from agents.core.calls import Call, Completion
from agents.core.errors import EngineDead, EngineOverloaded
from agents.core.plugins import Options, operational
from workers.backends.core.backend import Backend, BackendContext, Workload
from workers.backends.core.model_free import estimated_tokens, unit_hash
from workers.backends.core.replies import random_reply
from workers.processes.channel import Address, Channel, Server, connect, own_host

__all__ = ["LatencyBackend"]

_IDLE_SECONDS = 300.0  # a sweep whose other models think for minutes must find the actor there
_NAMESPACE = "crsweep"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _Options(Options):
    latency_ms: float = operational(50.0, ge=0)
    log: bool = operational(True)
    """Whether requests are logged to `logs/latency-<model>-<pid>.jsonl`, or only counted."""
    error_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of requests refused as if by an overloaded server; a retry may succeed."""
    invalid_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of replies that are invalid JSON (or empty text), decided by the call's seed."""


class LatencyRequest(NamedTuple):
    """What an engine would receive, and what the log records about it."""

    schema_json: str
    """Of the reply: of an object, or of the one string of a text step."""
    messages_json: str
    seed: int
    characters: int
    role: str
    step: str
    scope: str
    turn: int
    draw: int
    reask: int

    def digest(self) -> bytes:
        text = f"{self.schema_json}\0{self.seed}\0{self.messages_json}"
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


LatencyReply = Completion | EngineOverloaded


class LatencyServer:
    """Answers the requests of one model. Used in the calling process, or as an actor.

    The first worker that closes must not end the actor, and the actor must outlive the worker that
    created it. So it is detached, ends with a local Ray, and on a cluster ends itself after `idle`
    seconds without work.
    """

    def __init__(self, options: _Options, log: str | None, idle: float | None = None) -> None:
        self._options = options
        self._schema = lru_cache(maxsize=None)(json.loads)
        self._times: Counter[bytes] = Counter()
        self._answered = 0
        self._busy = 0
        self._last = time.monotonic()
        self._idle = idle
        self._watch: asyncio.Task[None] | None = None
        self._listening: asyncio.Future[Server] | None = None
        self._log = None
        if log is not None:
            path = Path(f"{log}-{os.getpid()}.jsonl")
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered, so that answers are on file even if this process is killed.
            self._log = path.open("ab", buffering=0)

    async def address(self) -> Address:
        """Where it listens for requests."""
        if self._listening is None:
            started = Server.start(own_host(), lambda each: _WorkerConnection(each, self))
            self._listening = asyncio.ensure_future(started)
        return (await self._listening).address

    async def answer(self, requests: Sequence[LatencyRequest]) -> list[LatencyReply]:
        """Replies in the order of `requests`, which arrived together and so are due together."""
        if self._idle is not None and self._watch is None:
            self._watch = asyncio.create_task(self._end_when_idle(self._idle))
        self._busy += 1
        try:
            return await self._answer(requests)
        finally:
            self._busy -= 1
            self._last = time.monotonic()

    async def _answer(self, requests: Sequence[LatencyRequest]) -> list[LatencyReply]:
        arrived, due = time.time(), time.monotonic() + self._options.latency_ms / 1000
        digests = [request.digest() for request in requests]
        replies = [self._reply(*pair) for pair in zip(requests, digests, strict=True)]
        # All work is done before they are due; of the log only the time is still to come.
        lines: list[str] = []
        if self._log is not None:
            lines = [_line(*each, arrived) for each in zip(requests, digests, replies, strict=True)]
        await asyncio.sleep(due - time.monotonic())
        if self._log is not None:
            end = f',"answered":{time.time()}}}\n'
            self._log.write((end.join(lines) + end).encode("utf-8", "surrogatepass"))
        self._answered += len(requests)
        return replies

    def answered(self) -> int:
        """The number of requests answered so far, including refusals."""
        return self._answered

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def _reply(self, request: LatencyRequest, digest: bytes) -> LatencyReply:
        if self._options.error_rate:
            times = self._times[digest]
            self._times[digest] += 1
            if unit_hash(digest + times.to_bytes(8, "big")) < self._options.error_rate:
                return EngineOverloaded(
                    "the latency backend refuses this request, as configured by error_rate"
                )
        rng = random.Random(request.seed)
        invalid = rng.random() < self._options.invalid_rate
        schema = self._schema(request.schema_json)
        text = random_reply(schema, rng)
        if invalid:
            # An object that is never closed; for plain text there is no invalid part, so it is
            # empty.
            text = text[:-1] if schema["type"] == "object" else ""
        return Completion(
            text, "stop", estimated_tokens(request.characters), estimated_tokens(len(text))
        )

    async def _end_when_idle(self, seconds: float) -> None:
        # Nothing happens while it is idle, so there is no event to wait for.
        while self._busy or time.monotonic() - self._last < seconds:  # noqa: ASYNC110
            await asyncio.sleep(seconds / 4)
        os._exit(0)


class LatencyBackend(Backend):
    """Sends calls to a `LatencyServer`: its own, or the actor that all workers share."""

    Options = _Options
    version = 2
    watermark = True

    def __init__(self, options: _Options, context: BackendContext) -> None:
        log = None
        if options.log and context.log_folder is not None:
            name = re.sub(r"[^\w.-]", "_", context.name)
            log = str(context.log_folder / f"latency-{name}")
        self._latency_ms = options.latency_ms
        if context.executor == "ray":
            name = _actor_name(options, context, log)
            self._server = _SharedServer(name, options, log)
        else:
            self._server = _OwnServer(options, log)

    async def complete(self, call: Call) -> Completion:
        reply = await self._server.answer(
            LatencyRequest(
                call.step.schema_json or _encode(call.step.schema),
                call.messages_json,
                call.seed,
                sum(len(message.content) for message in call.messages),
                call.role,
                call.step.name,
                call.scope,
                call.turn,
                call.draw,
                call.reask,
            )
        )
        if isinstance(reply, EngineOverloaded):
            raise reply
        return reply

    async def answered(self) -> int:
        """How many requests the server has answered so far, refusals too."""
        return await self._server.answered()

    async def check(self, work: Workload) -> str:
        return f"answers after {self._latency_ms:g} ms"

    async def close(self) -> None:
        self._server.close()


class _OwnServer:
    """A server in this process."""

    def __init__(self, options: _Options, log: str | None) -> None:
        self._server = LatencyServer(options, log)

    async def answer(self, request: LatencyRequest) -> LatencyReply:
        return (await self._server.answer([request]))[0]

    async def answered(self) -> int:
        return self._server.answered()

    def close(self) -> None:
        self._server.close()


class _WorkerConnection:
    """One worker, as the actor sees it. Messages are (number, request), and (number, reply)."""

    def __init__(self, channel: Channel, server: LatencyServer) -> None:
        self._channel, self._server = channel, server
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, messages: Sequence[tuple[int, LatencyRequest]]) -> None:
        task = asyncio.create_task(self._answer(messages))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def lost(self, cause: str) -> None:
        """Its requests are answered and counted anyway, as by a real engine."""

    async def _answer(self, messages: Sequence[tuple[int, LatencyRequest]]) -> None:
        replies = await self._server.answer([request for _, request in messages])
        for (number, _), reply in zip(messages, replies, strict=True):
            self._channel.send((number, reply))


class _SharedServer:
    """The actor that all workers share."""

    def __init__(self, name: str, options: _Options, log: str | None) -> None:
        self._name, self._options, self._log = name, options, log
        self._way: asyncio.Task[_ActorConnection] | None = None

    async def answer(self, request: LatencyRequest) -> LatencyReply:
        if self._way is None:
            self._way = asyncio.create_task(self._open())
        way = self._way
        if not way.done():
            # Shielded: cancelling one caller must not close the connection of the others.
            await asyncio.wait((way,))
        if way.cancelled() or way.exception() is not None or way.result().cause:
            if self._way is way:
                self._way = None  # the next try finds or starts another
            cause = way.result().cause if way.exception() is None else way.exception()
            raise EngineDead(f"the actor of the latency backend is gone: {cause}")
        return await way.result().ask(request)

    async def answered(self) -> int:
        return await self._find_or_start().answered.remote()

    def close(self) -> None:
        """Keeps the actor for the other workers; see `LatencyServer` for its end."""
        if self._way is not None and self._way.done() and self._way.exception() is None:
            self._way.result().close()
        self._way = None

    async def _open(self) -> _ActorConnection:
        from ray.exceptions import RayActorError

        way = _ActorConnection()
        try:
            address = await self._find_or_start().address.remote()
            way.channel = await connect(address, way)
        except RayActorError as error:
            raise OSError(str(error).splitlines()[0]) from error
        return way

    def _find_or_start(self) -> Any:
        """The actor with this name; if several workers start it at once, one succeeds for all."""
        import ray

        actor: Any = ray.remote(LatencyServer)
        return actor.options(
            name=self._name,
            namespace=_NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=0,
        ).remote(self._options, self._log, _IDLE_SECONDS)


class _ActorConnection:
    """A channel to the actor, and the replies awaited on it."""

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.cause = ""
        self._asked: dict[int, asyncio.Future[LatencyReply]] = {}
        self._numbers = 0

    async def ask(self, request: LatencyRequest) -> LatencyReply:
        assert self.channel is not None
        self._numbers += 1
        reply = self._asked[self._numbers] = asyncio.get_running_loop().create_future()
        self.channel.send((self._numbers, request))
        return await reply

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()

    def receive(self, messages: Sequence[tuple[int, LatencyReply]]) -> None:
        for number, reply in messages:
            asked = self._asked.pop(number)
            if not asked.done():
                asked.set_result(reply)

    def lost(self, cause: str) -> None:
        self.cause = cause
        asked, self._asked = self._asked, {}
        for reply in asked.values():
            if not reply.done():
                reply.set_exception(
                    EngineDead(f"the actor of the latency backend is gone: {cause}")
                )


def _actor_name(options: _Options, context: BackendContext, log: str | None) -> str:
    """One actor per run and declared model.

    The axes of a grid may vary the options of a name. The log's path distinguishes sweeps with the
    same name on one cluster.
    """
    parts = (context.run_id, options.model_dump_json(), log or "")
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
    return f"latency-{context.name}-{digest}"


def _line(request: LatencyRequest, digest: bytes, reply: LatencyReply, arrived: float) -> str:
    """A line of the log, still open: when it was answered comes last."""
    refused = "true" if isinstance(reply, EngineOverloaded) else "false"
    return (
        f'{{"request":"{digest.hex()}","role":{_encode(request.role)},"step":{_encode(request.step)},'
        f'"scope":{_encode(request.scope)},"turn":{request.turn},"draw":{request.draw},'
        f'"reask":{request.reask},"seed":{request.seed},"refused":{refused},"arrived":{arrived}'
    )
