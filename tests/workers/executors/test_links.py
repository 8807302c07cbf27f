"""Workers and replicas that are out of reach for a while: no call has its effect twice."""

import asyncio

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from agents.core.errors import ReplicaLost
from tests.virtual_time import TIME, in_virtual_time
from workers.executors import on_ray
from workers.executors.on_ray import EpisodeWorker, RayWorker, WorkerLost


@pytest.fixture(autouse=True)
def virtual(monkeypatch):
    monkeypatch.setattr(on_ray, "time", TIME)


class Far:
    """An actor behind a link: of its first answers `lost` do not arrive, or nothing ever does."""

    def __init__(self, lost=0, dies=False):
        self.worker = object.__new__(EpisodeWorker)
        self.worker._last = {}
        self.worker.report = self.report
        self.lost, self.dies, self.did = lost, dies, []
        self.once = self

    async def report(self, wait, drain):
        self.did.append(wait)
        await asyncio.sleep(wait)
        return f"report {len(self.did)}"

    async def remote(self, *given):
        answer = await self.worker.once(*given)
        if self.lost > 0:
            self.lost -= 1
            raise ActorUnavailableError("the link is cut", None)
        if self.dies:
            raise ActorDiedError()
        return answer


def near(far):
    worker = object.__new__(RayWorker)
    worker._number, worker._actor = 0, far
    return worker


@in_virtual_time
async def test_an_answer_that_was_lost_is_given_again_and_nothing_is_done_twice():
    far = Far(lost=3)
    worker = near(far)
    assert await worker.report(0.25, False) == "report 1"
    assert await worker.report(0.5, False) == "report 2"
    assert far.did == [0.25, 0.5]


@in_virtual_time
async def test_a_call_that_comes_again_while_it_is_being_done_waits_for_the_one_answer():
    far = Far()
    first, second = await asyncio.gather(
        far.worker.once(1, "report", 5.0, False), far.worker.once(1, "report", 5.0, False)
    )
    assert (first, second, far.did) == ("report 1", "report 1", [5.0])


@in_virtual_time
async def test_a_worker_that_is_gone_or_stays_out_of_reach_is_lost():
    with pytest.raises(WorkerLost):
        await near(Far(dies=True)).report(0.25, False)
    began = asyncio.get_running_loop().time()
    with pytest.raises(WorkerLost):
        await near(Far(lost=10**6)).report(0.25, False)
    assert 300 <= asyncio.get_running_loop().time() - began < 310


@in_virtual_time
async def test_a_replica_that_is_out_of_reach_for_seconds_is_not_lost():
    far = Far(lost=4)
    assert await on_ray._or_lost(lambda: far.remote(1, "report", 0.0, False)) == "report 1"
    with pytest.raises(ReplicaLost):
        await on_ray._or_lost(lambda: Far(dies=True).remote(1, "report", 0.0, False))
