"""The actor that owns a shard of the call cache."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from workers.cache.entries import Damage
from workers.cache.owner import CallOwner, Client, ClientMessage
from workers.cache.store import CallStore, Places
from workers.processes.channel import Address, Channel, Server, own_host
from workers.processes.logs import log_to
from workers.processes.parent_watch import end_with_parent

log = logging.getLogger(__name__)


class CacheActor:
    """One owner for `clients` workers; after a restart, it waits for them to reconnect."""

    def __init__(self, places: Places, shard: int, clients: int, log_folder: Path) -> None:
        end_with_parent()
        log_to(log_folder, f"{places.epoch:06d}-cache-{shard:03d}")
        self._places, self._shard, self._clients = places, shard, clients
        self._started: asyncio.Task[tuple[CallOwner, Server]] | None = None

    async def address(self) -> Address:
        """Where workers reach it, once it has read the earlier journals."""
        return (await self._start())[1].address

    async def seal(self) -> Damage:
        """Adds what is new to the shared cache. Raises StoreError."""
        return await (await self._start())[0].seal()

    async def _start(self) -> tuple[CallOwner, Server]:
        if self._started is None:
            self._started = asyncio.create_task(self._open())
        return await asyncio.shield(self._started)

    async def _open(self) -> tuple[CallOwner, Server]:
        import ray

        again = ray.get_runtime_context().was_current_actor_reconstructed
        store = await asyncio.to_thread(CallStore, self._places, self._shard)
        log.info("shard %d: %d calls recovered", self._shard, store.recovered)
        owner = CallOwner(store, self._clients if again else 0)
        return owner, await Server.start(
            own_host(), lambda channel: WorkerConnection(channel, owner)
        )


class WorkerConnection:
    """One worker, as the owner sees it."""

    def __init__(self, channel: Channel, owner: CallOwner) -> None:
        self._owner = owner
        self._client = Client(lambda number, answer: channel.send((number, answer)))

    def receive(self, messages: Sequence[ClientMessage]) -> None:
        self._owner.take(self._client, messages)

    def lost(self, cause: str) -> None:
        log.info("the connection to a worker has closed: %s", cause)
        self._owner.lose(self._client)
