"""The way from a worker to a replica: requests out, replies back as they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from agents.core.calls import Completion
from agents.core.errors import CrsweepError, ReplicaLost
from workers.backends.vllm.serving.engine import EmbedRequest, Request, Vector
from workers.processes.channel import Address, Channel, connect

_POLL_SECONDS = 60.0  # of a replica for its own mail: any time would do


class ClientRequest(NamedTuple):
    """One request of a client. A `solo` one runs beside no other of its kind."""

    number: int
    request: Request | EmbedRequest
    solo: bool


BEGUN = "begun"
"""What a client hears of a solo request when it enters the engine."""

Answer = Completion | Vector | CrsweepError | str


class Dying(CrsweepError):
    """The last words of a replica: the cause of its end."""

    transient = True
    blame = "infrastructure"


class _Submit(NamedTuple):
    """To the replica: take these."""

    number: int
    client: str
    items: list[ClientRequest]


class _Taken(NamedTuple):
    """From the replica: it has them. With a `fault`, it could not take them."""

    number: int
    fault: str


class _Answers(NamedTuple):
    """From the replica: what is ready."""

    answers: list[tuple[int, Answer]]


class RequestHandler(Protocol):
    """What a replica does for its clients."""

    async def submit(self, client: str, items: Sequence[ClientRequest]) -> None: ...
    async def poll(self, client: str, wait: float) -> list[tuple[int, Answer]]: ...


class ClientConnection:
    """One client, as the replica sees it."""

    def __init__(self, channel: Channel, desk: RequestHandler) -> None:
        self._channel, self._desk = channel, desk
        self._tasks: set[asyncio.Task[None]] = set()
        self._polling = False

    def receive(self, messages: Sequence[Any]) -> None:
        for message in messages:
            self._spawn(self._take(message))
            if not self._polling:
                self._polling = True
                self._spawn(self._poll(message.client))

    def lost(self, cause: str) -> None:
        """Its calls run on: nobody can take them out of the engine."""
        for task in self._tasks:
            task.cancel()

    async def _take(self, message: _Submit) -> None:
        fault = ""
        try:
            await self._desk.submit(message.client, message.items)
        except Exception as error:  # noqa: BLE001  (told to the one who asked)
            fault = repr(error)
        self._channel.send(_Taken(message.number, fault))

    async def _poll(self, client: str) -> None:
        while True:
            answers = await self._desk.poll(client, _POLL_SECONDS)
            if answers:
                self._channel.send(_Answers(answers))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class SocketTransport:
    """A replica at an address, as the worker that sends it calls sees it. Raises ReplicaLost."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._opening: asyncio.Task[Channel] | None = None
        self._sent: dict[int, asyncio.Future[None]] = {}
        self._numbers = 0
        self._ready: list[tuple[int, Answer]] = []
        self._news = asyncio.Event()
        self._cause = ""

    async def submit(self, client: str, items: list[ClientRequest]) -> None:
        channel = await self._channel()
        self._numbers += 1
        number = self._numbers  # another may be sent before this one is taken
        taken = self._sent[number] = asyncio.get_running_loop().create_future()
        channel.send(_Submit(number, client, items))
        try:
            await taken
        finally:
            self._sent.pop(number, None)

    async def poll(self, client: str, wait: float) -> list[tuple[int, Answer]]:
        await self._channel()
        if not self._ready and not self._cause:
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                return []
        self._news.clear()
        ready, self._ready = self._ready, []
        if not ready and self._cause:
            raise ReplicaLost(self._cause)
        return ready

    def close(self) -> None:
        """Lets go of the replica."""
        if self._opening is None:
            return
        if not self._opening.done():
            self._opening.cancel()
        elif not self._opening.cancelled() and self._opening.exception() is None:
            self._opening.result().close()

    async def _channel(self) -> Channel:
        if self._opening is None:
            self._opening = asyncio.create_task(connect(self._address, self))
        try:
            # Shielded: one caller that is cancelled must not take the connection along.
            channel = await asyncio.shield(self._opening)
        except OSError as error:
            raise ReplicaLost(f"it cannot be reached: {error}") from None
        if self._cause and not self._ready:
            raise ReplicaLost(self._cause)
        return channel

    # What the channel calls.

    def receive(self, messages: Sequence[Any]) -> None:
        for message in messages:
            if isinstance(message, _Answers):
                self._ready += message.answers
                self._news.set()
                continue
            taken = self._sent.get(message.number)
            if taken is None or taken.done():
                continue
            if message.fault:
                taken.set_exception(ReplicaLost(f"a fault in the replica: {message.fault}"))
            else:
                taken.set_result(None)

    def lost(self, cause: str) -> None:
        self._cause = cause
        self._news.set()
        for taken in self._sent.values():
            if not taken.done():
                taken.set_exception(ReplicaLost(cause))
