"""Connects a worker to the owners of the cache."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar, cast

from agents.core.errors import CrsweepError, StoreError
from workers.cache.entries import Reply, decode, encode
from workers.cache.owner import (
    YOURS,
    CallOwner,
    Claim,
    Client,
    ClientMessage,
    GiveUp,
    Hello,
    OwnerAnswer,
    Put,
)
from workers.processes.channel import Address, connect

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 0.2
# For an owner that is being restarted: it reads 60,000 journalled calls a second.
_PATIENCE_SECONDS = 600.0

R = TypeVar("R", bound=Reply)


class OwnerConnection(Protocol):
    """An open connection to an owner."""

    def send(self, message: ClientMessage) -> None: ...
    def close(self) -> None: ...


class Listener(Protocol):
    """Receives an owner's answers."""

    def receive(self, messages: Sequence[tuple[int, OwnerAnswer]]) -> None: ...
    def lost(self, cause: str) -> None: ...


DialOwner = Callable[[Listener], Awaitable[OwnerConnection]]
"""Opens a connection to an owner. Raises OSError if it is temporarily unreachable, StoreError if
permanently.

A lost line notifies its listener, but not before it was returned.
"""


class CallCache:
    """All shards of a run's cache, as one worker uses them."""

    def __init__(self, dials: Sequence[DialOwner]) -> None:
        self._links = [_Link(dial) for dial in dials]

    async def reply(
        self, key: bytes, accepted: frozenset[str] | None, make: Callable[[], Awaitable[R]]
    ) -> R:
        """The reply under `key`, from the cache or by `make`; it is durable when this returns.

        `make` is not called while another worker makes the same call. Its errors are raised, and
        nothing is kept. Raises StoreError if the cache cannot be written or reached.
        """
        link = self._links[key[0] % len(self._links)]
        data = await link.claim(key, accepted)
        if data is not None:
            try:
                return cast(R, decode(data))
            except ValueError as error:
                log.warning("the call %s is made again: %s", key.hex(), error)
        try:
            made = await make()
            data = encode(made)
        except BaseException:  # also on cancellation, because another worker may wait for the call
            link.give_up(key)
            raise
        await link.put(key, data)
        return made

    def close(self) -> None:
        for link in self._links:
            link.close()


class _Link:
    """The connection to one owner. Unanswered requests are repeated when it comes back."""

    def __init__(self, dial: DialOwner) -> None:
        self._dial = dial
        self._who = secrets.token_bytes(8)
        self._was_there = False
        self._line: OwnerConnection | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._asked: dict[int, tuple[Claim | Put, asyncio.Future[bytes | None]]] = {}
        self._making: set[bytes] = set()
        self._numbers = 0
        self._closed = False

    async def claim(self, key: bytes, accepted: frozenset[str] | None) -> bytes | None:
        """The entry, or None if this worker has to make the call."""
        answer = self._ask(Claim(self._number(), key, accepted))
        try:
            return await answer
        except asyncio.CancelledError:
            # Cancelled just after the answer arrived, so it was never used.
            if not answer.cancelled() and not answer.exception() and answer.result() is None:
                self.give_up(key)
            raise

    async def put(self, key: bytes, data: bytes) -> None:
        """Returns when the entry is durable. Raises StoreError if it cannot be."""
        await self._ask(Put(self._number(), key, data))

    def give_up(self, key: bytes) -> None:
        self._making.discard(key)
        if self._line is not None:
            self._line.send(GiveUp(key))

    def close(self) -> None:
        self._closed = True
        if self._dialling is not None:
            self._dialling.cancel()
        if self._line is not None:
            self._line.close()

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _ask(self, message: Claim | Put) -> asyncio.Future[bytes | None]:
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._asked[message.number] = message, answer
        if self._line is not None:
            self._line.send(message)
        elif self._dialling is None:
            self._dialling = asyncio.create_task(self._open())
        # A cancelled request stays open, because its answer may be a call that this worker has to
        # give up.
        return answer

    async def _open(self) -> None:
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                line = await self._dial(self)
                break
            except OSError as error:
                log.warning("the call cache cannot be reached: %s", error)
                if time.monotonic() > end:
                    self._fail(StoreError(f"the call cache cannot be reached: {error}"))
                    return
            except CrsweepError as error:
                self._fail(error)
                return
            except Exception as error:  # an error from a library, which would be lost otherwise
                self._fail(StoreError(f"the call cache cannot be reached: {error!r}"))
                raise
            await asyncio.sleep(_AGAIN_SECONDS)
        self._dialling = None
        self._line = line
        line.send(Hello(self._who, self._was_there, tuple(self._making)))
        self._was_there = True
        for message, _ in self._asked.values():
            line.send(message)

    def _fail(self, error: CrsweepError) -> None:
        self._dialling = None
        asked, self._asked = self._asked, {}
        for message, answer in asked.values():
            if isinstance(message, Put):
                self._making.discard(message.key)
            if not answer.done():
                answer.set_exception(error)

    # Called by the line.

    def receive(self, messages: Sequence[tuple[int, OwnerAnswer]]) -> None:
        for number, answer in messages:
            if number not in self._asked:
                continue  # from a lost line; another one has answered already
            message, waiting = self._asked.pop(number)
            if isinstance(message, Put):
                self._making.discard(message.key)
            elif answer == YOURS and isinstance(answer, str):
                self._making.add(message.key)
                if waiting.done():  # it is no longer needed
                    self.give_up(message.key)
            if waiting.done():
                continue
            if isinstance(answer, CrsweepError):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer if isinstance(answer, bytes) else None)

    def lost(self, cause: str) -> None:
        self._line = None
        if self._closed:
            return
        log.warning("the connection to the call cache is lost: %s", cause)
        if self._dialling is None:
            self._dialling = asyncio.create_task(self._open())


def over_network(find: Callable[[], Awaitable[Address]]) -> DialOwner:
    """Connects to an owner in another process; `find` returns its current address."""

    async def dial(listener: Listener) -> OwnerConnection:
        return await connect(await find(), listener)

    return dial


def in_process(owner: CallOwner) -> DialOwner:
    """Connects to an owner on the same event loop."""

    async def dial(listener: Listener) -> OwnerConnection:
        return _Loop(owner, listener)

    return dial


class _Loop:
    """A line within a process: what is sent in one iteration of the loop arrives in the next."""

    def __init__(self, owner: CallOwner, listener: Listener) -> None:
        self._owner, self._listener = owner, listener
        self._client = Client(self._reply)
        self._out: list[ClientMessage] = []
        self._back: list[tuple[int, OwnerAnswer]] = []
        self._loop = asyncio.get_running_loop()

    def send(self, message: ClientMessage) -> None:
        if not self._out:
            self._loop.call_soon(self._deliver)
        self._out.append(message)

    def close(self) -> None:
        self._owner.lose(self._client)

    def _deliver(self) -> None:
        out, self._out = self._out, []
        self._owner.take(self._client, out)

    def _reply(self, number: int, answer: OwnerAnswer) -> None:
        if not self._back:
            self._loop.call_soon(self._answer)
        self._back.append((number, answer))

    def _answer(self) -> None:
        back, self._back = self._back, []
        self._listener.receive(back)
