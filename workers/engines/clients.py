"""How a process that plays dialogues reaches the engines.

- `Engines` knows every engine of the run; the driver informs it when replicas come up or go away.
- `EngineClient` sends the calls of one engine: routing, back-pressure, quarantine.
- `_Link` sends calls to one replica, in micro-batches; the replica pushes each reply when it is
  done.

A call never waits in the replica: each process has its share of `max_inflight`, and further calls
wait here, first come, first served. A slot in a replica is free again once the replica has
answered, even if the dialogue that asked has ended in the meantime. So a process that reads slowly
has at most its share of replies waiting in the replica.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agents.core.calls import Completion
from agents.core.errors import CallQuarantined, CrsweepError, EngineRefused, ReplicaLost
from workers.backends.core.engines import EmbedRequest, Request, Vector
from workers.core.concurrency import Load
from workers.engines.routing import Ring, choose
from workers.engines.transport import (
    Answered,
    ClientRequest,
    ReplicaAnswer,
    ReplicaMessage,
    RequestStarted,
)
from workers.processes.channel import Connection, Receiver

_AGAIN_SECONDS = 10.0  # then a replica that the driver still calls ready is believed to be
_INNOCENT_DEATHS = 2  # of engines that a call was in, before it is suspected

DialReplica = Callable[[Any, Receiver], Awaitable[Connection]]
"""Connects to the replica at an address; the receiver gets its messages. See `channel.connect`."""


@dataclass(frozen=True)
class ReplicaRef:
    """A replica that is ready. After a restart it is another incarnation, at another address."""

    index: int
    incarnation: str
    address: Any
    fingerprint: str = ""


@dataclass(frozen=True)
class EngineView:
    """What the driver reports about an engine: its ready replicas, or why it will have none."""

    replicas: tuple[ReplicaRef, ...] = ()
    failed: str = ""


EngineViews = Mapping[str, EngineView]
"""By engine key."""


@dataclass
class Losses:
    """What lost replicas cost one process."""

    calls: int = 0
    """Calls that were in a replica when it was lost, and were retried."""
    seconds: float = 0.0
    """The total time they had spent there."""
    quarantined: int = 0


class Engines:
    """All engines of a run, as seen by one of the `processes` that call them."""

    def __init__(self, processes: int, dial: DialReplica) -> None:
        self._processes, self._dial = processes, dial
        self._clients: dict[str, EngineClient] = {}
        self._most: dict[str, int] = {}
        self._view: EngineViews = {}

    def of(self, key: str, label: str, max_inflight: int, spec_for: object) -> EngineClient:
        """The client of one engine, which need not be up yet. The driver has its spec."""
        # The most of the models that share it, as its spec has it.
        self._most[key] = max(self._most.get(key, 1), max_inflight)
        if key not in self._clients:
            client = EngineClient(label, self._room(key), self._dial)
            client.update(self._view.get(key, EngineView()))
            self._clients[key] = client
        self._clients[key].room = self._room(key)
        return self._clients[key]

    def share(self, processes: int) -> None:
        """Sets the number of `processes` that call the engines."""
        self._processes = processes
        for key, client in self._clients.items():
            client.room = self._room(key)
            client.dispatch()

    def _room(self, key: str) -> int:
        return max(1, -(-self._most[key] // self._processes))

    def update(self, view: EngineViews) -> None:
        """Takes the driver's current view."""
        self._view = view
        for key, client in self._clients.items():
            client.update(view.get(key, EngineView()))

    def losses(self) -> Losses:
        """Totals over all engines."""
        found = Losses()
        for client in self._clients.values():
            found.calls += client.losses.calls
            found.seconds += client.losses.seconds
            found.quarantined += client.losses.quarantined
        return found

    def loads(self) -> dict[str, Load]:
        """By key of each serving engine: the calls of this process that wait for a slot."""
        return {
            key: Load(waiting=client.waiting)
            for key, client in self._clients.items()
            if not client.wanted
        }

    def wanted(self) -> frozenset[str]:
        """Keys of engines that calls wait for and that are not up."""
        return frozenset(key for key, client in self._clients.items() if client.wanted)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


class EngineClient:
    """Sends calls to the replicas of one engine, at most `room` at once to each of them."""

    def __init__(self, label: str, room: int, dial: DialReplica) -> None:
        self.room = room
        self.losses = Losses()
        self.label = label
        self._dial = dial
        self._links: dict[int, _Link] = {}
        self._ring = Ring(())
        self.up_since = 0.0
        """When replicas came up again, by `time.monotonic`."""
        self._failed = ""
        self._waiting: deque[_Call] = deque()
        self._deaths: defaultdict[bytes, set[str]] = defaultdict(set)
        """The incarnations that died with a call in them. Equal calls are treated as one."""
        self._quarantined: dict[bytes, str] = {}
        self._solo = asyncio.Semaphore(1)
        self._news = asyncio.Event()
        self._awaited = 0

    def update(self, view: EngineView) -> None:
        """Takes the ready replicas. A lost one that has come back gets a new link."""
        self._failed = view.failed
        there = {ref.index: ref for ref in view.replicas}
        for index, link in list(self._links.items()):
            ref = there.get(index)
            if ref is None or ref.incarnation != link.ref.incarnation:
                del self._links[index]
                link.lost("the driver has taken it out of service")
        for index, ref in there.items():
            if index not in self._links:
                self._links[index] = _Link(ref, self._dial, self)
        self._news.set()
        self._renew()

    async def ask(self, route: str, request: Request | EmbedRequest) -> Completion | Vector:
        """Returns one reply. Calls with the same `route` go to the same replica and share its KV
        cache.

        Raises ReplicaLost if the replica dies with the call in it, EngineRefused if the engine has
        failed for good, and the errors of the call itself.
        """
        name = _digest(request) if self._deaths else b""
        if len(self._deaths.get(name, ())) < _INNOCENT_DEATHS:
            reply = await self._ask(route, request, solo=False)
        else:
            async with self._solo:
                if name in self._quarantined:
                    raise CallQuarantined(self._quarantined[name])
                reply = await self._ask(route, request, solo=True)
        if name:
            self._deaths.pop(name, None)  # it was not the cause
        return reply

    async def fingerprints(self) -> frozenset[str]:
        """The fingerprints of all replicas, once one is up. Raises EngineRefused if
        none will be."""
        while not self._links:
            if self._failed:
                raise EngineRefused(f"{self.label}: {self._failed}")
            self._awaited += 1
            try:
                self._news.clear()
                await self._news.wait()
            finally:
                self._awaited -= 1
        return frozenset(link.ref.fingerprint for link in self._links.values())

    @property
    def wanted(self) -> bool:
        """Whether calls wait for the engine and no replica is ready."""
        return not self._links and bool(self._waiting or self._awaited)

    @property
    def waiting(self) -> int:
        """The number of calls in this process that wait for a slot."""
        return len(self._waiting)

    async def close(self) -> None:
        """Disconnects from all replicas. No further calls are possible."""
        self.update(EngineView(failed="this process ends"))
        await asyncio.sleep(0)  # tasks that were cancelled end

    async def _ask(
        self, route: str, request: Request | EmbedRequest, solo: bool
    ) -> Completion | Vector:
        call = _Call(route, request, solo, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self.dispatch()
        try:
            return await call.reply
        except ReplicaLost as error:
            self._note_death(call, error)
            raise

    def _note_death(self, call: _Call, error: ReplicaLost) -> None:
        if call.state == "waiting":
            return  # it was never sent
        self.losses.calls += 1
        self.losses.seconds += time.monotonic() - call.since
        if call.state == "begun":
            self.losses.quarantined += 1
            reason = (
                f"{self.label}: three engines have died with this call in them, the last while "
                f"it ran alone: {error.message}"
            )
            self._quarantined[_digest(call.request)] = reason
            raise CallQuarantined(reason) from error
        if not call.solo:
            self._deaths[_digest(call.request)].add(call.incarnation)

    def note_lost(self, link: _Link) -> None:
        """Routes further calls to replicas other than the one whose link is lost."""
        self._renew()
        if self._links.get(link.ref.index) is link:
            # The driver reports whether it died; without a report, only the connection broke.
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._try_again, link)

    def _try_again(self, link: _Link) -> None:
        if self._links.get(link.ref.index) is link:
            self._links[link.ref.index] = _Link(link.ref, self._dial, self)
            self._renew()

    def _renew(self) -> None:
        """Rebuilds the ring of live replicas."""
        was_up = self._ring.size > 0
        self._ring = Ring(index for index, link in self._links.items() if not link.is_lost)
        if self._ring.size and not was_up:
            self.up_since = time.monotonic()
        self.dispatch()

    def dispatch(self) -> None:
        """Sends waiting calls in order, as far as there is room."""
        while self._waiting and (self._ring.size or self._failed):
            call = self._waiting[0]
            if call.reply.done():
                pass  # its dialogue has ended
            elif self._failed:
                call.reply.set_exception(EngineRefused(f"{self.label}: {self._failed}"))
            else:
                index = choose(
                    self._ring.order(call.route), lambda i: len(self._links[i].calls), self.room
                )
                if index is None:
                    return
                self._links[index].send(call)
            self._waiting.popleft()


RequestState = Literal["waiting", "sent", "begun"]
"""The state of a call: still in this process, sent to the replica, or alone in the engine."""


@dataclass(eq=False)
class _Call:
    """A call that waits here or is in a replica. `reply` ends with its reply or an error."""

    route: str
    request: Request | EmbedRequest
    solo: bool
    reply: asyncio.Future[Any]
    state: RequestState = "waiting"
    incarnation: str = ""
    since: float = 0.0


class _Link:
    """The connection to one replica, until it is lost. `calls` are unanswered."""

    def __init__(self, ref: ReplicaRef, dial: DialReplica, owner: EngineClient) -> None:
        self.ref = ref
        self.is_lost = False
        self.calls: dict[int, _Call] = {}
        self._owner = owner
        self._numbers = 0
        self._batch: list[int] = []
        self._connection: Connection | None = None
        self._connecting = asyncio.create_task(self._connect(dial))

    def send(self, call: _Call) -> None:
        """Sends a call together with all others of this iteration of the loop."""
        call.incarnation, call.since = self.ref.incarnation, time.monotonic()
        self._numbers += 1
        self.calls[self._numbers] = call
        if not self._batch and self._connection is not None:
            asyncio.get_running_loop().call_soon(self._flush)
        self._batch.append(self._numbers)

    async def _connect(self, dial: DialReplica) -> None:
        try:
            self._connection = await dial(self.ref.address, self)
        except Exception as error:  # noqa: BLE001  (whatever it is, no call may wait forever)
            self.lost(f"it cannot be reached: {error}")
        self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        if self.is_lost:
            return
        assert self._connection is not None
        # Draws of one step share their prompt, so it is pickled only once.
        shared: dict[str, str] = {}
        for number in batch:
            call = self.calls[number]
            if call.reply.done():  # its dialogue has ended already
                del self.calls[number]
                continue
            call.state = "sent"
            request = _sharing(call.request, shared)
            self._connection.send(ClientRequest(number, request, call.solo))
        self._owner.dispatch()

    # Called by the connection.

    def receive(self, messages: Sequence[ReplicaMessage]) -> None:
        """Takes a message that the replica has pushed."""
        end = ""
        for message in messages:
            if isinstance(message, Answered):
                self._settle(message.number, message.answer)
            elif isinstance(message, RequestStarted):
                self.calls[message.number].state = "begun"
            else:
                end = message.cause
        if end:
            self.lost(end)
        else:
            self._owner.dispatch()

    def lost(self, cause: str) -> None:
        """Ends every call of this link with ReplicaLost."""
        if self.is_lost:
            return
        self.is_lost = True
        calls, self.calls = self.calls, {}
        for call in calls.values():
            if not call.reply.done():
                call.reply.set_exception(
                    ReplicaLost(f"a replica of {self._owner.label} was lost: {cause}")
                )
        self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()
        self._owner.note_lost(self)

    def _settle(self, number: int, answer: ReplicaAnswer) -> None:
        call = self.calls.pop(number)
        if call.reply.done():
            return  # its dialogue has ended meanwhile
        if isinstance(answer, CrsweepError):
            call.reply.set_exception(answer)
        else:
            call.reply.set_result(answer)


def _sharing(request: Request | EmbedRequest, shared: dict[str, str]) -> Request | EmbedRequest:
    if isinstance(request, EmbedRequest):
        return request
    messages = shared.setdefault(request.messages_json, request.messages_json)
    return request._replace(messages_json=messages)


def _digest(request: Request | EmbedRequest) -> bytes:
    text = repr(tuple(request)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
