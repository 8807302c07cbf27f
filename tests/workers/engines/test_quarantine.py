"""Calls that were in several engine deaths: they are suspected, run alone and are quarantined.

Time is virtual, and a call that would wait forever is an error of the loop.
"""

import asyncio

import pytest

from agents.core.errors import CallQuarantined, ReplicaLost
from tests import virtual_time
from tests.virtual_time import in_virtual_time
from tests.workers.engines.calls import Driver, asking, client_of, retrying, view
from tests.workers.engines.connections import Replica, reply_to, request
from workers.engines import clients

pytestmark = pytest.mark.usefixtures("virtual_clock")


@pytest.mark.parametrize("count", [1, 3])
def test_a_call_that_kills_engines_is_quarantined_and_its_neighbours_are_served(count):
    async def main():
        client = client_of(room=10)
        driver = Driver([client], count, poison=("poison",))
        watching = asyncio.create_task(driver.run())
        words = [f"c{i}" for i in range(40)] + ["poison"]
        tasks = [asyncio.create_task(retrying(lambda w=w: client.ask("one way", request(w)), 5))
                 for w in words]  # fmt: skip
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [reply for reply, _ in found[:-1]] == [reply_to(w) for w in words[:-1]]
        assert isinstance(found[-1], CallQuarantined)
        assert driver.deaths + sum(r is not None and bool(r.cause) for r in driver.replicas) == 3
        assert client.losses.quarantined == 1
        with pytest.raises(CallQuarantined):  # no fourth engine for the same call
            await client.ask("one way", request("poison"))
        watching.cancel()

    virtual_time.run(main())


@in_virtual_time
async def test_equal_calls_in_one_death_do_not_make_two_of_it():
    one, two = Replica("one", 0, seconds=20), Replica("two", 0, seconds=20)
    client = client_of(one)
    tasks = [asyncio.create_task(retrying(lambda: client.ask("r", request("hello")), 5))
             for _ in range(4)]  # fmt: skip
    await asyncio.sleep(1)
    one.die()
    await asyncio.sleep(1)
    client.update(view(two))
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*tasks)
    assert asyncio.get_running_loop().time() - began < 25  # side by side, not one at a time


@in_virtual_time
async def test_suspected_calls_run_one_at_a_time_and_a_reply_clears_them():
    first, second = Replica("1", 0, seconds=9), Replica("2", 0, seconds=9)
    third = Replica("3", 0)
    client = client_of(first)
    tasks = [asyncio.create_task(retrying(lambda w=f"c{i}": client.ask("r", request(w)), 5))
             for i in range(3)]  # fmt: skip
    for dying, fresh in ((first, second), (second, third)):
        await asyncio.sleep(1)
        dying.die()
        await asyncio.sleep(0.1)
        client.update(view(fresh))
    began = asyncio.get_running_loop().time()
    found = await asyncio.gather(*tasks)
    assert [reply for reply, _ in found] == [reply_to(f"c{i}") for i in range(3)]
    assert asyncio.get_running_loop().time() - began > 3
    assert third.peak == 1
    assert (client.losses.calls, client.losses.quarantined) == (6, 0)
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(asking(client, f"c{i}") for i in range(3)))
    assert asyncio.get_running_loop().time() - began < 2


@in_virtual_time
async def test_a_suspect_that_had_not_begun_is_only_lost_again():
    client = client_of(Replica("0", seconds=9))
    for number in range(2):
        task = asking(client, "a")
        await asyncio.sleep(1)
        client._links[0].lost("died")
        with pytest.raises(ReplicaLost):
            await task
        client.update(view(Replica(str(number + 1), seconds=9)))
    busy = Replica("busy")
    await busy.clients.solo.acquire()  # another process has a suspect in it
    client.update(view(busy))
    task = asking(client, "a")
    await asyncio.sleep(1)
    client.update(view(Replica("last")))
    with pytest.raises(ReplicaLost) as found:
        await task
    assert not isinstance(found.value, CallQuarantined)
    assert await client.ask("a", request("a")) == reply_to("a")


@in_virtual_time
async def test_a_cancelled_suspect_gives_its_turn_to_the_next():
    client = client_of(Replica("0", seconds=9))
    client._deaths.update({clients._digest(request(w)): {"x", "y"} for w in "ab"})
    first, second = asking(client, "a"), asking(client, "b")
    await asyncio.sleep(1)
    first.cancel()
    assert await second == reply_to("b")
