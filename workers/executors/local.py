"""The executor `local`: one worker in the driver's own process, for debugging and fast tests."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.tasks import Task
from workers.artifacts.store import Prepared
from workers.cache.client import CallCache, in_process
from workers.cache.entries import Damage
from workers.cache.owner import CallOwner
from workers.cache.store import CallStore
from workers.engines.clients import EngineViews
from workers.executors.pool import Report, TaskPool
from workers.job import Job
from workers.kinds.handlers import TaskRunner
from workers.resources import Resources
from workers.results.bundles import BundleWriter


class LocalWorker:
    """A pool in this process, with the interface of a remote worker."""

    def __init__(self, job: Job, name: str, slots: int) -> None:
        self.name = name
        self.slots = slots
        self._owners: list[CallOwner] = []
        cache = None
        if job.cache is not None:
            shards = range(job.cache.shards)
            self._owners = [CallOwner(CallStore(job.cache, shard)) for shard in shards]
            cache = CallCache([in_process(owner) for owner in self._owners])
        runner = TaskRunner(Resources(job, cache=cache))
        self._pool = TaskPool(runner, BundleWriter(job.folder, job.epoch, name), slots)

    async def provide(self, artifacts: Sequence[Prepared]) -> None:
        self._pool.provide(artifacts)

    async def add(self, tasks: Sequence[Task]) -> None:
        self._pool.add(tasks)

    async def resize(self, slots: int, processes: int) -> None:
        self.slots = slots
        self._pool.resize(slots)

    async def withdraw(self) -> None:
        self._pool.withdraw()

    async def update_engines(self, view: EngineViews) -> None:
        """Does nothing: its engines are its own."""

    async def report(self, wait: float, drain: bool) -> Report:
        return await self._pool.report(wait, drain)

    async def stop(self) -> Report:
        return await self._pool.stop()

    async def seal(self) -> Damage:
        """Adds what is new to the shared cache. Raises StoreError."""
        return Damage.of([await owner.seal() for owner in self._owners])

    def close(self) -> None:
        """Closes the cache's files."""
        for owner in self._owners:
            owner.close()

    def abandon(self) -> None:
        """Does nothing: nothing outlives this process."""
