"""A replica over a real socket, with a stand-in for the replica itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agents.core.calls import Completion
from agents.core.errors import ReplicaLost
from tests.conftest import LAST_GUARD_SECONDS
from workers.backends.vllm.client.clients import EngineClient, EngineView, ReplicaRef
from workers.backends.vllm.serving.engine import Request
from workers.backends.vllm.serving.transport import (
    Answer,
    ClientConnection,
    ClientRequest,
    SocketTransport,
)
from workers.processes.channel import Channel, Server


class Desk:
    """Answers with the words of the request, each in its own time."""

    def __init__(self) -> None:
        self.mail: asyncio.Queue[tuple[int, Answer]] = asyncio.Queue()
        self.channels: list[Channel] = []
        self.fault = ""
        self.silent = False

    def visitor(self, channel: Channel) -> ClientConnection:
        self.channels.append(channel)
        return ClientConnection(channel, self)

    async def submit(self, client: str, items: Sequence[ClientRequest]) -> None:
        if self.fault:
            raise ValueError(self.fault)
        for item in [] if self.silent else items:
            reply = Completion(item.request.messages_json, "stop")  # type: ignore[union-attr]
            asyncio.get_running_loop().call_later(
                0.001 * (item.number % 7), self.mail.put_nowait, (item.number, reply)
            )

    async def poll(self, client: str, wait: float) -> list[tuple[int, Answer]]:
        return [await self.mail.get()]


def request(words: str) -> Request:
    return Request(words, "", 1, "{}", "")


def served(test: Any) -> None:
    """Runs `test(desk, client, server)` on an event loop."""

    async def go() -> None:
        desk = Desk()
        server = await Server.start("127.0.0.1", desk.visitor)
        client = EngineClient("tiny", "w000", 64, SocketTransport)
        client.update(EngineView((ReplicaRef(0, "one", server.address),)))
        try:
            async with asyncio.timeout(LAST_GUARD_SECONDS):
                await test(desk, client, server)
        finally:
            await client.close()
            server.close()

    asyncio.run(go())


def test_every_call_gets_its_own_reply() -> None:
    async def test(desk: Desk, client: EngineClient, server: Server) -> None:
        words = [f"{n} \ud83c" for n in range(300)]
        found = await asyncio.gather(*(client.ask(w[:2], request(w)) for w in words))
        assert [each.text for each in found] == words  # type: ignore[union-attr]
        assert len(desk.channels) == 1

    served(test)


def test_every_batch_is_told_that_it_was_taken_also_after_another_one_was() -> None:
    class Slow(Desk):
        async def submit(self, client: str, items: Sequence[ClientRequest]) -> None:
            await asyncio.sleep(0.05 * items[0].number)

    async def test(_: Desk, client: EngineClient, server: Server) -> None:
        desk = Slow()
        slow = await Server.start("127.0.0.1", desk.visitor)
        reach = SocketTransport(slow.address)
        async with asyncio.timeout(LAST_GUARD_SECONDS):
            await asyncio.gather(
                *(
                    reach.submit("w000/1", [ClientRequest(n, request(str(n)), False)])
                    for n in (2, 0, 1)
                )
            )
        reach.close()
        slow.close()

    served(test)


def test_a_broken_connection_loses_the_calls_at_once() -> None:
    async def test(desk: Desk, client: EngineClient, server: Server) -> None:
        desk.silent = True
        asking = [asyncio.ensure_future(client.ask(w, request(w))) for w in "abc"]
        await asyncio.sleep(0.2)
        desk.channels[0].close()
        for failed in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(failed, ReplicaLost)
        assert client.losses.calls == 3

    served(test)


def test_nobody_at_the_address_and_a_fault_of_the_replica_are_losses() -> None:
    async def test(desk: Desk, client: EngineClient, server: Server) -> None:
        desk.fault = "it cannot"
        with pytest.raises(ReplicaLost, match="it cannot"):
            await client.ask("a", request("a"))
        server.close()
        client.update(EngineView())
        client.update(EngineView((ReplicaRef(0, "two", server.address),)))
        with pytest.raises(ReplicaLost, match="cannot be reached"):
            await client.ask("a", request("a"))

    served(test)
