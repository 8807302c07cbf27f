"""Connections within one process, and a replica at their end: the real protocol without sockets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from agents.core.calls import Completion
from agents.core.errors import ContextOverflow
from workers.backends.core.engines import EmbedRequest, Request
from workers.engines.clients import ReplicaRef
from workers.engines.transport import ClientConnection, Clients, ReplicaAnswer
from workers.processes.channel import Receiver


class End:
    """One end of a connection. What is sent in one turn arrives together, `delay` s later."""

    def __init__(self, delay: float) -> None:
        self.receiver: Receiver
        self.peer: End
        self.closed = False
        self._delay = delay
        self._out: list[Any] = []
        self._in: deque[list[Any] | None] = deque()  # None: the other side has closed

    def send(self, message: Any) -> None:
        if self.closed:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(message)

    def close(self) -> None:
        self._flush()
        if not self.closed:
            self._ship(None)
            self.lose("closed here")

    def lose(self, cause: str) -> None:
        """Ends this end; nothing arrives any more."""
        if not self.closed:
            self.closed = True
            self._out.clear()
            asyncio.get_running_loop().call_soon(self.receiver.lost, cause)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and not self.closed:
            self._ship(out)

    def _ship(self, batch: list[Any] | None) -> None:
        self.peer._in.append(batch)
        asyncio.get_running_loop().call_later(self._delay, self.peer._arrive)

    def _arrive(self) -> None:
        batch = self._in.popleft()
        if self.closed:
            return
        if batch is None:
            self.lose("closed by the other side")
        else:
            self.receiver.receive(batch)


class Replica:
    """One incarnation of a replica, as its clients see it."""

    def __init__(
        self,
        incarnation: str = "one",
        index: int = 0,
        *,
        seconds: float = 1.0,
        poison: Sequence[str] = (),
        room: int | None = None,
        delay: float = 0.001,
    ) -> None:
        self.ref = ReplicaRef(index, incarnation, self)
        self.seconds, self.poison, self.room, self.delay = seconds, poison, room, delay
        self.cause = ""
        self.unreachable = False
        self.inside: list[str] = []
        """The requests in the engine."""
        self.received: list[str] = []
        self.batches: list[int] = []
        self.dialled = self.peak = 0
        self.clients = Clients(self.answer)
        self._ends: list[End] = []

    async def dial(self, receiver: Receiver) -> End:
        """A connection of one more client."""
        self.dialled += 1
        await asyncio.sleep(self.delay)
        if self.cause or self.unreachable:
            raise ConnectionRefusedError(self.cause or "no network")
        here, there = End(self.delay), End(self.delay)
        here.peer, there.peer = there, here
        here.receiver, there.receiver = receiver, _Recorded(self, self.clients.accept(there))
        self._ends.append(here)
        return here

    def die(self, cause: str = "killed", *, last_words: bool = False) -> None:
        """Ends it: at once, or after it has said so."""
        self.cause = cause
        if last_words:
            self.clients.end(cause)
        else:
            self.cut(cause)

    def cut(self, cause: str = "the network is away") -> None:
        """Breaks all connections; both sides notice."""
        ends, self._ends = self._ends, []
        for end in ends:
            end.lose(cause)
            end.peer.lose(cause)

    async def answer(self, request: Request | EmbedRequest) -> ReplicaAnswer:
        assert isinstance(request, Request)
        words = request.messages_json
        self.inside.append(words)
        self.peak = max(self.peak, len(self.inside))
        assert self.room is None or self.peak <= self.room
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.inside.remove(words)
        if words in self.poison:
            self.die(f"it choked on {words}")
        return ContextOverflow("too long") if words == "long" else reply_to(words)


class _Recorded:
    """Notes what a client sends, and gives it to the replica."""

    def __init__(self, replica: Replica, client: ClientConnection) -> None:
        self._replica, self._client = replica, client

    def receive(self, messages: Sequence[Any]) -> None:
        self._replica.batches.append(len(messages))
        self._replica.received += [each.request.messages_json for each in messages]
        self._client.receive(messages)

    def lost(self, cause: str) -> None:
        self._client.lost(cause)


async def dial(replica: Replica, receiver: Receiver) -> End:
    """What an `EngineClient` connects with."""
    return await replica.dial(receiver)


def reply_to(words: str) -> Completion:
    return Completion(f"re: {words}", "stop", 3, 2)


def request(words: str) -> Request:
    return Request(words, "", 7, "{}", "")
