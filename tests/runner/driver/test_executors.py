"""Workers that are started while the cluster dies."""

import asyncio
from types import SimpleNamespace

import pytest

from agents.core.errors import StoreError
from runner.driver.engine_loader import LoadedEngines
from runner.driver.executors import RayExecutor
from runner.placement.packing import Allocation
from tests import virtual_time
from tests.runner.placement.world import spec


class Cluster(RayExecutor):
    """Its own node is alive until that moment of the event loop; it has no Ray."""

    def __init__(self, end: float) -> None:
        self._cluster = SimpleNamespace(  # type: ignore[assignment]
            has_own_node=lambda: asyncio.get_running_loop().time() < end
        )


def worker(seconds: float):
    """One that takes so long to start."""

    async def start() -> int:
        await asyncio.sleep(seconds)
        return 1

    return SimpleNamespace(start=start)


async def started(alive: float, needed: float) -> float:
    """When the worker has started, in seconds from now."""
    began = asyncio.get_running_loop().time()
    await Cluster(began + alive)._started(worker(needed))  # type: ignore[arg-type]
    return asyncio.get_running_loop().time() - began


def test_a_worker_that_can_never_start_since_the_raylet_is_dead_ends_the_run():
    with pytest.raises(StoreError, match="raylet on this machine has died"):
        virtual_time.run(started(alive=12.0, needed=1e9))


def test_a_worker_may_take_its_time_to_start():
    assert virtual_time.run(started(alive=1e9, needed=500.0)) == pytest.approx(500.0)


class Replica:
    """Notes how many cores it was given; it never loads."""

    def __init__(self, engine, name, node, log_folder, cpu_share, environment):
        self.cores = cpu_share
        REPLICAS[engine.key] = self

    async def hello(self, known, wait):
        await asyncio.Event().wait()

    def kill(self, *, restart):
        pass


REPLICAS: dict[str, Replica] = {}


class GpuNode(RayExecutor):
    """One node with a GPU and 16 cores, without Ray."""

    def __init__(self) -> None:
        self._ray = SimpleNamespace(RayReplica=Replica)  # type: ignore[assignment]
        self._job = SimpleNamespace(epoch=1, folder=SimpleNamespace(logs=None))  # type: ignore[assignment]
        self._cores, self.cpu, self._mixed = {"n": 16}, False, False
        self._environment = None  # type: ignore[assignment]
        self._changes, self._workers = 0, []


def test_an_engine_that_takes_no_gpu_has_cores_where_others_have_gpus():
    specs = [spec("llama", gpus=1.0), spec("t5", gpus=0.0)]
    residents = LoadedEngines(specs)
    for each in specs:
        residents.allocations[each.key] = (Allocation(each.key, 0, "n", each.gpus, 0),)

    async def main():
        fleet = GpuNode().launch(residents)
        for each in specs:
            fleet.load(each.key)
        fleet.close()

    asyncio.run(main())
    # Half of the cores are for engines, shared by the two.
    assert (REPLICAS["llama"].cores, REPLICAS["t5"].cores) == (None, 4)
