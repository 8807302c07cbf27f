"""Clients and a replica over real sockets, with a stand-in for the engine."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from agents.core.calls import Completion
from agents.core.errors import ReplicaLost
from tests.conftest import LAST_GUARD_SECONDS
from tests.workers.engines.connections import reply_to, request
from workers.backends.core.engines import EmbedRequest, Request
from workers.core import retry
from workers.engines import clients
from workers.engines.clients import EngineClient, EngineView, ReplicaRef
from workers.engines.transport import Clients, ReplicaAnswer
from workers.processes.channel import Address, Channel, Receiver, Server, connect


class Engine:
    """Repeats the words of each request, after a few milliseconds that depend on them."""

    def __init__(self) -> None:
        self.channels: list[Channel] = []
        self.clients = Clients(self.answer)
        self.silent = False
        self.inside = self.most = 0

    def accept(self, channel: Channel) -> Receiver:
        self.channels.append(channel)
        return self.clients.accept(channel)

    async def answer(self, request: Request | EmbedRequest) -> ReplicaAnswer:
        assert isinstance(request, Request)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(3600 if self.silent else 0.001 * (len(request.messages_json) % 7))
        finally:
            self.inside -= 1
        return reply_to(request.messages_json)


def served(test: Callable[[Engine, EngineClient, Server], Awaitable[None]]) -> None:
    """Runs `test(engine, client, server)` on an event loop."""

    async def go() -> None:
        engine = Engine()
        server = await Server.start("127.0.0.1", engine.accept)
        client = EngineClient("tiny", 64, connect)
        client.update(view("one", server.address))
        try:
            async with asyncio.timeout(LAST_GUARD_SECONDS):
                await test(engine, client, server)
        finally:
            await client.close()
            server.close()

    asyncio.run(go())


def view(incarnation: str, address: Address) -> EngineView:
    return EngineView((ReplicaRef(0, incarnation, address),))


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what the other side of a socket does; the test's own timeout ends it."""
    while not condition():  # noqa: ASYNC110  (there is no event for it)
        await asyncio.sleep(0.005)


def test_every_call_gets_its_own_reply() -> None:
    async def test(engine: Engine, client: EngineClient, server: Server) -> None:
        words = [f"{'x' * (n % 7)}{n} \ud83c" for n in range(300)]
        found = await asyncio.gather(*(client.ask(w[:2], request(w)) for w in words))
        assert found == [reply_to(w) for w in words]
        assert len(engine.channels) == 1
        assert engine.most <= 64

    served(test)


def test_a_broken_connection_loses_the_calls_at_once_and_takes_them_out_of_the_engine() -> None:
    async def test(engine: Engine, client: EngineClient, server: Server) -> None:
        engine.silent = True
        asking = [asyncio.ensure_future(client.ask(w, request(w))) for w in "abc"]
        await until(lambda: engine.inside == 3)
        engine.channels[0].close()
        for failed in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(failed, ReplicaLost)
        assert client.losses.calls == 3
        await until(lambda: engine.inside == 0)

    served(test)


def test_a_replica_that_cannot_be_reached_loses_no_call_that_it_had() -> None:
    async def test(engine: Engine, client: EngineClient, server: Server) -> None:
        server.close()
        client.update(view("two", server.address))
        with pytest.raises(ReplicaLost, match="cannot be reached"):
            await client.ask("a", request("a"))
        assert client.losses.calls == 0

    served(test)


def test_a_client_that_reads_nothing_has_no_more_than_its_room_in_the_replica() -> None:
    async def test(engine: Engine, client: EngineClient, server: Server) -> None:
        channels: list[Channel] = []

        async def dial(address: Address, receiver: Receiver) -> Channel:
            channels.append(await connect(address, receiver))
            return channels[-1]

        served = 0

        async def answer(request: Request | EmbedRequest) -> ReplicaAnswer:
            nonlocal served
            served += 1
            return Completion("x" * 1_000_000, "stop", 3, 2)

        engine.clients.answer = answer
        slow = EngineClient("tiny", 8, dial)
        slow.update(view("one", server.address))
        await until(lambda: bool(channels))
        transport: Any = channels[0]._transport
        transport.pause_reading()
        asking = [asyncio.ensure_future(slow.ask("a", request(str(n)))) for n in range(50)]
        await until(lambda: served == 8)
        await asyncio.sleep(0.2)
        assert served == 8
        transport.resume_reading()
        assert len(await asyncio.gather(*asking)) == served == 50
        await slow.close()

    served(test)


@pytest.mark.parametrize("seed", range(3))
def test_connections_that_break_at_random_moments_lose_and_duplicate_no_reply(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_AGAIN_SECONDS", 0.01)

    async def test(engine: Engine, client: EngineClient, server: Server) -> None:
        rng = random.Random(seed)
        cuts = 0

        async def cut() -> None:
            nonlocal cuts
            while True:
                await asyncio.sleep(rng.uniform(0, 0.05))
                transport: Any = engine.channels[-1]._transport
                cuts += not transport.is_closing()
                transport.abort()

        async def play(name: str) -> None:
            for turn in range(20):
                words = f"{name}.{'x' * rng.randrange(7)}{turn}"
                reply, _ = await retry.retrying(
                    partial(client.ask, name, request(words)), 1000, retry.Throttle(60)
                )
                assert reply == reply_to(words)

        await until(lambda: bool(engine.channels))
        cutting = asyncio.create_task(cut())
        await asyncio.gather(*(play(f"d{n}") for n in range(40)))
        cutting.cancel()
        await until(lambda: engine.inside == 0)
        assert cuts > 1
        assert client.losses.quarantined == 0  # it was one and the same replica all the time

    served(test)


def _serve(pipe: Any) -> None:
    async def go() -> None:
        server = await Server.start("127.0.0.1", Engine().accept)
        pipe.send(tuple(server.address))
        await asyncio.sleep(LAST_GUARD_SECONDS)

    asyncio.run(go())


def _ask(address: tuple[str, int, bytes]) -> None:
    async def go() -> None:
        client = EngineClient("tiny", 64, connect)
        client.update(view("one", Address(*address)))
        await asyncio.gather(*(client.ask(str(n), request(str(n))) for n in range(64)))

    asyncio.run(go())


def test_after_a_replica_is_killed_its_calls_are_answered_by_the_next_one() -> None:
    spawn = multiprocessing.get_context("spawn")
    replicas = []

    def started() -> tuple[int, Address]:
        ours, theirs = multiprocessing.Pipe()
        process = spawn.Process(target=_serve, args=(theirs,))
        process.start()
        replicas.append(process)
        assert process.pid is not None
        return process.pid, Address(*ours.recv())

    async def test(_: Engine, client: EngineClient, server: Server) -> None:
        (first, address), (_, next_address) = await asyncio.gather(
            asyncio.to_thread(started), asyncio.to_thread(started)
        )
        client.update(view("killed", address))
        answered = 0

        async def play(name: str) -> None:
            nonlocal answered
            for turn in range(10):
                words = f"{name}.{turn}"
                reply, _ = await retry.retrying(
                    partial(client.ask, name, request(words)), 5, retry.Throttle(60)
                )
                assert reply == reply_to(words)
                answered += 1

        playing = asyncio.gather(*(play(f"dialogue {n}") for n in range(40)))
        await until(lambda: answered >= 100)
        os.kill(first, signal.SIGKILL)
        await until(lambda: not client._ring.size)
        client.update(view("next", next_address))
        await playing
        assert answered == 400
        assert client.losses.calls > 0

    try:
        served(test)
    finally:
        for process in replicas:
            process.kill()
            process.join()


def test_the_calls_of_a_killed_client_leave_the_engine() -> None:
    async def test(engine: Engine, client: EngineClient, server: Server) -> None:
        engine.silent = True
        process = multiprocessing.get_context("spawn").Process(
            target=_ask, args=(tuple(server.address),)
        )
        process.start()
        try:
            await until(lambda: engine.inside == 64)
        finally:
            process.kill()
        await until(lambda: engine.inside == 0 and len(engine.clients.connected) == 1)
        await asyncio.to_thread(process.join)

    served(test)
