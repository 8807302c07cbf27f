"""Messages between the processes of a run, over TCP.

Ray starts, places and ends processes; but a Ray call costs half a millisecond of CPU on each side,
too much for thousands of model calls a second. So their messages go through sockets.

- What is sent in one iteration of the event loop is put into few frames, so bursts cost little, and
  no message waits for others.
- Messages arrive complete and in order, until the channel is lost; then `lost` is called once.
- Frames are pickles. Both sides first prove that they know the secret of the address, which only
  Ray has transported, so nothing from a stranger is ever unpickled.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import pickle
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, cast

_LENGTH = 4  # bytes that say how long a frame is
_FIRST_GATHERED = 16  # messages of the first frame of a turn; each further one takes twice as many
_PROOF = 32  # bytes of a nonce, and of a proof
_CONNECT_SECONDS = 20.0
_HANDSHAKE_SECONDS = 20.0
# A machine that is switched off says nothing; half a minute is far beyond any pause of a network.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}


class Address(NamedTuple):
    """Where a server listens, and the secret that its clients must know."""

    host: str
    port: int
    secret: bytes

    def __repr__(self) -> str:  # it may end up in a log
        return f"Address({self.host}:{self.port})"


class Connection(Protocol):
    """Sends messages: a `Channel`, or its equivalent within a process."""

    def send(self, message: Any) -> None: ...
    def close(self) -> None: ...


class Receiver(Protocol):
    """Receives the messages of a connection. `lost` is called once, after the last one."""

    def receive(self, messages: Sequence[Any]) -> None: ...
    def lost(self, cause: str) -> None: ...


class Channel(asyncio.Protocol):
    """One end of a connection, created by `connect` or by a `Server`."""

    def __init__(self, secret: bytes, *, server: bool) -> None:
        self._secret = secret
        self._mine, self._theirs = (b"server", b"client") if server else (b"client", b"server")
        self._nonce = secrets.token_bytes(_PROOF)
        self._answered = False  # our proof is sent
        self._buffer = bytearray()
        self._out: list[Any] = []
        self._turn = False  # something was sent in this turn of the loop
        self._gathered = _FIRST_GATHERED
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.receiver: Receiver | None = None
        """Receives the messages; set by `attach`."""
        self.trusted: asyncio.Future[None] = self._loop.create_future()
        """Done when the other side has proved that it knows the secret."""

    @property
    def closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def send(self, message: Any) -> None:
        """Sends a message together with all others of this iteration of the loop; ignored once
        closed."""
        if not self._turn:
            self._turn = True
            self._loop.call_soon(self._end_turn)
        self._out.append(message)
        if len(self._out) >= self._gathered:
            # The other side can begin while this one continues.
            self._gathered *= 2
            self._flush()

    def attach(self, receiver: Receiver) -> None:
        """Sets the receiver of messages that have arrived or will arrive."""
        self.receiver = receiver
        self.data_received(b"")
        if self.closed:
            self.connection_lost(None)

    def close(self) -> None:
        """Sends what is pending, then ends the connection."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _end_turn(self) -> None:
        self._turn, self._gathered = False, _FIRST_GATHERED
        self._flush()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if not out or self.closed:
            return
        assert self._transport is not None
        try:
            body = _pickled(out)
        except Exception:
            self._transport.abort()  # the other side would wait for what is never sent
            raise
        self._transport.writelines((len(body).to_bytes(_LENGTH, "big"), body))

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        _watch(transport.get_extra_info("socket"))
        self._transport.write(self._nonce)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.trusted.done():
            self.trusted.set_exception(
                ConnectionError("it was closed before the other side proved to know the secret")
            )
            self.trusted.exception()  # retrieved: the connecting side raises it, a server does not
        elif self.receiver is not None:
            receiver, self.receiver = self.receiver, None
            receiver.lost(f"the connection is lost ({exc or 'closed by the other side'})")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.trusted.done():
            self._prove()
        if self.receiver is None:
            return  # no receiver yet; `attach` will read the buffer
        messages: list[Any] = []
        start, there = 0, len(self._buffer)
        while there - start >= _LENGTH:
            end = start + _LENGTH + int.from_bytes(self._buffer[start : start + _LENGTH], "big")
            if there < end:
                break
            with memoryview(self._buffer) as view:
                messages += pickle.loads(view[start + _LENGTH : end])
            start = end
        del self._buffer[:start]
        if messages:
            self.receiver.receive(messages)

    def _prove(self) -> None:
        """The handshake: a nonce each way, then a proof each way."""
        assert self._transport is not None
        if not self._answered and len(self._buffer) >= _PROOF:
            nonce = self._take()
            self._transport.write(self._proof(self._mine, nonce))
            self._answered = True
        if self._answered and len(self._buffer) >= _PROOF:
            if not hmac.compare_digest(self._take(), self._proof(self._theirs, self._nonce)):
                self._transport.abort()
                return
            self.trusted.set_result(None)

    def _take(self) -> bytes:
        found = bytes(self._buffer[:_PROOF])
        del self._buffer[:_PROOF]
        return found

    def _proof(self, side: bytes, nonce: bytes) -> bytes:
        return hmac.digest(self._secret, side + nonce, "sha256")


class Server:
    """Listens for clients. `accept` is given each client's channel, and returns its receiver."""

    def __init__(self, address: Address, server: asyncio.Server) -> None:
        self.address = address
        self._server = server

    @classmethod
    async def start(cls, host: str, accept: Callable[[Channel], Receiver]) -> Server:
        """Listens at any free port of `host`."""
        secret = secrets.token_bytes(_PROOF)
        welcoming: set[asyncio.Task[None]] = set()

        def make() -> Channel:
            channel = Channel(secret, server=True)
            task = asyncio.create_task(_welcome(channel, accept))
            welcoming.add(task)
            task.add_done_callback(welcoming.discard)
            return channel

        server = await asyncio.get_running_loop().create_server(make, host, 0)
        port = server.sockets[0].getsockname()[1]
        return cls(Address(host, port, secret), server)

    def close(self) -> None:
        """Stops listening; open channels stay open."""
        self._server.close()


async def _welcome(channel: Channel, accept: Callable[[Channel], Receiver]) -> None:
    with suppress(ConnectionError, TimeoutError):  # a stranger that did not prove itself
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            await channel.trusted
        channel.attach(accept(channel))
        return
    channel.close()


async def connect(address: Address, receiver: Receiver) -> Channel:
    """A channel to the server at `address`. Raises OSError if there is none, or a stranger."""
    loop = asyncio.get_running_loop()
    channel = Channel(address.secret, server=False)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await loop.create_connection(lambda: channel, address.host, address.port)
            await channel.trusted
    except TimeoutError:
        channel.close()
        raise OSError(f"no answer from {address!r}") from None
    except asyncio.CancelledError:
        channel.close()
        raise
    if channel.closed:
        raise OSError(f"{address!r} closed the connection")
    channel.attach(receiver)
    return channel


class _Pickler(pickle.Pickler):
    """Writes named tuples, of which messages consist, in less than half the time."""

    def reducer_override(self, obj: Any) -> Any:
        return (type(obj), tuple(obj)) if isinstance(obj, tuple) else NotImplemented


def _pickled(messages: Sequence[Any]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(messages)
    return file.getvalue()


def own_host() -> str:
    """The address at which other nodes of the Ray cluster reach this one."""
    from ray.util import get_node_ip_address

    return get_node_ip_address()


def _watch(sock: socket.socket | None) -> None:
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not every system has them all
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
