"""The processes of a run: workers for the dialogues, and engines for the models."""

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
from runner.driver.engine_loader import Residents
from runner.driver.scheduler import Worker
from runner.placement.cluster import cluster
from runner.placement.packing import Node
from workers.artifacts.fits import FitSpec, Steps, fit_beside
from workers.artifacts.store import Prepared
from workers.backends.core.backend import EngineSpec
from workers.backends.vllm.client.fleet import Fleet, Handle
from workers.cache.entries import Damage
from workers.core.environment import Environment
from workers.executors.local import LocalWorker
from workers.job import Job

if TYPE_CHECKING:
    from workers.executors.on_ray import RayWorker, Shared

log = logging.getLogger(__name__)

_LOOK_EVERY = 5.0  # seconds between two looks whether a worker can still start


class Executor(Protocol):
    """Makes and ends processes. `lost` is what a worker raises when its process is gone."""

    lost: type[Exception]
    nodes: Sequence[Node]
    """Where engines can go; none where they start in the driver's own process."""
    cpu: bool
    """Whether CPU slots stand in for GPUs."""

    fits_at_once: int
    """How many fits may be begun at once; those without room wait."""

    async def spawn(self) -> Worker: ...
    def launch(self, residents: Residents) -> Fleet: ...
    def fit(self, task: FitSpec, state: Content | None, among: int) -> Steps:
        """The steps of a fit, one `among` so many that share the machines."""
        ...

    async def provide(self, artifacts: Sequence[Prepared]) -> None:
        """Gives artifacts to all workers, those that are still to be made too."""
        ...

    async def seal(self) -> Damage:
        """Makes completed calls part of the shared cache; what is damaged there. Raises
        StoreError."""
        ...

    def close(self) -> None: ...


class NeverLost(Exception):
    """A worker in the driver's own process is never lost without it."""


class LocalExecutor:
    """One worker in this process. Engines start where they are asked for: here."""

    lost: type[Exception] = NeverLost
    nodes: Sequence[Node] = ()
    cpu = False
    fits_at_once = 1

    def __init__(self, job: Job, slots: int) -> None:
        self._worker = LocalWorker(job, "w000", slots)

    async def spawn(self) -> Worker:
        return self._worker

    def launch(self, residents: Residents) -> Fleet:
        raise AssertionError("engines of a local run need no placement")

    def fit(self, task: FitSpec, state: Content | None, among: int) -> Steps:
        return fit_beside(task, state)

    async def provide(self, artifacts: Sequence[Prepared]) -> None:
        await self._worker.provide(artifacts)

    async def seal(self) -> Damage:
        return await self._worker.seal()

    def close(self) -> None:
        self._worker.close()


class RayExecutor:
    """Actors on a cluster: `count` workers that share `slots` dialogues each, and replicas.

    Each fit gets `fit_gpus`.
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
    ) -> None:
        # Ray takes a second to import, and is needed only from here on.
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
        self._fleet: Fleet | None = None
        self._informing: dict[str, asyncio.Task[None]] = {}
        self._changes = 0  # of what the engines look like
        self._cache = None
        if job.cache is not None:
            self._cache = on_ray.RayCache(job.cache, count, job.folder.logs)
        found = ray_cluster.cluster_nodes()
        self.nodes: Sequence[Node]
        self.nodes, self.cpu = cluster(found)
        self._cores = {node.node_id: node.cpus for node in found}

    async def spawn(self) -> Worker:
        name = f"w{self._made:03d}"
        self._made += 1
        owners = self._cache.owners if self._cache else []
        worker = self._ray.RayWorker(
            self._job, name, self._slots, self._count, owners, self._environment
        )
        self._workers.append(worker)
        await self._started(worker)
        await worker.provide(self._shared)
        if self._fleet is not None:
            self._inform(worker)
        return worker

    async def _started(self, worker: RayWorker) -> None:
        """Returns when the worker has started. StoreError if it never can."""
        start = asyncio.ensure_future(worker.start())
        while not (await asyncio.wait([start], timeout=_LOOK_EVERY))[0]:
            if not self._cluster.has_own_node():
                start.cancel()
                raise StoreError("Ray's raylet on this machine has died, and all workers with it")
        await start

    def launch(self, residents: Residents) -> Fleet:
        """The engines of the run, none loaded yet."""

        def start(spec: EngineSpec, index: int) -> Handle:
            where = residents.allocations[spec.key][index]
            neighbours = Counter(
                one.node for every in residents.allocations.values() for one in every
            )
            # Half of the cores: each engine has three more processes, and workers run beside it.
            share = max(1, self._cores[where.node] // neighbours[where.node] // 2)
            safe = "".join(c if c.isalnum() else "_" for c in spec.label)
            name = f"{self._job.epoch:06d}-{safe}-{spec.key[:6]}-{index}"
            return self._ray.RayReplica(
                spec,
                name,
                where.node,
                self._job.folder.logs,
                share if self.cpu else None,
                self._environment,
            )

        self._fleet = Fleet(residents.specs, start, self._inform_all)
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
            # One that is lost is missed by whoever serves it; its successor is given all.
            with suppress(self.lost):
                await worker.provide(new)

    async def seal(self) -> Damage:
        return Damage() if self._cache is None else await self._cache.seal()

    def close(self) -> None:
        workers, self._workers = self._workers, []  # nobody is told any more
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
        """Tells one change after the other, so that none is overtaken by an older one."""
        assert self._fleet is not None
        told = 0
        try:
            while told < self._changes:
                told = self._changes
                await worker.update_engines(self._fleet.view())
        except CrsweepError as error:
            log.error("cannot inform worker %s about the engines: %s", worker.name, error.message)
        finally:
            self._informing.pop(worker.name, None)
