"""Channels between processes: order, wholeness, loss, and strangers."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from tests.conftest import LAST_GUARD_SECONDS
from workers.processes import channel as channels
from workers.processes.channel import Address, Channel, Server, connect


class Keeper:
    """Keeps what it receives; echoes it where it has a channel."""

    def __init__(self, channel: Channel | None = None) -> None:
        self.got: list[Any] = []
        self.frames = 0
        self.cause = ""
        self.changed = asyncio.Event()
        self.channel = channel

    def receive(self, messages: Sequence[Any]) -> None:
        self.got += messages
        self.frames += 1
        if self.channel is not None:
            for message in messages:
                self.channel.send(message)
        self.changed.set()

    def lost(self, cause: str) -> None:
        assert not self.cause
        self.cause = cause
        self.changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(LAST_GUARD_SECONDS):
            while len(self.got) < count:
                self.changed.clear()
                await self.changed.wait()

    async def until_lost(self) -> None:
        async with asyncio.timeout(LAST_GUARD_SECONDS):
            while not self.cause:
                self.changed.clear()
                await self.changed.wait()


async def _echo() -> tuple[Server, list[Keeper]]:
    keepers: list[Keeper] = []

    def accept(channel: Channel) -> Keeper:
        keepers.append(Keeper(channel))
        return keepers[-1]

    return await Server.start("127.0.0.1", accept), keepers


def test_messages_come_back_whole_and_in_order() -> None:
    async def go() -> None:
        server, _ = await _echo()
        mine = Keeper()
        channel = await connect(server.address, mine)
        sent: list[Any] = [
            *range(100),
            "x" * 3_000_000,
            {"é": [1.5, None, b"\0"]},
            "\ud800",
        ]
        for message in sent:
            channel.send(message)
        await mine.until(len(sent))
        assert mine.got == sent
        channel.close()
        server.close()

    asyncio.run(go())


def test_a_burst_travels_in_few_frames() -> None:
    async def go() -> None:
        server, keepers = await _echo()
        mine = Keeper()
        channel = await connect(server.address, mine)
        for number in range(1000):
            channel.send(number)
        await mine.until(1000)
        assert keepers[0].frames < 10
        channel.close()
        server.close()

    asyncio.run(go())


def test_what_is_sent_at_once_is_not_lost_before_it_can_be_received() -> None:
    async def go() -> None:
        server, _ = await _echo()
        for _ in range(50):  # the proof and the first message often travel together
            mine = Keeper()
            channel = await connect(server.address, mine)
            channel.send("early")
            await mine.until(1)
            channel.close()
        server.close()

    asyncio.run(go())


def test_a_message_that_cannot_be_sent_ends_the_connection_instead_of_going_missing() -> None:
    async def go() -> None:
        server, keepers = await _echo()
        mine = Keeper()
        channel = await connect(server.address, mine)
        channel.send("fine")
        await mine.until(1)
        failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, each: failures.append(each))
        channel.send(lambda: "functions cannot be pickled")
        channel.send("with it")
        await mine.until_lost()
        await keepers[0].until_lost()
        assert keepers[0].got == ["fine"]
        assert "pickle" in str(failures[0]["exception"])
        server.close()

    asyncio.run(go())


def test_who_does_not_know_the_secret_is_refused_and_not_unpickled() -> None:
    async def go() -> None:
        server, keepers = await _echo()
        stranger = server.address._replace(secret=b"another")
        with pytest.raises(OSError, match="secret"):
            await connect(stranger, Keeper())
        # Neither does a client trust a server that only echoes, and bytes are not proof.
        reader, writer = await asyncio.open_connection(*server.address[:2])
        body = pickle.dumps(["a message"])
        writer.write(b"\0" * 64 + len(body).to_bytes(4, "big") + body)
        with suppress(ConnectionResetError):
            assert len(await reader.read()) <= 64  # a nonce and a proof, and then the end
        assert not keepers
        server.close()

    asyncio.run(go())


def test_a_client_refuses_a_server_that_does_not_know_the_secret() -> None:
    async def go() -> None:
        async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"n" * 32)
            await reader.readexactly(64)
            body = pickle.dumps(["a message"])
            writer.write(b"p" * 32 + len(body).to_bytes(4, "big") + body)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(pretend, "127.0.0.1", 0)
        mine = Keeper()
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OSError, match="secret"):
            await connect(Address("127.0.0.1", port, b"s" * 32), mine)
        assert not mine.got
        server.close()

    asyncio.run(go())


def test_a_missing_listener_is_an_error() -> None:
    async def go() -> None:
        server, _ = await _echo()
        server.close()
        with pytest.raises(OSError):
            await connect(server.address, Keeper())

    asyncio.run(go())


def _serve(pipe: Any) -> None:
    async def go() -> None:
        server, _ = await _echo()
        pipe.send(tuple(server.address))
        await asyncio.sleep(LAST_GUARD_SECONDS)

    asyncio.run(go())


def test_a_killed_server_is_lost_at_once() -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
    process.start()
    address = Address(*ours.recv())

    async def go() -> None:
        mine = Keeper()
        channel = await connect(address, mine)
        channel.send("hello")
        await mine.until(1)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        await mine.until_lost()
        channel.send("unheard")
        channel.close()

    try:
        asyncio.run(go())
    finally:
        process.kill()
        process.join()


def test_the_secret_is_not_in_what_is_printed() -> None:
    assert "sesame" not in f"{Address('h', 1, b'sesame')!r} {Address('h', 1, b'sesame')}"


def test_a_link_whose_other_side_is_silent_is_given_up_by_the_system() -> None:
    """A cut link says nothing; both ends have the system look for the other one."""

    async def go() -> None:
        ends: list[Channel] = []

        def accept(channel: Channel) -> Keeper:
            ends.append(channel)
            return Keeper(channel)

        server = await Server.start("127.0.0.1", accept)
        mine = Keeper()
        channel = await connect(server.address, mine)
        channel.send("hello")
        await mine.until(1)
        for end in (channel, *ends):
            assert end._transport is not None
            link: socket.socket = end._transport.get_extra_info("socket")

            def of(name: str, link: socket.socket = link) -> int:
                return link.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))

            assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            if sys.platform == "linux":
                assert of("TCP_KEEPIDLE") + of("TCP_KEEPINTVL") * of("TCP_KEEPCNT") <= 30
                assert 0 < of("TCP_USER_TIMEOUT") <= 30_000
        channel.close()
        server.close()

    asyncio.run(go())


def test_a_server_that_accepts_and_stays_silent_is_no_server(monkeypatch) -> None:
    monkeypatch.setattr(channels, "_CONNECT_SECONDS", 0.05)

    async def go() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            address = Address("127.0.0.1", listener.getsockname()[1], b"secret")
            with pytest.raises(OSError, match=r"no answer from Address\(127\.0\.0\.1:"):
                await connect(address, Keeper())

    asyncio.run(go())
