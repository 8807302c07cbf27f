"""How a process that runs dialogues reaches the engines.

- `Engines` knows every engine of the run and is told by the driver when replicas come and go.
- `EngineClient` sends the calls of one engine: routing, back-pressure, quarantine.
- `_Link` carries the calls to one replica: micro-batches out, replies back as they are ready.

A call never waits in the replica: each process has its share of `max_inflight`, and beyond that
its calls wait here, first come first served. A place in a replica is free again when the replica
has answered, also where the dialogue that asked has ended meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from agents.core.calls import Completion
from agents.core.errors import CallQuarantined, CrsweepError, EngineRefused, ReplicaLost
from workers.backends.vllm.client.routing import Ring, choose
from workers.backends.vllm.serving.engine import EmbedRequest, Request, Vector
from workers.backends.vllm.serving.transport import BEGUN, Answer, ClientRequest, Dying

_MOST_GATHERED = 256
_POLL_SECONDS = 10.0
_SILENCE_SECONDS = 60.0  # beyond the wait of a poll: the driver should have noticed long before
_AGAIN_SECONDS = 10.0  # then a replica that the driver still calls ready is believed to be
_INNOCENT_DEATHS = 2  # of engines that a call was in, before it is suspected

T = TypeVar("T")
_numbers = itertools.count()


class Transport(Protocol):
    """One replica as seen from a client: at an address, or a stand-in in the same process.

    `submit` and `poll` raise ReplicaLost when it is gone.
    """

    async def submit(self, client: str, items: list[ClientRequest]) -> None: ...
    async def poll(self, client: str, wait: float) -> list[tuple[int, Answer]]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class ReplicaRef:
    """A replica that is ready. A restarted one is another incarnation, at another address."""

    index: int
    incarnation: str
    address: Any
    fingerprint: str = ""


@dataclass(frozen=True)
class EngineView:
    """What the driver tells of one engine: its ready replicas, or why there will be none."""

    replicas: tuple[ReplicaRef, ...] = ()
    failed: str = ""


EngineViews = Mapping[str, EngineView]
"""By key of the engine."""


@dataclass
class Losses:
    """What the deaths of replicas cost one process."""

    calls: int = 0
    """Calls that were in a replica when it was lost, and were tried again."""
    seconds: float = 0.0
    """How long they had been there, in sum."""
    quarantined: int = 0


class Engines:
    """All engines of a run, in one process. `reach` makes a `Transport` of a replica's address."""

    def __init__(self, client: str, processes: int, reach: Callable[[Any], Transport]) -> None:
        self._client, self._processes, self._reach = client, processes, reach
        self._clients: dict[str, EngineClient] = {}
        self._view: EngineViews = {}

    def of(self, key: str, label: str, max_inflight: int, spec_for: object) -> EngineClient:
        """The client of one engine, which need not be up yet. The driver has its spec."""
        room = max(1, -(-max_inflight // self._processes))
        if key not in self._clients:
            client = EngineClient(label, self._client, room, self._reach)
            client.update(self._view.get(key, EngineView()))
            self._clients[key] = client
        found = self._clients[key]
        found.room = max(found.room, room)  # of the models that share it, as its spec has it
        return found

    def update(self, view: EngineViews) -> None:
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

    def wanted(self) -> frozenset[str]:
        """Keys of the engines that somebody waits for, and that are not up."""
        return frozenset(key for key, client in self._clients.items() if client.wanted)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


class EngineClient:
    """Sends calls to the replicas of one engine. `room` is the most at once in each of them."""

    def __init__(
        self, label: str, client: str, room: int, reach: Callable[[Any], Transport]
    ) -> None:
        self.room = room
        self.losses = Losses()
        self._label, self._client, self._reach = label, client, reach
        self._links: dict[int, _Link] = {}
        self._ring = Ring(())
        self.up_since = 0.0
        """When replicas came up after there was none, by `time.monotonic`."""
        self._failed = ""
        self._waiting: deque[_Call] = deque()
        self._deaths: defaultdict[bytes, set[str]] = defaultdict(set)
        """The incarnations that died with a call in them. Equal calls share their fate."""
        self._quarantined: dict[bytes, str] = {}
        self._solo = asyncio.Semaphore(1)
        self._news = asyncio.Event()
        self._awaited = 0

    def update(self, view: EngineView) -> None:
        """Takes over which replicas are ready. A lost one that has come back is a new link."""
        self._failed = view.failed
        there = {ref.index: ref for ref in view.replicas}
        for index, link in list(self._links.items()):
            ref = there.get(index)
            if ref is None or ref.incarnation != link.ref.incarnation:
                del self._links[index]
                link.lose("the driver has taken it out of service")
        for index, ref in there.items():
            if index not in self._links:
                self._links[index] = self._link(ref)
        self._news.set()
        self._renew()

    async def ask(self, route: str, request: Request | EmbedRequest) -> Completion | Vector:
        """One reply. `route` decides which replica; equal ones meet in one KV cache.

        Raises ReplicaLost when the replica dies with the call in it, EngineRefused when the
        engine has failed for good, and the errors of the call itself.
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
        """Of all replicas, as soon as one is there. EngineRefused when none will be."""
        while not self._links:
            if self._failed:
                raise EngineRefused(f"{self._label}: {self._failed}")
            self._awaited += 1
            try:
                self._news.clear()
                await self._news.wait()
            finally:
                self._awaited -= 1
        return frozenset(link.ref.fingerprint for link in self._links.values())

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for the engine, and no replica is there."""
        return not self._links and bool(self._waiting or self._awaited)

    async def close(self) -> None:
        """Lets go of all replicas. Nothing can be asked any more."""
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
            return  # it had not left this process
        self.losses.calls += 1
        self.losses.seconds += time.monotonic() - call.since
        if call.state == "begun":
            self.losses.quarantined += 1
            reason = (
                f"{self._label}: three engines have died with this call in them, the last while "
                f"it ran alone: {error.message}"
            )
            self._quarantined[_digest(call.request)] = reason
            raise CallQuarantined(reason) from error
        if call.state == "taken" and not call.solo:
            self._deaths[_digest(call.request)].add(call.incarnation)

    def _link(self, ref: ReplicaRef) -> _Link:
        return _Link(ref, self._reach(ref.address), self._client, self._label, self)

    def lost(self, link: _Link) -> None:
        """A link is lost; calls are sent another way."""
        self._renew()
        if self._links.get(link.ref.index) is link:
            # The driver will tell what became of it. If it tells nothing, only the way was broken.
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._try_again, link)

    def _try_again(self, link: _Link) -> None:
        if self._links.get(link.ref.index) is link:
            self._links[link.ref.index] = self._link(link.ref)
            self._renew()

    def _renew(self) -> None:
        """Rebuilds the ring of replicas that are alive."""
        was_up = self._ring.size > 0
        self._ring = Ring(index for index, link in self._links.items() if not link.lost)
        if self._ring.size and not was_up:
            self.up_since = time.monotonic()
        self.dispatch()

    def dispatch(self) -> None:
        """Sends calls that wait, as far as there is room, in the order in which they came."""
        while self._waiting and (self._ring.size or self._failed):
            call = self._waiting[0]
            if call.reply.done():
                pass  # its dialogue has ended
            elif self._failed:
                call.reply.set_exception(EngineRefused(f"{self._label}: {self._failed}"))
            else:
                index = choose(
                    self._ring.order(call.route), lambda i: len(self._links[i].calls), self.room
                )
                if index is None:
                    return
                self._links[index].send(call)
            self._waiting.popleft()


State = Literal["waiting", "sent", "taken", "begun"]
"""Of a call: not yet out of this process, on its way, in the replica, and alone in the engine."""


@dataclass(eq=False)
class _Call:
    """A call that waits here, or is in a replica. `reply` ends with its reply, or an error."""

    route: str
    request: Request | EmbedRequest
    solo: bool
    reply: asyncio.Future[Any]
    state: State = "waiting"
    incarnation: str = ""
    since: float = 0.0


class _Link:
    """The way to one replica, until it is lost. `calls` are those that it has not answered."""

    def __init__(
        self, ref: ReplicaRef, reach: Transport, client: str, label: str, owner: EngineClient
    ) -> None:
        self.ref = ref
        self.lost = False
        self.calls: dict[int, _Call] = {}
        self._reach, self._label, self._owner = reach, label, owner
        # Numbers of an earlier link of this process must not meet those of this one.
        self._client = f"{client}/{next(_numbers)}"
        self._next = 0
        self._batch: list[int] = []
        self._receiver: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def send(self, call: _Call) -> None:
        """Queues a call for the next batch."""
        call.incarnation, call.since = self.ref.incarnation, time.monotonic()
        self._next += 1
        self.calls[self._next] = call
        if not self._batch:
            asyncio.get_running_loop().call_soon(self._flush)
        self._batch.append(self._next)
        if self._receiver is None or self._receiver.done():
            self._receiver = asyncio.create_task(self._receive())

    def lose(self, cause: str) -> None:
        """Ends every call that was given to this link with ReplicaLost."""
        if self.lost:
            return
        self.lost = True
        calls, self.calls = self.calls, {}
        for call in calls.values():
            if not call.reply.done():
                call.reply.set_exception(
                    ReplicaLost(f"a replica of {self._label} was lost: {cause}")
                )
        current = asyncio.current_task()
        for task in (self._receiver, *self._sending):
            if task is not None and task is not current:
                task.cancel()
        self._reach.close()
        self._owner.lost(self)

    def _flush(self) -> None:
        if self.lost:
            return
        numbers, self._batch = self._batch, []
        for number in numbers:
            if self.calls[number].reply.done():  # its dialogue has ended already
                del self.calls[number]
        there = [number for number in numbers if number in self.calls]
        for start in range(0, len(there), _MOST_GATHERED):
            task = asyncio.create_task(self._submit(there[start : start + _MOST_GATHERED]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        self._owner.dispatch()

    async def _submit(self, numbers: list[int]) -> None:
        # Draws of one step have the same prompt: as one object it is pickled once.
        shared: dict[str, str] = {}
        calls = {number: self.calls[number] for number in numbers}
        items = [
            ClientRequest(n, _sharing(call.request, shared), call.solo) for n, call in calls.items()
        ]
        for call in calls.values():
            call.state = "sent"
        try:
            await _within(_SILENCE_SECONDS, self._reach.submit(self._client, items))
        except Exception as error:  # noqa: BLE001  (whatever breaks the way, it is broken)
            self.lose(_words(error))
        for call in calls.values():
            if call.state == "sent" and not self.lost:
                call.state = "taken"

    async def _receive(self) -> None:
        try:
            while self.calls and not self.lost:
                poll = self._reach.poll(self._client, _POLL_SECONDS)
                answers = await _within(_POLL_SECONDS + _SILENCE_SECONDS, poll)
                self._take(answers)
                await asyncio.sleep(0)  # whoever was answered may have the next call ready
        except Exception as error:  # noqa: BLE001  (as above)
            self.lose(_words(error))

    def _take(self, answers: list[tuple[int, Answer]]) -> None:
        end = ""
        for number, answer in answers:
            if isinstance(answer, Dying | ReplicaLost):  # the latter where another has its place
                end = answer.message
                continue
            call = self.calls.get(number)
            if call is None:
                continue
            if answer == BEGUN and isinstance(answer, str):
                call.state = "begun"
                continue
            del self.calls[number]
            if call.reply.done():
                continue  # its dialogue has ended meanwhile
            if isinstance(answer, CrsweepError):
                call.reply.set_exception(answer)
            else:
                call.reply.set_result(answer)
        if end:
            self.lose(end)
        else:
            self._owner.dispatch()


async def _within(seconds: float, answer: Awaitable[T]) -> T:
    async with asyncio.timeout(seconds):
        return await answer


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return error.message if isinstance(error, CrsweepError) else repr(error)


def _sharing(request: Request | EmbedRequest, shared: dict[str, str]) -> Request | EmbedRequest:
    if isinstance(request, EmbedRequest):
        return request
    messages = shared.setdefault(request.messages_json, request.messages_json)
    return request._replace(messages_json=messages)


def _digest(request: Request | EmbedRequest) -> bytes:
    text = repr(tuple(request)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
