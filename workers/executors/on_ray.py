"""The executor `ray`: episode workers, replicas and the call cache as actors."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agents.core.artifacts import Content, Progress, Recipe
from agents.core.errors import CrsweepError, ReplicaLost, StoreError
from sweeps.tasks import Task
from workers.artifacts.fits import FitLost, FitSpec, Steps, fit_steps
from workers.artifacts.store import Prepared
from workers.backends.core.backend import EngineSpec
from workers.backends.core.watchdog import Counts
from workers.cache.actor import CacheActor
from workers.cache.client import CallCache, over_network
from workers.cache.entries import Damage
from workers.cache.store import Places
from workers.core.environment import Environment
from workers.engines.clients import Engines, EngineViews
from workers.engines.replica import ModelReplica, ReplicaStatus
from workers.executors.pool import Report, TaskPool
from workers.executors.ray_inputs import shared
from workers.job import Job
from workers.kinds.handlers import TaskRunner
from workers.processes.channel import Address, connect
from workers.processes.logs import log_to
from workers.processes.parent_watch import end_with_parent
from workers.resources import Resources
from workers.results.bundles import BundleWriter

log = logging.getLogger(__name__)

_ADDRESS_SECONDS = 30.0
# That a worker may be out of reach. Ray finds out earlier whether its node is gone.
_UNREACHED_SECONDS = 300.0
_AGAIN_SECONDS = 1.0


class WorkerLost(Exception):
    """The process of a worker is gone; what it had not committed runs again."""


class Shared(NamedTuple):
    """A `Prepared` whose content is in Ray's object store, with one copy per node."""

    key: str
    digest: str
    recipe: Recipe
    content: Any


def share(artifact: Prepared) -> Shared:
    """Puts an artifact where workers on any node can map it."""
    return Shared(artifact.key, artifact.digest, artifact.recipe, ray.put(artifact.content))


class EpisodeWorker:
    """The actor: a pool of slots, with its own bundle writer and log file."""

    def __init__(
        self, job: Job, name: str, slots: int, processes: int, owners: Sequence[Any]
    ) -> None:
        end_with_parent()
        self._job, self._name, self._slots = job, name, slots
        self._owners = owners
        self._engines = Engines(processes, connect)
        self._pool: TaskPool | None = None
        self._last: dict[str, tuple[int, asyncio.Task[Any]]] = {}
        self._artifacts: list[Prepared] = []
        log_to(job.folder.logs, f"{job.epoch:06d}-{name}")
        # Thousands of live rows wait for their bundle. Scanning them for garbage every 700
        # allocations took a seventh of a worker's time.
        gc.set_threshold(50_000, 20, 100)

    async def start(self, environment: Environment) -> int:
        """Creates the pool on the actor's event loop, and returns the pid.

        Keys come in this message, because Ray stores and shows the arguments of an actor.
        """
        environment.take()
        writer = BundleWriter(self._job.folder, self._job.epoch, self._name)
        cache = None
        if self._owners:
            cache = CallCache([over_network(partial(_address_of, owner)) for owner in self._owners])
        resources = Resources(self._job, self._engines, cache)
        resources.provide(self._artifacts)
        self._pool = TaskPool(TaskRunner(resources), writer, self._slots)
        return os.getpid()

    async def update_engines(self, view: EngineViews) -> None:
        self._engines.update(view)

    async def provide(self, artifacts: Sequence[Shared]) -> None:
        """Takes artifacts; their arrays are read from the node's object store."""
        contents = [await shared.content for shared in artifacts]
        new = [
            Prepared(shared.key, shared.digest, shared.recipe, content)
            for shared, content in zip(artifacts, contents, strict=True)
        ]
        replaced = {each.key for each in new}  # the weights of a training loop change
        self._artifacts = [each for each in self._artifacts if each.key not in replaced] + new
        if self._pool is not None:  # otherwise it gets them when it starts
            self._pool.provide(new)

    async def once(self, number: int, method: str, *given: Any) -> Any:
        """The result of a method; a repeated call (whose answer was lost) gets the
        earlier result."""
        last, answer = self._last.get(method, (0, None))
        if answer is None or last != number:
            answer = asyncio.create_task(getattr(self, method)(*given))
            self._last[method] = number, answer
        return await asyncio.shield(answer)

    async def add(self, tasks: Sequence[Task]) -> None:
        assert self._pool is not None
        self._pool.add(tasks)

    async def resize(self, slots: int, processes: int) -> None:
        assert self._pool is not None
        self._engines.share(processes)
        self._pool.resize(slots)

    async def withdraw(self) -> None:
        assert self._pool is not None
        self._pool.withdraw()

    async def report(self, wait: float, drain: bool) -> Report:
        assert self._pool is not None
        return await self._pool.report(wait, drain)

    async def stop(self) -> Report:
        assert self._pool is not None
        return await self._pool.stop()


class RayWorker:
    """The driver's side of one `EpisodeWorker`. Every method raises WorkerLost if it has died.

    `processes` is how many workers share the engines. `owners` are the actors of the call cache.
    Without a `node`, Ray chooses one.
    """

    def __init__(
        self,
        job: Job,
        name: str,
        slots: int,
        processes: int,
        owners: Sequence[Any],
        environment: Environment,
        node: str | None = None,
    ) -> None:
        self.name, self.node = name, node
        self._number = 0
        self.slots = slots
        self._environment = environment
        # No CPUs are reserved: a worker mostly waits for models, and a small machine must be able
        # to start as many as the sweep requests.
        actor: Any = ray.remote(EpisodeWorker)
        on = NodeAffinitySchedulingStrategy(node, soft=False) if node else "SPREAD"
        self._actor = actor.options(
            num_cpus=0, max_restarts=0, max_concurrency=16, scheduling_strategy=on
        ).remote(job, name, slots, processes, owners)

    async def start(self) -> int:
        return await self._get(lambda: self._actor.start.remote(self._environment))

    async def update_engines(self, view: EngineViews) -> None:
        """Sends it the replicas that are up. A lost worker is ignored."""
        try:
            await self._get(lambda: self._actor.update_engines.remote(view))
        except WorkerLost as error:
            log.warning("cannot inform worker %s about the engines: %s", self.name, error)

    async def provide(self, artifacts: Sequence[Shared]) -> None:
        await self._get(lambda: self._actor.provide.remote(artifacts))

    async def add(self, tasks: Sequence[Task]) -> None:
        await self._once("add", list(tasks))

    async def resize(self, slots: int, processes: int) -> None:
        """Changes its number of slots, and of `processes` that share the engines."""
        await self._get(lambda: self._actor.resize.remote(slots, processes))
        self.slots = slots

    async def withdraw(self) -> None:
        await self._get(lambda: self._actor.withdraw.remote())

    async def report(self, wait: float, drain: bool) -> Report:
        return await self._once("report", wait, drain)

    async def stop(self) -> Report:
        return await self._once("stop")

    def abandon(self) -> None:
        """Kills the actor."""
        ray.kill(self._actor)

    async def _once(self, method: str, *given: Any) -> Any:
        self._number += 1
        number = self._number
        return await self._get(lambda: self._actor.once.remote(number, method, *given))

    @staticmethod
    async def _get(call: Callable[[], Any]) -> Any:
        try:
            return await _reached(call)
        except RayTaskError as error:
            # Raised as the pool's own error, because the driver distinguishes errors by class.
            if isinstance(error.cause, CrsweepError):
                raise error.cause from None
            raise StoreError(f"an episode worker failed: {error.cause!r}") from error
        except RayActorError as error:
            raise WorkerLost(str(error).splitlines()[0]) from error


async def _address_of(owner: Any) -> Address:
    """The address of an owner of the call cache. OSError if it is temporarily unreachable,
    StoreError if permanently."""
    try:
        async with asyncio.timeout(_ADDRESS_SECONDS):
            return await owner.address.remote()
    except RayTaskError as error:
        if isinstance(error.cause, CrsweepError):  # a restart would not help
            raise error.cause from None
        raise OSError(f"its actor fails: {error.cause!r}") from error
    except (RayError, TimeoutError) as error:
        raise OSError(f"its actor does not answer: {error!r}") from error


async def _reached(call: Callable[[], Any]) -> Any:
    """An actor's answer, asked for again for `_UNREACHED_SECONDS` while a network failure hides it.

    The actor may have received the call anyway.
    """
    until = time.monotonic() + _UNREACHED_SECONDS
    while True:
        try:
            return await call()
        except ActorUnavailableError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(_AGAIN_SECONDS)


class RayCache:
    """The owners of the call cache, on the driver's node, where the cache's disk is."""

    def __init__(self, places: Places, clients: int, log_folder: Path) -> None:
        actor: Any = ray.remote(CacheActor)
        here = ray.get_runtime_context().get_node_id()
        self.owners = [
            actor.options(
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=-1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
            ).remote(places, shard, clients, log_folder)
            for shard in range(places.shards)
        ]

    async def seal(self) -> Damage:
        """Adds what is new to the shared cache. Raises StoreError."""
        damage: list[Damage] = []
        for owner in self.owners:
            try:
                damage.append(await owner.seal.remote())
            except RayTaskError as error:
                if isinstance(error.cause, CrsweepError):
                    raise error.cause from None
                raise StoreError(f"the call cache cannot be sealed: {error.cause!r}") from error
            except RayActorError as error:
                raise StoreError(str(error).splitlines()[0]) from error
        return Damage.of(damage)

    def close(self) -> None:
        for owner in self.owners:
            ray.kill(owner)


class RayReplica:
    """A replica, as the driver that watches it sees it.

    Without a GPU none is reserved, and Ray need not count CPUs, because the placement has.
    """

    def __init__(
        self,
        spec: EngineSpec,
        name: str,
        node: str | None,
        log_folder: Path,
        cpu_share: int | None,
        environment: Environment,
    ) -> None:
        self._environment = environment
        actor: Any = ray.remote(ModelReplica)
        on = NodeAffinitySchedulingStrategy(node, soft=False) if node else "DEFAULT"
        self._actor = actor.options(
            num_cpus=0,
            num_gpus=0 if cpu_share is not None else spec.gpus,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=1000,
            scheduling_strategy=on,
        ).remote(spec, name, log_folder, cpu_share)

    async def hello(self, known: str | None, wait: float) -> ReplicaStatus:
        return await _or_lost(lambda: self._actor.hello.remote(known, wait, self._environment))

    async def counts(self) -> Counts:
        return await _or_lost(lambda: self._actor.counts.remote())

    def kill(self, *, restart: bool) -> None:
        ray.kill(self._actor, no_restart=not restart)


async def fit_on_ray(task: FitSpec, state: Content | None, *, cpus: int, gpus: float) -> Steps:
    """Fits in a task, wherever there is room. Raises its errors, and FitLost if it dies."""
    # Its process ends with it, so torch and the environment never meet another task.
    remote: Any = ray.remote(max_calls=1)(_fit_steps)
    task = replace(task, inputs=shared(task.inputs))
    steps = remote.options(
        num_cpus=cpus, num_gpus=gpus, max_retries=0, num_returns="streaming"
    ).remote(task, state, gpus > 0)
    try:
        async for step in steps:
            yield await step
    except RayTaskError as error:
        if isinstance(error.cause, CrsweepError):
            raise error.cause from None
        raise FitLost(f"a fault in its task: {error.cause!r}") from error
    except RayError as error:
        raise FitLost(str(error).splitlines()[0]) from error
    finally:
        ray.cancel(steps, force=True)


def _fit_steps(task: FitSpec, state: Content | None, gpu: bool) -> Iterator[Progress]:
    """The remote task."""
    end_with_parent()
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves GPUs visible that it did not assign
    yield from fit_steps(task, state)


async def _or_lost(call: Callable[[], Any]) -> Any:
    """An actor's answer; ReplicaLost if it cannot answer. The caller limits the time."""
    try:
        return await _reached(call)
    except RayTaskError as error:
        raise ReplicaLost(f"a fault in the replica: {error.cause!r}") from error
    except RayError as error:
        raise ReplicaLost(str(error).splitlines()[0]) from error
