"""How a process that runs dialogues reaches the engines.

- `Engines` knows every engine of the run and is told by the driver when replicas come and go.
- `EngineClient` sends the calls of one engine: routing, back-pressure, quarantine.
- `_Link` carries the calls to one replica: micro-batches out, a long poll back.

A call never waits in the replica: each process has its share of `max_inflight`, and beyond that
its calls wait here, in the dialogues that made them.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agents.core.calls import Completion
from agents.core.errors import CallQuarantined, CrsweepError, EngineRefused, ReplicaLost
from workers.backends.vllm.engine import EmbedRequest, Request, Vector
from workers.backends.vllm.replica import BEGUN, Answer, Dying, Item
from workers.backends.vllm.routing import Ring, choose

_GATHER_SECONDS = 0.001  # short beside any generation, long enough for a burst of dialogues
_MOST_GATHERED = 256
_POLL_SECONDS = 10.0
_INNOCENT_DEATHS = 2  # of engines that a call was in, before it is suspected


class Reach(Protocol):
    """One replica as seen from a client: its actor, or a stand-in in the same process.

    Both raise ReplicaLost when it is gone.
    """

    async def submit(self, client: str, items: list[Item]) -> None: ...
    async def poll(self, client: str, wait: float) -> list[tuple[int, Answer]]: ...


@dataclass(frozen=True)
class ReplicaRef:
    """A replica that is ready. `handle` is its actor; a restarted one is another incarnation."""

    index: int
    incarnation: str
    handle: Any


@dataclass(frozen=True)
class EngineView:
    """What the driver tells of one engine: its ready replicas, or why there will be none."""

    replicas: tuple[ReplicaRef, ...] = ()
    failed: str = ""


View = Mapping[str, EngineView]
"""By key of the engine."""


@dataclass
class Losses:
    """What the deaths of replicas cost one process."""

    calls: int = 0
    """Calls that were in a replica when it was lost, and went to another."""
    seconds: float = 0.0
    """How long they had been there, in sum."""
    quarantined: int = 0


class Engines:
    """All engines of a run, in one process. `reach` makes a `Reach` of an actor handle."""

    def __init__(self, client: str, processes: int, reach: Callable[[Any], Reach]) -> None:
        self._client, self._processes, self._reach = client, processes, reach
        self._clients: dict[str, EngineClient] = {}
        self._view: View = {}

    def of(self, key: str, label: str, max_inflight: int, spec_for: object) -> EngineClient:
        """The client of one engine, which need not be up yet. The driver has its spec."""
        if key not in self._clients:
            room = max(1, -(-max_inflight // self._processes))
            client = EngineClient(label, self._client, room, self._reach)
            client.update(self._view.get(key, EngineView()))
            self._clients[key] = client
        return self._clients[key]

    def update(self, view: View) -> None:
        """What the driver sees now."""
        self._view = view
        for key, client in self._clients.items():
            client.update(view.get(key, EngineView()))

    def losses(self) -> Losses:
        """Sums over all engines."""
        found = Losses()
        for client in self._clients.values():
            found.calls += client.losses.calls
            found.seconds += client.losses.seconds
            found.quarantined += client.losses.quarantined
        return found

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


class EngineClient:
    """Sends calls to the replicas of one engine. `room` is the most at once in each of them."""

    def __init__(self, label: str, client: str, room: int, reach: Callable[[Any], Reach]) -> None:
        self._label, self._client, self._room, self._reach = label, client, room, reach
        self._links: dict[int, _Link] = {}
        self._ring = Ring(())
        self._failed = ""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._deaths: Counter[bytes] = Counter()
        self._solo = asyncio.Semaphore(1)
        self.losses = Losses()

    def update(self, view: EngineView) -> None:
        """Takes over which replicas are ready. A lost one that has come back is a new link."""
        self._failed = view.failed
        there = {ref.index: ref for ref in view.replicas}
        for index in list(self._links):
            link, ref = self._links[index], there.get(index)
            if ref is None or ref.incarnation != link.incarnation:
                link.lose("the driver has taken it out of service")
                del self._links[index]
        for index, ref in there.items():
            if index not in self._links:
                self._links[index] = _Link(
                    ref.incarnation, self._reach(ref.handle), self._client, self._label
                )
        self._renew()

    async def ask(self, route: str, request: Request | EmbedRequest) -> Completion | Vector:
        """One reply. `route` decides which replica; equal ones meet in one KV cache.

        Raises ReplicaLost when the replica dies with the call in it, EngineRefused when the
        engine has failed for good, and the errors of the call itself.
        """
        name = _digest(request) if self._deaths else b""
        if name and self._deaths[name] >= _INNOCENT_DEATHS:
            async with self._solo:
                return await self._ask(route, request, solo=True)
        return await self._ask(route, request, solo=False)

    async def close(self) -> None:
        for link in self._links.values():
            link.lose("this process ends")

    async def _ask(
        self, route: str, request: Request | EmbedRequest, solo: bool
    ) -> Completion | Vector:
        link = await self._acquire(route)
        pending = link.send(request, solo)
        try:
            return await pending.reply
        except ReplicaLost as error:
            self._renew()
            self._note_death(request, pending, error)
            raise
        finally:
            link.drop(pending)
            self._wake()

    def _note_death(
        self, request: Request | EmbedRequest, pending: _Pending, error: ReplicaLost
    ) -> None:
        self.losses.calls += 1
        self.losses.seconds += time.monotonic() - pending.since
        if not pending.solo:
            self._deaths[_digest(request)] += 1
        elif pending.begun:
            self.losses.quarantined += 1
            raise CallQuarantined(
                f"{self._label}: three engines have died with this call in them, the last while "
                f"it ran alone: {error.message}"
            ) from error

    async def _acquire(self, route: str) -> _Link:
        while True:
            if self._failed:
                raise EngineRefused(f"{self._label}: {self._failed}")
            index = None
            if self._links and self._ring.size:
                index = choose(
                    self._ring.order(route), lambda i: len(self._links[i].pending), self._room
                )
            if index is not None:
                return self._links[index]
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn

    def _renew(self) -> None:
        """Rebuilds the ring of replicas that are alive, and lets every waiting call look again."""
        alive = {index for index, link in self._links.items() if not link.lost}
        self._ring = Ring(alive)
        for _ in range(len(self._waiting)):
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


@dataclass(eq=False)
class _Pending:
    """A call that is in a replica."""

    number: int
    request: Request | EmbedRequest
    solo: bool
    reply: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)
    begun: bool = False


class _Link:
    """The way to one replica, until it is lost."""

    def __init__(self, incarnation: str, reach: Reach, client: str, label: str) -> None:
        self.incarnation = incarnation
        self.lost = False
        self.pending: dict[int, _Pending] = {}
        self._reach, self._label = reach, label
        # Numbers of an earlier link of this process must not meet those of this one.
        self._client = f"{client}/{id(self):x}"
        self._next = 0
        self._batch: list[_Pending] = []
        self._sender: asyncio.Task[None] | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def send(self, request: Request | EmbedRequest, solo: bool) -> _Pending:
        """Queues a call for the next batch. Its future ends with a reply, or ReplicaLost."""
        self._next += 1
        reply = asyncio.get_running_loop().create_future()
        pending = _Pending(self._next, request, solo, reply)
        self.pending[pending.number] = pending
        self._batch.append(pending)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_soon())
        if self._receiver is None or self._receiver.done():
            self._receiver = asyncio.create_task(self._receive())
        return pending

    def drop(self, pending: _Pending) -> None:
        """Forgets a call whose future is over."""
        self.pending.pop(pending.number, None)

    def lose(self, cause: str) -> None:
        """Ends every call that is in the replica with ReplicaLost."""
        if self.lost:
            return
        self.lost = True
        for pending in list(self.pending.values()):
            if not pending.reply.done():
                pending.reply.set_exception(
                    ReplicaLost(f"a replica of {self._label} was lost: {cause}")
                )
        current = asyncio.current_task()
        for task in (self._sender, self._receiver, *self._sending):
            if task is not None and task is not current:
                task.cancel()

    async def _send_soon(self) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        while self._batch:
            batch, self._batch = self._batch[:_MOST_GATHERED], self._batch[_MOST_GATHERED:]
            task = asyncio.create_task(self._submit(batch))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _submit(self, batch: list[_Pending]) -> None:
        # Draws of one step have the same prompt: as one object it is pickled once.
        shared: dict[str, str] = {}
        items = [
            Item(p.number, _sharing(p.request, shared), p.solo) for p in batch if not p.reply.done()
        ]
        try:
            await self._reach.submit(self._client, items)
        except ReplicaLost as error:
            self.lose(error.message)

    async def _receive(self) -> None:
        try:
            while self.pending and not self.lost:
                for number, answer in await self._reach.poll(self._client, _POLL_SECONDS):
                    self._take(number, answer)
                await asyncio.sleep(0)  # whoever was answered may have the next call ready
        except ReplicaLost as error:
            self.lose(error.message)

    def _take(self, number: int, answer: Answer) -> None:
        if isinstance(answer, Dying):
            self.lose(answer.message)
            return
        pending = self.pending.get(number)
        if pending is None or pending.reply.done():
            return  # its dialogue has ended meanwhile
        if answer == BEGUN and isinstance(answer, str):
            pending.begun = True
        elif isinstance(answer, CrsweepError):
            pending.reply.set_exception(answer)
        else:
            pending.reply.set_result(answer)


def _sharing(request: Request | EmbedRequest, shared: dict[str, str]) -> Request | EmbedRequest:
    if isinstance(request, EmbedRequest):
        return request
    messages = shared.setdefault(request.messages_json, request.messages_json)
    return request._replace(messages_json=messages)


def _digest(request: Request | EmbedRequest) -> bytes:
    text = repr(tuple(request)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
