"""How a client sends calls to replicas: batches, order, room, cancelling and closing.

Time is virtual, and a call that would wait forever is an error of the loop.
"""

import asyncio
from collections import Counter

import pytest

from agents.core.errors import ContextOverflow, EngineRefused, ReplicaLost
from tests.virtual_time import in_virtual_time
from tests.workers.engines.calls import asking, client_of, view
from tests.workers.engines.connections import Replica, dial, reply_to, request
from workers.engines.clients import Engines, EngineView

pytestmark = pytest.mark.usefixtures("virtual_clock")


@in_virtual_time
async def test_a_burst_travels_in_one_batch_and_each_reply_comes_to_its_own_call():
    replica = Replica(room=100)
    client = client_of(replica, room=100)
    found = await asyncio.gather(*(asking(client, f"c{i}") for i in range(80)))
    assert found == [reply_to(f"c{i}") for i in range(80)]
    assert replica.batches == [80]


@in_virtual_time
async def test_calls_beyond_the_room_wait_here_and_go_in_the_order_in_which_they_came():
    replica = Replica(room=3)
    client = client_of(replica, room=3)
    found = await asyncio.gather(*(asking(client, f"c{i}") for i in range(31)))
    assert len(found) == 31
    assert replica.peak == 3
    assert replica.received == [f"c{i}" for i in range(31)]


@in_virtual_time
async def test_a_late_comer_does_not_overtake_those_who_wait():
    replica = Replica(room=1)
    client = client_of(replica, room=1)
    ended = []

    async def dialogue(name):
        for turn in range(5):
            await client.ask(name, request(f"{name}{turn}"))
            ended.append(name)

    await asyncio.gather(*(dialogue(name) for name in "abc"))
    assert ended == [*"abc"] * 5


@in_virtual_time
async def test_an_error_of_the_call_itself_is_raised_and_frees_its_place():
    client = client_of(Replica(room=1), room=1)
    for _ in range(3):
        with pytest.raises(ContextOverflow):
            await client.ask("r", request("long"))
    assert client.losses.calls == 0


@in_virtual_time
async def test_the_slot_of_a_cancelled_call_is_freed_by_the_replicas_answer():
    replica = Replica(room=2, seconds=5)
    client = client_of(replica, room=2)
    first = [asking(client, f"c{i}") for i in range(2)]
    await asyncio.sleep(1)
    for task in first:
        task.cancel()
    late = asking(client, "late")
    await asyncio.sleep(1)
    assert replica.received == ["c0", "c1"]  # both are still in it
    assert await late == reply_to("late")
    assert await asking(client, "more") == reply_to("more")


@in_virtual_time
async def test_calls_cancelled_while_they_wait_or_are_gathered_are_never_sent():
    replica = Replica(room=1)
    client = client_of(replica, room=1)
    tasks = [asking(client, f"c{i}") for i in range(6)]
    await asyncio.sleep(0)  # c0 is gathered, the others wait
    for task in tasks[:5]:
        task.cancel()
    assert await tasks[5] == reply_to("c5")
    assert replica.received == ["c5"]


@in_virtual_time
async def test_a_wake_up_is_not_lost_with_the_call_that_is_cancelled_in_the_same_moment():
    replica = Replica(room=1)
    client = client_of(replica, room=1)
    running = asking(client, "running")
    waiting = [asking(client, f"c{i}") for i in range(3)]
    running.add_done_callback(lambda _: waiting[0].cancel())
    running.add_done_callback(lambda _: waiting[1].cancel())
    assert await waiting[2] == reply_to("c2")


@in_virtual_time
async def test_a_call_before_any_replica_is_ready_waits_for_it():
    engines = Engines(2, dial)
    client = engines.of("key", "tiny", 8, None)
    task = asking(client, "early")
    await asyncio.sleep(3600)
    assert not task.done()
    engines.update({"other": EngineView(), "key": view(Replica())})
    assert await task == reply_to("early")
    assert engines.of("key", "tiny", 8, None) is client


@in_virtual_time
async def test_since_when_an_engine_is_up_is_known_also_after_a_death():
    engines = Engines(1, dial)
    client = engines.of("key", "tiny", 1, None)
    assert client.up_since == 0
    tasks = [asyncio.create_task(client.ask("r", request(f"c{i}"))) for i in range(2)]
    await asyncio.sleep(600)
    first, spare, last = Replica("1"), Replica("2", 1), Replica("3")
    engines.update({"key": view(first)})
    await asyncio.gather(*tasks)
    engines.update({"key": view(first, spare)})
    await asyncio.sleep(50)
    engines.update({"key": view(spare)})
    assert client.up_since == 600  # there was always one
    engines.update({"key": EngineView()})
    await asyncio.sleep(300)
    began = asyncio.get_running_loop().time()
    engines.update({"key": view(last)})
    assert client.up_since == began > 900


def test_each_process_has_its_share_of_what_the_engine_takes_and_one_at_least():
    engines = Engines(4, dial)
    assert engines.of("a", "a", 30, None).room == 8
    assert engines.of("b", "b", 2, None).room == 1
    assert engines.of("a", "also a", 64, None).room == 16  # as the engine was configured
    assert engines.of("a", "a", 30, None).room == 16


@in_virtual_time
async def test_the_calls_of_a_client_that_is_gone_leave_the_engine():
    replica = Replica(seconds=50)
    gone, stays = client_of(replica), client_of(replica)
    tasks = [asking(gone, f"gone{i}") for i in range(3)]
    other = asking(stays, "stays")
    await asyncio.sleep(1)
    await gone.close()
    await asyncio.sleep(1)
    assert replica.inside == ["stays"]
    assert await other == reply_to("stays")
    await asyncio.gather(*tasks, return_exceptions=True)


@in_virtual_time
async def test_closing_ends_every_call_and_every_task():
    engines = Engines(1, dial)
    client = engines.of("key", "tiny", 2, None)
    engines.update({"key": view(Replica(seconds=50))})
    tasks = [asking(client, f"c{i}") for i in range(5)]
    await asyncio.sleep(1)
    await engines.close()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert Counter(type(one) for one in found) == {ReplicaLost: 2, EngineRefused: 3}
    with pytest.raises(EngineRefused):
        await client.ask("a", request("a"))
    await asyncio.sleep(1)  # the replica notices
    left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    assert left == []
