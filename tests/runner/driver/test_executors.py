"""Workers that are started while the cluster dies."""

import asyncio
from types import SimpleNamespace

import pytest

from agents.core.errors import StoreError
from runner.driver.executors import RayExecutor
from tests import virtual_time


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
