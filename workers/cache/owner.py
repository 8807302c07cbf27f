"""The owner of a shard, through which equal calls in flight share one request.

- A *claim* asks for a key. The answer is the entry, if there is one; otherwise the first worker to
  ask makes the call, and all others wait for it. If that worker gives up or is lost, the next one
  makes it.
- A *put* is answered when the entry is durable. Everything put while one write runs is written
  together by the next, so a burst costs one flush of the disk.
- A restarted owner does not know which calls are in flight until the workers that make them have
  reconnected. It waits for them for a while before it lets a call be made again. It also waits for
  a worker that lost its connection, because that worker may still be alive.
- A reply that cannot be kept would be paid for twice: after a failed write, no more calls are made.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from agents.core.errors import CrsweepError, StoreError
from workers.cache.entries import Damage, decode
from workers.cache.store import CallStore

log = logging.getLogger(__name__)

_COME_BACK_SECONDS = 5.0
YOURS = "yours"
"""The answer to a claim without an entry: make the call."""
STORED = "stored"

OwnerAnswer = bytes | Literal["yours", "stored"] | CrsweepError


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
    """The claimed call was not made: it failed, or is no longer needed."""

    key: bytes


class Hello(NamedTuple):
    """The first message of every line: who the worker is, whether it is reconnecting, and what it
    is making."""

    who: bytes
    back: bool
    making: tuple[bytes, ...]


ClientMessage = Claim | Put | GiveUp | Hello
SendAnswer = Callable[[int, OwnerAnswer], None]
"""Sends a client the answer to one of its numbers."""


@dataclass(eq=False)
class Client:
    """A worker's connection. `making` are the calls that it has claimed."""

    reply: SendAnswer
    who: bytes = b""
    making: set[bytes] = field(default_factory=set)


class CallOwner:
    """Answers the messages of all clients of one shard, on one event loop.

    After a restart, `clients` workers have to reconnect before a call is made again.
    """

    def __init__(self, store: CallStore, clients: int = 0) -> None:
        self._store = store
        self._clients: dict[bytes, Client] = {}
        self._waiting: dict[bytes, deque[tuple[Client, Claim]]] = defaultdict(deque)
        self._maker: dict[bytes, Client] = {}
        self._puts: list[tuple[Client, Put]] = []
        self._made: Counter[bytes] = Counter()  # keys of puts that are not answered yet
        self._broken: CrsweepError | None = None
        self._writing: asyncio.Task[None] | None = None
        self._storing = asyncio.Lock()
        self._expected = clients
        self._back: set[bytes] = set()
        self._held: list[tuple[Client, list[Claim]]] = []
        if clients:
            asyncio.get_running_loop().call_later(_COME_BACK_SECONDS, self._wait_no_longer)

    def take(self, client: Client, messages: Sequence[ClientMessage]) -> None:
        """Processes messages that a client sent together."""
        claims = []
        for message in messages:
            if isinstance(message, Claim):
                claims.append(message)
            elif isinstance(message, Put):
                self._puts.append((client, message))
                self._made[message.key] += 1
                if self._writing is None:
                    self._writing = asyncio.create_task(self._write())
            elif isinstance(message, GiveUp):
                self._give_up(client, message.key)
            else:
                self._welcome(client, message)
        if claims and self._expected:
            self._held.append((client, claims))
        elif claims:
            self._claim(client, claims)

    def lose(self, client: Client) -> None:
        """Handles a lost line. The client repeats its open requests if it comes back."""
        self._held = [(other, claims) for other, claims in self._held if other is not client]
        for key, queue in list(self._waiting.items()):
            left = deque(each for each in queue if each[0] is not client)
            if left:
                self._waiting[key] = left
            else:
                del self._waiting[key]
        if client.making:
            asyncio.get_running_loop().call_later(_COME_BACK_SECONDS, self.leave, client)
        else:
            self.leave(client)

    def leave(self, client: Client) -> None:
        """Handles a client that does not come back: others make its calls."""
        if self._clients.get(client.who) is client:
            del self._clients[client.who]
        for key in list(client.making):
            self._give_up(client, key)

    async def seal(self) -> Damage:
        """Adds what is new to the shared cache. Raises StoreError."""
        while self._writing is not None:
            await asyncio.wait((self._writing,))
        async with self._storing:
            await asyncio.to_thread(self._store.seal)
        return self._store.damage()

    def close(self) -> None:
        """Closes its files. No further requests are allowed."""
        self._store.close()

    def _claim(self, client: Client, claims: Sequence[Claim]) -> None:
        try:
            found = self._store.find([c.key for c in claims if c.key not in self._maker])
        except CrsweepError as error:
            self._break(error)
            found = {}
        for claim in claims:
            data = found.get(claim.key)
            if data is not None and _counts(data, claim.accepted):
                client.reply(claim.number, data)
            elif self._broken is not None:
                client.reply(claim.number, self._broken)
            elif claim.key in self._maker or claim.key in self._made:
                self._waiting[claim.key].append((client, claim))
            else:
                self._let_make(client, claim)

    def _let_make(self, client: Client, claim: Claim) -> None:
        self._maker[claim.key] = client
        client.making.add(claim.key)
        client.reply(claim.number, YOURS)

    def _give_up(self, client: Client, key: bytes) -> None:
        client.making.discard(key)
        if self._maker.get(key) is not client or key in self._made:
            return  # a call that has been made will arrive soon
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
                    entries = [(put.key, put.data) for _, put in puts]
                    await asyncio.to_thread(self._store.write, entries)
                    self._store.index(entries)
                except CrsweepError as failed:
                    error = failed
                except Exception as failed:  # an error from a library: the run cannot continue
                    log.exception("entries cannot be kept")
                    error = StoreError(f"the call cache cannot keep entries: {failed!r}")
            if error is not None:
                self._break(error)
            for client, put in puts:
                self._settle(client, put, error)
        self._writing = None

    def _settle(self, client: Client, put: Put, error: CrsweepError | None) -> None:
        self._made[put.key] -= 1
        if not self._made[put.key]:
            del self._made[put.key]
        client.reply(put.number, error or STORED)
        client.making.discard(put.key)
        maker = self._maker.pop(put.key, None)
        if maker is not None:  # another one than `client` if it was made twice, after a restart
            maker.making.discard(put.key)
        for waiting, claim in self._waiting.pop(put.key, ()):
            if _counts(put.data, claim.accepted):
                waiting.reply(claim.number, put.data)
            else:
                self._claim(waiting, [claim])

    def _break(self, error: CrsweepError) -> None:
        """Fails all waiting calls, because nothing can be kept any more."""
        self._broken = error
        waiting, self._waiting = self._waiting, defaultdict(deque)
        for client, claim in (each for queue in waiting.values() for each in queue):
            client.reply(claim.number, error)

    def _welcome(self, client: Client, hello: Hello) -> None:
        before = self._clients.get(hello.who)
        client.who = hello.who
        self._clients[hello.who] = client
        for key in hello.making:
            if self._maker.get(key) in (None, before):
                self._maker[key] = client
                client.making.add(key)
        if before is not None:  # its line is lost, even if we have not been notified yet
            self.lose(before)
            self.leave(before)
        if hello.back:
            self._back.add(hello.who)
        if self._expected and len(self._back) >= self._expected:
            self._wait_no_longer()

    def _wait_no_longer(self) -> None:
        self._expected = 0
        held, self._held = self._held, []
        for client, claims in held:
            self._claim(client, claims)


def _counts(data: bytes, accepted: frozenset[str] | None) -> bool:
    if accepted is None:
        return True
    try:
        return decode(data).fingerprint in accepted
    except ValueError as error:
        log.warning("%s", error)
        return False
