"""The processes of a run: workers for dialogues, and engines for models."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

from agents.core.artifacts import Content
from agents.core.errors import CrsweepError, StoreError
from runner.driver.engine_loader import LoadedEngines
from runner.driver.scheduler import ElasticWorkers, Worker
from runner.placement.cluster import cluster
from runner.placement.elastic import (
    capped,
    main_type,
    of_type,
    without_others,
    worker_changes,
)
from runner.placement.packing import Node
from workers.artifacts.fits import FitSpec, Steps, fit_in_child
from workers.artifacts.store import Prepared
from workers.backends.core.backend import ClusterNode, EngineSpec
from workers.cache.entries import Damage
from workers.core.environment import Environment
from workers.engines.fleet import Fleet, ReplicaHandle
from workers.executors.local import LocalWorker
from workers.job import Job

if TYPE_CHECKING:
    from workers.executors.on_ray import RayWorker, Shared

log = logging.getLogger(__name__)

_LOOK_EVERY = 5.0  # seconds between two looks whether a worker can still start


class Executor(Protocol):
    """Creates and ends processes. `lost` is the error that a worker raises if its
    process is gone."""

    lost: type[Exception]
    nodes: Sequence[Node]
    """Where engines can be placed; empty if they start in the driver's own process."""
    cpu: bool
    """Whether CPU slots replace GPUs."""

    fits_at_once: int
    """How many fits may be started at once; those that do not fit wait."""

    async def spawn(self) -> Worker: ...
    async def begin(self) -> list[Worker]:
        """Starts the workers of a run, as far as there are nodes for them."""
        ...

    async def replace(self, lost: Worker) -> Worker | None:
        """Starts a replacement for a lost worker; None if its node is gone and others continue."""
        ...

    @property
    def elastic_workers(self) -> ElasticWorkers | None:
        """Workers that come and go; None if their number is fixed."""
        ...

    def launch(self, residents: LoadedEngines) -> Fleet: ...
    def engine_nodes(self) -> list[ClusterNode]:
        """The nodes where engines can currently be placed."""
        ...

    def fit(self, task: FitSpec, state: Content | None, among: int) -> Steps:
        """The steps of a fit, which shares the machines with `among` others."""
        ...

    async def provide(self, artifacts: Sequence[Prepared]) -> None:
        """Gives artifacts to all workers, including later ones."""
        ...

    async def seal(self) -> Damage:
        """Adds completed calls to the shared cache, and returns the damage found. Raises
        StoreError."""
        ...

    def close(self) -> None: ...


class NeverLost(Exception):
    """Never raised: a worker in the driver's own process cannot be lost separately."""


class LocalExecutor:
    """One worker in this process. Engines also start here."""

    lost: type[Exception] = NeverLost
    nodes: Sequence[Node] = ()
    cpu = False
    fits_at_once = 1

    def __init__(self, job: Job, slots: int) -> None:
        self._worker = LocalWorker(job, "w000", slots)

    elastic_workers = None

    async def spawn(self) -> Worker:
        return self._worker

    async def begin(self) -> list[Worker]:
        return [await self.spawn()]

    async def replace(self, lost: Worker) -> Worker | None:
        return await self.spawn()

    def engine_nodes(self) -> list[ClusterNode]:
        return []

    def launch(self, residents: LoadedEngines) -> Fleet:
        raise AssertionError("engines of a local run need no placement")

    def fit(self, task: FitSpec, state: Content | None, among: int) -> Steps:
        return fit_in_child(task, state)

    async def provide(self, artifacts: Sequence[Prepared]) -> None:
        await self._worker.provide(artifacts)

    async def seal(self) -> Damage:
        return await self._worker.seal()

    def close(self) -> None:
        self._worker.close()


class RayExecutor:
    """Actors on a cluster: `count` workers that share `slots` dialogues, and replicas.

    Each fit gets `fit_gpus`. Engines use at most `gpus`, of one type unless `mixed`. If `elastic`,
    `count` is only the initial number: every node gets a worker, including nodes that join later.
    """

    fits_at_once = 64

    def __init__(
        self,
        job: Job,
        slots: int,
        count: int,
        address: str | None,
        fit_gpus: float,
        environment: Environment,
        console: Console,
        *,
        elastic: bool = False,
        gpus: float | None = None,
        mixed: bool = False,
    ) -> None:
        # Importing Ray takes a second, and it is needed only from here on.
        from workers.executors import on_ray, ray_cluster

        console.print("starting Ray ..." if address is None else "joining the Ray cluster ...")
        ray_cluster.start_ray(address)
        self._ray, self._cluster = on_ray, ray_cluster
        self.lost: type[Exception] = on_ray.WorkerLost
        self._job, self._slots, self._count = job, slots, count
        self._fit_gpus, self._environment = fit_gpus, environment
        self._shared: list[Shared] = []
        self._workers: list[RayWorker] = []
        self._made = 0
        self._console, self._elastic = console, elastic
        self._leaving: set[str] = set()  # names of workers whose nodes are leaving
        self._fleet: Fleet | None = None
        self._informing: dict[str, asyncio.Task[None]] = {}
        self._changes = 0  # of what the engines look like
        self._cache = None
        if job.cache is not None:
            self._cache = on_ray.RayCache(job.cache, count, job.folder.logs)
        self._residents = LoadedEngines(())
        self._most_gpus, self._mixed = gpus, mixed
        found = ray_cluster.cluster_nodes()
        self.nodes: Sequence[Node]
        self._gpu_type = main_type(found)
        allowed = self._allowed(found)
        self.nodes, self.cpu = cluster(capped(allowed, gpus))
        self._cores = {node.node_id: node.cpus for node in found}

    def _allowed(self, nodes: Sequence[ClusterNode]) -> list[ClusterNode]:
        """The nodes that engines may use; if the cluster is shared, without the GPUs held by other
        sweeps."""
        if not self._mixed:
            nodes = of_type(nodes, self._gpu_type)
        if self._most_gpus is None and not self._residents.specs:
            return list(nodes)
        mine: Counter[str] = Counter()
        for allocations in self._residents.allocations.values():
            for one in allocations:
                mine[one.node] += one.gpus  # type: ignore[assignment]  (shares)
        return without_others(nodes, self._cluster.free_gpus(), mine)

    def engine_nodes(self) -> list[ClusterNode]:
        """The nodes that engines may use now, with the GPUs or CPU slots available to this run."""
        found = self._cluster.cluster_nodes()
        self._cores |= {node.node_id: node.cpus for node in found}
        if self.cpu:
            return [node._replace(gpus=max(1, node.cpus)) for node in found]
        return self._allowed(found)

    async def begin(self) -> list[Worker]:
        if not self._elastic:
            return [await self.spawn() for _ in range(self._count)]
        changes = worker_changes(self._cluster.cluster_nodes(), {})
        return [await self.spawn(node) for node in changes.start]

    async def replace(self, lost: Worker) -> Worker | None:
        self._workers = [worker for worker in self._workers if worker.name != lost.name]
        if not self._elastic:
            return await self.spawn()
        if self._workers:
            return None  # `joined` notices missing workers and their nodes
        return await self.spawn(self._cluster.own_node())

    @property
    def elastic_workers(self) -> ElasticWorkers | None:
        return self if self._elastic else None

    async def joined(self) -> list[Worker]:
        """Starts workers on nodes that have none, and records which nodes are leaving."""
        nodes = self._cluster.cluster_nodes()
        at = {worker.name: worker.node or "" for worker in self._workers}
        changes = worker_changes(nodes, at)
        for name in set(changes.end) - self._leaving:
            self._console.print(f"the node of worker {name} leaves the cluster")
        self._leaving = set(changes.end)
        found: list[Worker] = []
        for node in changes.start:
            try:
                found.append(await self.spawn(node))
            except self.lost as error:  # it was gone before it was used
                log.warning("no worker starts on node %s: %s", node, error)
            else:
                self._console.print(f"worker {found[-1].name} has joined, on node {node[:12]}")
        return found

    def leaves(self, worker: Worker) -> bool:
        return worker.name in self._leaving

    def left(self, worker: Worker) -> None:
        self._workers = [one for one in self._workers if one.name != worker.name]
        self._leaving.discard(worker.name)
        worker.abandon()

    async def spawn(self, node: str | None = None) -> Worker:
        name = f"w{self._made:03d}"
        self._made += 1
        owners = self._cache.owners if self._cache else []
        worker = self._ray.RayWorker(
            self._job, name, self._slots, self._count, owners, self._environment, node
        )
        self._workers.append(worker)
        try:
            await self._started(worker)
        except self.lost:
            self._workers.remove(worker)
            raise
        await worker.provide(self._shared)
        if self._fleet is not None:
            self._inform(worker)
        return worker

    async def _started(self, worker: RayWorker) -> None:
        """Waits until the worker has started. Raises StoreError if it never can."""
        start = asyncio.ensure_future(worker.start())
        while not (await asyncio.wait([start], timeout=_LOOK_EVERY))[0]:
            if not self._cluster.has_own_node():
                start.cancel()
                raise StoreError("Ray's raylet on this machine has died, and all workers with it")
        await start

    def launch(self, residents: LoadedEngines) -> Fleet:
        """The engines of the run; none is loaded yet."""

        def start(spec: EngineSpec, index: int) -> ReplicaHandle:
            where = next(a for a in residents.allocations[spec.key] if a.replica == index)
            neighbours = Counter(
                one.node for every in residents.allocations.values() for one in every
            )
            # Half of the cores: each engine has three more processes, and workers need some.
            share = max(1, self._cores[where.node] // neighbours[where.node] // 2)
            safe = "".join(c if c.isalnum() else "_" for c in spec.label)
            name = f"{self._job.epoch:06d}-{safe}-{spec.key[:6]}-{index}"
            return self._ray.RayReplica(
                spec,
                name,
                where.node,
                self._job.folder.logs,
                share if self.cpu or not spec.gpus else None,
                self._environment,
            )

        self._residents = residents
        self._fleet = Fleet(residents.specs, start, self._inform_all, mixed=self._mixed)
        return self._fleet

    def fit(self, task: FitSpec, state: Content | None, among: int) -> Steps:
        # All cores of a machine for one fit alone, a share of them for one of several.
        cpus = max(1, max(self._cores.values(), default=1) // among)
        return self._ray.fit_on_ray(task, state, cpus=cpus, gpus=self._fit_gpus)

    async def provide(self, artifacts: Sequence[Prepared]) -> None:
        new = [self._ray.share(artifact) for artifact in artifacts]
        replaced = {each.key for each in new}  # the weights of a training loop change
        self._shared = [each for each in self._shared if each.key not in replaced] + new
        for worker in list(self._workers):
            # The loop that serves a worker notices its loss; its successor is given everything.
            with suppress(self.lost):
                await worker.provide(new)

    async def seal(self) -> Damage:
        return Damage() if self._cache is None else await self._cache.seal()

    def close(self) -> None:
        workers, self._workers = self._workers, []  # no more changes are sent to them
        for task in self._informing.values():
            task.cancel()
        if self._fleet is not None:
            self._fleet.close()
        for worker in workers:
            worker.abandon()
        if self._cache is not None:
            self._cache.close()
        self._cluster.stop_ray()

    def _inform_all(self) -> None:
        self._changes += 1
        for worker in self._workers:
            self._inform(worker)

    def _inform(self, worker: RayWorker) -> None:
        if worker.name not in self._informing:
            self._informing[worker.name] = asyncio.create_task(self._keep_informed(worker))

    async def _keep_informed(self, worker: RayWorker) -> None:
        """Sends changes in order, so that an older one never overtakes a newer one."""
        assert self._fleet is not None
        sent = 0
        try:
            while sent < self._changes:
                sent = self._changes
                await worker.update_engines(self._fleet.view())
        except CrsweepError as error:
            log.error("cannot inform worker %s about the engines: %s", worker.name, error.message)
        finally:
            self._informing.pop(worker.name, None)
