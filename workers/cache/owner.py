"""The owner of a shard: equal calls that are in the air share one request.

- A *claim* asks for a key. The answer is the entry if there is one; else the first to ask makes
  the call, and all others wait for it. If its maker gives up or is lost, the next one makes it.
- A *put* is answered when the entry is durable. Whatever is put while one write runs is written
  together by the next, so a burst costs one flush of the disk.
- An owner that was restarted knows nothing of the calls in the air until their makers have come
  back; it waits for them for a while before it has any call made anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from agents.core.errors import CrsweepError, StoreError
from workers.cache.entries import fingerprint_of
from workers.cache.store import CallStore

log = logging.getLogger(__name__)

_COME_BACK_SECONDS = 5.0
YOURS = "yours"
"""The answer to a claim: there is no such entry, make it."""
STORED = "stored"

Answer = bytes | Literal["yours", "stored"] | CrsweepError


class Claim(NamedTuple):
    """`accepted` are the fingerprints that count as equal; None accepts any."""

    number: int
    key: bytes
    accepted: frozenset[str] | None


class Put(NamedTuple):
    number: int
    key: bytes
    data: bytes


class GiveUp(NamedTuple):
    """The call that was to be made is not: it failed, or nobody wants it any more."""

    key: bytes


class Making(NamedTuple):
    """What a client that comes back was making when it lost the way."""

    keys: tuple[bytes, ...]


Message = Claim | Put | GiveUp | Making
Reply = Callable[[int, Answer], None]
"""Sends a client the answer to one of its numbers."""


@dataclass(eq=False)
class Client:
    """Somebody who claims and puts."""

    reply: Reply
    making: set[bytes] = field(default_factory=set)


class CallOwner:
    """Answers the messages of all clients of one shard. Lives on one event loop."""

    def __init__(self, store: CallStore, clients: int = 0) -> None:
        self._store = store
        self._waiting: dict[bytes, deque[tuple[Client, Claim]]] = defaultdict(deque)
        self._maker: dict[bytes, Client] = {}
        self._puts: list[tuple[Client, Put]] = []
        self._writing: asyncio.Task[None] | None = None
        self._storing = asyncio.Lock()
        self._expected = clients  # that are to come back before a call is made anew
        self._held: list[tuple[Client, list[Claim]]] = []
        if clients:
            asyncio.get_running_loop().call_later(_COME_BACK_SECONDS, self._wait_no_longer)

    def take(self, client: Client, messages: Sequence[Message]) -> None:
        """Takes what a client sent at once."""
        claims = []
        for message in messages:
            if isinstance(message, Claim):
                claims.append(message)
            elif isinstance(message, Put):
                self._puts.append((client, message))
                if self._writing is None:
                    self._writing = asyncio.create_task(self._write())
            elif isinstance(message, GiveUp):
                self._give_up(client, message.key)
            else:
                self._come_back(client, message.keys)
        if claims and self._expected:
            self._held.append((client, claims))
        elif claims:
            self._claim(client, claims)

    def leave(self, client: Client) -> None:
        """A client is lost: others make what it was making, and wait for what it waited for."""
        for queue in self._waiting.values():
            for waiting in [each for each in queue if each[0] is client]:
                queue.remove(waiting)
        for key in list(client.making):
            self._give_up(client, key)
        self._held = [(other, claims) for other, claims in self._held if other is not client]

    async def seal(self) -> None:
        """Makes what is new part of the shared cache. Raises StoreError."""
        while self._writing is not None:
            await asyncio.wait((self._writing,))
        async with self._storing:
            await asyncio.to_thread(self._store.seal)

    def close(self) -> None:
        """Lets go of its files. Nothing may be asked any more."""
        self._store.close()

    def _claim(self, client: Client, claims: Sequence[Claim]) -> None:
        found = self._store.find([c.key for c in claims if c.key not in self._maker])
        for claim in claims:
            data = found.get(claim.key)
            if data is not None and _counts(data, claim.accepted):
                client.reply(claim.number, data)
            elif claim.key in self._maker:
                self._waiting[claim.key].append((client, claim))
            else:
                self._let_make(client, claim)

    def _let_make(self, client: Client, claim: Claim) -> None:
        self._maker[claim.key] = client
        client.making.add(claim.key)
        client.reply(claim.number, YOURS)

    def _give_up(self, client: Client, key: bytes) -> None:
        client.making.discard(key)
        if self._maker.get(key) is not client:
            return
        del self._maker[key]
        if waiting := self._waiting.get(key):
            self._let_make(*waiting.popleft())
        if not waiting:
            self._waiting.pop(key, None)

    async def _write(self) -> None:
        """Writes what was put, until nothing is left."""
        while self._puts:
            puts, self._puts = self._puts, []
            error: CrsweepError | None = None
            async with self._storing:
                try:
                    await asyncio.to_thread(self._store.add, [(p.key, p.data) for _, p in puts])
                except CrsweepError as failed:
                    error = failed
                except Exception as failed:  # of a library: the run cannot go on, and must be told
                    log.exception("entries cannot be kept")
                    error = StoreError(f"the call cache cannot keep entries: {failed!r}")
            for client, put in puts:
                self._settle(client, put, error)
        self._writing = None

    def _settle(self, client: Client, put: Put, error: CrsweepError | None) -> None:
        client.reply(put.number, error or STORED)
        if error is not None:
            self._give_up(client, put.key)
            return
        client.making.discard(put.key)
        maker = self._maker.pop(put.key, None)
        if maker is not None and maker is not client:  # made twice, after a restart
            maker.making.discard(put.key)
        for waiting, claim in self._waiting.pop(put.key, ()):
            if _counts(put.data, claim.accepted):
                waiting.reply(claim.number, put.data)
            else:
                self._claim(waiting, [claim])

    def _come_back(self, client: Client, keys: Sequence[bytes]) -> None:
        for key in keys:
            if key not in self._maker:
                self._maker[key] = client
                client.making.add(key)
        if self._expected:
            self._expected -= 1
            if self._expected == 0:
                self._wait_no_longer()

    def _wait_no_longer(self) -> None:
        self._expected = 0
        held, self._held = self._held, []
        for client, claims in held:
            self._claim(client, claims)


def _counts(data: bytes, accepted: frozenset[str] | None) -> bool:
    return accepted is None or fingerprint_of(data) in accepted
