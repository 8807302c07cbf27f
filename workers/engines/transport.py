"""The messages between clients and a replica, and the replica's end of these connections.

A client sends requests as they come, and each answer is pushed to it when it is ready. The channel
between them collects what is sent in one iteration of an event loop, so bursts share a frame in
both directions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from agents.core.calls import Completion
from agents.core.errors import CrsweepError
from workers.backends.core.engines import EmbedRequest, Request, Vector
from workers.processes.channel import Connection


class ClientRequest(NamedTuple):
    """One request of a client. At most one `solo` request is in the engine at a time."""

    number: int
    request: Request | EmbedRequest
    solo: bool


ReplicaAnswer = Completion | Vector | CrsweepError


class Answered(NamedTuple):
    """From the replica: the reply to a request, or its error."""

    number: int
    answer: ReplicaAnswer


class RequestStarted(NamedTuple):
    """From the replica: a solo request now enters the engine."""

    number: int


class ReplicaEnding(NamedTuple):
    """From the replica: it is ending and answers no more requests."""

    cause: str


ReplicaMessage = Answered | RequestStarted | ReplicaEnding


class Clients:
    """All clients of a replica. `answer` serves one request and does not raise."""

    def __init__(
        self, answer: Callable[[Request | EmbedRequest], Awaitable[ReplicaAnswer]]
    ) -> None:
        self.answer = answer
        self.solo = asyncio.Semaphore(1)
        self.connected: set[ClientConnection] = set()

    def accept(self, connection: Connection) -> ClientConnection:
        """Adds a client."""
        client = ClientConnection(connection, self)
        self.connected.add(client)
        return client

    def end(self, cause: str) -> None:
        """Notifies all clients that the replica ends. Nothing is answered after that."""
        for client in list(self.connected):
            client.end(cause)


class ClientConnection:
    """One client, as the replica sees it."""

    def __init__(self, connection: Connection, clients: Clients) -> None:
        self._connection, self._clients = connection, clients
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, messages: Sequence[ClientRequest]) -> None:
        for message in messages:
            task = asyncio.create_task(self._serve(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def lost(self, cause: str) -> None:
        """Removes its requests from the engine, because their answers cannot be delivered."""
        self._clients.connected.discard(self)
        for task in self._tasks:
            task.cancel()

    def end(self, cause: str) -> None:
        self._connection.send(ReplicaEnding(cause))
        self._connection.close()

    async def _serve(self, item: ClientRequest) -> None:
        if not item.solo:
            answer = await self._clients.answer(item.request)
        else:
            async with self._clients.solo:
                self._connection.send(RequestStarted(item.number))
                await asyncio.sleep(0)  # it is on its way before the request can end this process
                answer = await self._clients.answer(item.request)
        self._connection.send(Answered(item.number, answer))
