"""What a client does when a replica or the connection to it is lost.

Time is virtual, and a call that would wait forever is an error of the loop.
"""

import asyncio

import pytest

from agents.core.calls import Completion
from agents.core.errors import EngineRefused, ReplicaLost
from tests import virtual_time
from tests.virtual_time import in_virtual_time
from tests.workers.engines.calls import asking, client_of, retrying, view
from tests.workers.engines.connections import Replica, reply_to, request
from workers.engines.clients import EngineClient, EngineView
from workers.engines.transport import Answered, ReplicaEnding

pytestmark = pytest.mark.usefixtures("virtual_clock")


@pytest.mark.parametrize("last_words", [True, False])
def test_calls_in_a_replica_that_dies_are_lost_at_once_and_go_elsewhere(last_words):
    async def main():
        one, two = Replica("one", 0, seconds=50), Replica("two", 1)
        client = client_of(one, two, room=50)
        tasks = [asyncio.create_task(retrying(lambda w=f"c{i}": client.ask(w, request(w)), 5))
                 for i in range(20)]  # fmt: skip
        await asyncio.sleep(0.5)
        inside = len(one.inside)
        one.die("out of memory", last_words=last_words)
        began = asyncio.get_running_loop().time()
        found = await asyncio.gather(*tasks)
        assert asyncio.get_running_loop().time() - began < 2.5
        assert [reply for reply, _ in found] == [reply_to(f"c{i}") for i in range(20)]
        assert sum(retries for _, retries in found) == inside > 0
        assert client.losses.calls == inside
        assert client.losses.seconds == pytest.approx(0.5 * inside, abs=0.1 * inside)
        assert client.losses.quarantined == 0

    virtual_time.run(main())


@in_virtual_time
async def test_the_cause_of_a_loss_is_named():
    replica = Replica(seconds=5)
    task = asking(client_of(replica), "a")
    await asyncio.sleep(1)
    replica.die("the engine hangs", last_words=True)
    with pytest.raises(ReplicaLost, match="a replica of tiny was lost: the engine hangs"):
        await task


@in_virtual_time
async def test_replies_that_came_with_the_last_words_still_count():
    replica = Replica(seconds=1)
    client = client_of(replica)
    task = asking(client, "a")
    await asyncio.sleep(0.5)
    [link] = client._links.values()
    [number] = link.calls
    link.receive([ReplicaEnding("end"), Answered(number, reply_to("a"))])
    assert await task == reply_to("a")


@in_virtual_time
async def test_calls_that_had_not_left_this_process_are_no_losses():
    one, two = Replica("one"), Replica("two")
    client = client_of(one)
    tasks = [asyncio.create_task(retrying(lambda w=f"c{i}": client.ask(w, request(w)), 1))
             for i in range(3)]  # fmt: skip
    await asyncio.sleep(0)  # they are gathered
    client.update(view(two))
    assert await asyncio.gather(*tasks) == [(reply_to(f"c{i}"), 1) for i in range(3)]
    assert (client.losses.calls, one.received, dict(client._deaths)) == (0, [], {})


@in_virtual_time
async def test_a_replica_that_dies_without_calls_swallows_none_later():
    one = Replica("one")
    client = client_of(one)
    task = asking(client, "a")
    await asyncio.sleep(0.5)
    task.cancel()
    one.die()  # while no call waits for it
    await asyncio.sleep(0.5)
    late = asking(client, "late")
    await asyncio.sleep(1)
    client.update(view(Replica("two")))
    assert await late == reply_to("late")


@in_virtual_time
async def test_calls_made_in_the_moment_of_a_loss_do_not_go_to_the_lost_replica():
    one = Replica("one", seconds=50)
    client = client_of(one, room=50)
    task = asking(client, "a")
    await asyncio.sleep(0.5)
    one.die("x", last_words=True)
    late = []
    for number in range(20):
        late.append(asking(client, f"late{number}"))
        await asyncio.sleep(0)
    with pytest.raises(ReplicaLost):
        await task
    client.update(view(Replica("two")))
    found = await asyncio.gather(*late, return_exceptions=True)
    assert all(isinstance(one, Completion | ReplicaLost) for one in found)


@pytest.mark.parametrize("seen_first", ["loss", "update"])
def test_a_loss_and_the_drivers_report_may_arrive_in_any_order(seen_first):
    async def main():
        one, two = Replica("one", seconds=20), Replica("two")
        client = client_of(one)
        task = asking(client, "a")
        await asyncio.sleep(1)
        if seen_first == "loss":
            one.die()
            await asyncio.sleep(0.1)
        client.update(view())
        with pytest.raises(ReplicaLost):
            await task
        again = asking(client, "a")
        await asyncio.sleep(30)
        client.update(view(two))
        client.update(view(two))  # said twice
        assert await again == reply_to("a")
        assert client.losses.calls == 1

    virtual_time.run(main())


@in_virtual_time
async def test_an_old_view_does_not_bring_a_lost_replica_back_at_once():
    one = Replica("one", 0, seconds=20)
    client = client_of(one)
    task = asking(client, "a")
    await asyncio.sleep(1)
    one.die()
    with pytest.raises(ReplicaLost):
        await task
    client.update(view(one))  # another replica has changed; of this one the driver knows nothing
    again = asking(client, "a")
    await asyncio.sleep(5)
    assert one.dialled == 1
    client.update(view(Replica("two", 0)))
    assert await again == reply_to("a")


@in_virtual_time
async def test_a_connection_that_broke_briefly_is_retried_without_a_report_from_the_driver():
    one = Replica("one", seconds=20)
    client = client_of(one)
    task = asking(client, "a")
    await asyncio.sleep(1)
    one.cut()
    with pytest.raises(ReplicaLost, match="the network is away"):
        await task
    assert await asking(client, "b") == reply_to("b")


@in_virtual_time
async def test_a_replica_that_cannot_be_reached_loses_nothing_but_time_and_is_tried_again():
    one, two = Replica("one", 0), Replica("two", 1)
    one.unreachable = True
    client = client_of(one, two)
    tasks = [asyncio.create_task(retrying(lambda w=f"c{i}": client.ask(w, request(w)), 1))
             for i in range(8)]  # fmt: skip
    found = await asyncio.gather(*tasks)
    assert [reply for reply, _ in found] == [reply_to(f"c{i}") for i in range(8)]
    assert any(retries for _, retries in found)
    assert (client.losses.calls, dict(client._deaths)) == (0, {})
    one.unreachable = False
    await asyncio.sleep(20)
    assert client._ring.size == 2


@in_virtual_time
async def test_whatever_else_breaks_the_connection_is_a_loss_and_leaves_no_caller_waiting():
    async def broken(replica, receiver):
        raise ValueError("cannot be unpickled")

    client = EngineClient("tiny", 4, broken)
    client.update(view(Replica()))
    with pytest.raises(ReplicaLost, match="cannot be unpickled"):
        await client.ask("a", request("a"))


@in_virtual_time
async def test_an_engine_that_has_failed_refuses_what_waits_and_what_comes():
    client = client_of()
    waiting = [asking(client, f"c{i}") for i in range(3)]
    await asyncio.sleep(1)
    waiting[0].cancel()
    client.update(EngineView(failed="no such model"))
    for task in (*waiting[1:], asking(client, "new")):
        with pytest.raises(EngineRefused, match="tiny: no such model"):
            await task
