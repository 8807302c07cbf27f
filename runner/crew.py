"""The processes of a run: workers for the dialogues, and engines for the models."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

from agents.core.errors import CrsweepError
from runner.engines import Seating
from runner.placement import Node
from runner.scheduler import Worker
from workers.backends.core import ClusterNode, EngineSpec
from workers.backends.vllm.fleet import Fleet, Handle
from workers.episodes import Job
from workers.local import LocalWorker

if TYPE_CHECKING:
    from workers.on_ray import RayWorker

log = logging.getLogger(__name__)


class Crew(Protocol):
    """Makes and ends processes. `lost` is what a worker raises when its process is gone."""

    lost: type[Exception]
    nodes: Sequence[Node]
    """Where engines can go; none where they start in the driver's own process."""
    cpu: bool
    """Whether CPU slots stand in for GPUs."""

    async def spawn(self) -> Worker: ...
    def launch(self, seating: Seating) -> Fleet: ...
    async def seal(self) -> None:
        """Makes completed calls part of the shared cache. Raises StoreError."""
        ...

    def close(self) -> None: ...


class NeverLost(Exception):
    """A worker in the driver's own process is never lost without it."""


class LocalCrew:
    """One worker in this process. Engines start where they are asked for: here."""

    lost: type[Exception] = NeverLost
    nodes: Sequence[Node] = ()
    cpu = False

    def __init__(self, job: Job, slots: int) -> None:
        self._worker = LocalWorker(job, "w000", slots)

    async def spawn(self) -> Worker:
        return self._worker

    def launch(self, seating: Seating) -> Fleet:
        raise AssertionError("no engine of a local run needs a place")

    async def seal(self) -> None:
        await self._worker.seal()

    def close(self) -> None:
        self._worker.close()


class RayCrew:
    """Actors on a cluster: `count` workers that share `slots` dialogues each, and replicas."""

    def __init__(
        self, job: Job, slots: int, count: int, address: str | None, console: Console
    ) -> None:
        # Ray takes a second to import, and is needed only from here on.
        from workers import on_ray

        console.print("starting Ray ..." if address is None else "joining the Ray cluster ...")
        on_ray.start_ray(address)
        self._ray = on_ray
        self.lost: type[Exception] = on_ray.WorkerLost
        self._job, self._slots, self._count = job, slots, count
        self._workers: list[RayWorker] = []
        self._made = 0
        self._fleet: Fleet | None = None
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._changes = 0  # of what the engines look like
        self._cache = None
        if job.cache is not None:
            self._cache = on_ray.RayCache(job.cache, count, job.folder.logs)
        found = on_ray.cluster_nodes()
        self.nodes: Sequence[Node]
        self.nodes, self.cpu = cluster(found)
        self._cores = {node.node_id: node.cpus for node in found}

    async def spawn(self) -> Worker:
        name = f"w{self._made:03d}"
        self._made += 1
        owners = self._cache.owners if self._cache else []
        worker = self._ray.RayWorker(self._job, name, self._slots, self._count, owners)
        self._workers.append(worker)
        await worker.start()
        if self._fleet is not None:
            self._tell(worker)
        return worker

    def launch(self, seating: Seating) -> Fleet:
        """The engines of the run, none loaded yet."""

        def start(spec: EngineSpec, index: int) -> Handle:
            seat = seating.seats[spec.key][index]
            neighbours = Counter(s.node for seats in seating.seats.values() for s in seats)
            # Half of the cores: each engine has three more processes, and workers run beside it.
            share = max(1, self._cores[seat.node] // neighbours[seat.node] // 2)
            safe = "".join(c if c.isalnum() else "_" for c in spec.label)
            name = f"{self._job.epoch:06d}-{safe}-{spec.key[:6]}-{index}"
            return self._ray.RayReplica(
                spec, name, seat.node, self._job.folder.logs, share if self.cpu else None
            )

        self._fleet = Fleet(seating.specs, start, self._tell_all)
        return self._fleet

    async def seal(self) -> None:
        """Makes completed calls part of the shared cache. Raises StoreError."""
        if self._cache is not None:
            await self._cache.seal()

    def close(self) -> None:
        workers, self._workers = self._workers, []  # nobody is told any more
        for task in self._telling.values():
            task.cancel()
        if self._fleet is not None:
            self._fleet.close()
        for worker in workers:
            worker.abandon()
        if self._cache is not None:
            self._cache.close()
        self._ray.stop_ray()

    def _tell_all(self) -> None:
        self._changes += 1
        for worker in self._workers:
            self._tell(worker)

    def _tell(self, worker: RayWorker) -> None:
        if worker.name not in self._telling:
            self._telling[worker.name] = asyncio.create_task(self._keep_told(worker))

    async def _keep_told(self, worker: RayWorker) -> None:
        """Tells one change after the other, so that none is overtaken by an older one."""
        assert self._fleet is not None
        told = 0
        try:
            while told < self._changes:
                told = self._changes
                await worker.update_engines(self._fleet.view())
        except CrsweepError as error:
            log.error("worker %s was not told of the engines: %s", worker.name, error.message)
        finally:
            self._telling.pop(worker.name, None)


def cluster(found: Sequence[ClusterNode]) -> tuple[list[Node], bool]:
    """The nodes that engines can go to, and whether CPU slots stand in for GPUs."""
    with_gpus = [Node(node.node_id, node.gpus) for node in found if node.gpus]
    if with_gpus:
        return with_gpus, False
    return [Node(node.node_id, max(1, node.cpus)) for node in found], True
