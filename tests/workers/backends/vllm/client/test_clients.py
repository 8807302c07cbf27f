"""The way of a call to a replica: whatever dies, comes and goes, every call ends once.

Time is virtual, and a call that would wait for ever is an error of the loop.
"""

import asyncio
from collections import Counter
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.calls import Completion
from agents.core.errors import CallQuarantined, ContextOverflow, EngineRefused, ReplicaLost
from tests import virtual_time
from tests.workers.backends.vllm.connections import Replica, dial, reply_to, request
from workers.backends.vllm.client import clients
from workers.backends.vllm.client.clients import EngineClient, Engines, EngineView
from workers.backends.vllm.serving.transport import Answered, Dying
from workers.core import retry


@pytest.fixture(autouse=True, scope="module")
def virtual():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "time", virtual_time.TIME)
        yield


def client_of(*replicas, room=4):
    client = EngineClient("tiny", room, dial)
    client.update(EngineView(tuple(replica.ref for replica in replicas)))
    return client


def retrying(call, transient):
    return retry.retrying(call, transient, retry.Patience(60))


def asking(client, words, route=None):
    return asyncio.create_task(client.ask(route or words, request(words)))


def view(*replicas, failed=""):
    return EngineView(tuple(replica.ref for replica in replicas), failed)


def in_virtual_time(test):
    def wrapped():
        virtual_time.run(test())

    wrapped.__name__ = test.__name__
    return wrapped


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
async def test_the_place_of_a_cancelled_call_is_free_when_the_replica_has_answered():
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
    assert engines.of("a", "also a", 64, None).room == 16  # as the engine was told
    assert engines.of("a", "a", 30, None).room == 16


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
async def test_the_cause_of_a_loss_is_told():
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
    link.receive([Dying("end"), Answered(number, reply_to("a"))])
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
async def test_a_replica_that_dies_while_nobody_has_a_call_in_it_swallows_none_later():
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
def test_it_does_not_matter_whether_the_loss_or_the_drivers_word_is_seen_first(seen_first):
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
async def test_a_way_that_broke_for_a_moment_is_tried_again_though_the_driver_saw_nothing():
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
async def test_whatever_else_breaks_the_connection_is_a_loss_and_leaves_nobody_waiting():
    async def broken(replica, receiver):
        raise ValueError("cannot be unpickled")

    client = EngineClient("tiny", 4, broken)
    client.update(view(Replica()))
    with pytest.raises(ReplicaLost, match="cannot be unpickled"):
        await client.ask("a", request("a"))


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
async def test_an_engine_that_has_failed_refuses_what_waits_and_what_comes():
    client = client_of()
    waiting = [asking(client, f"c{i}") for i in range(3)]
    await asyncio.sleep(1)
    waiting[0].cancel()
    client.update(EngineView(failed="no such model"))
    for task in (*waiting[1:], asking(client, "new")):
        with pytest.raises(EngineRefused, match="tiny: no such model"):
            await task


class Driver:
    """Starts a replica again `down` seconds after it died, and informs the clients."""

    def __init__(self, clients, count, down=5.0, **options):
        self.clients, self.down, self.options = clients, down, options
        self.deaths = 0
        self.replicas = [Replica(f"{i}.0", i, **options) for i in range(count)]
        self._tell()

    async def run(self):
        while True:
            await asyncio.sleep(1)
            for at, replica in enumerate(self.replicas):
                if replica is not None and replica.cause:
                    self.replicas[at] = None
                    self.deaths += 1
                    asyncio.get_running_loop().call_later(self.down, self._start, at)
            self._tell()

    def up(self):
        return [each for each in self.replicas if each is not None and not each.cause]

    def forget(self, client):
        self.clients = [each for each in self.clients if each is not client]

    def _start(self, at):
        self.replicas[at] = Replica(f"{at}.{self.deaths}", at, **self.options)
        self._tell()

    def _tell(self):
        for client in self.clients:
            client.update(view(*(r for r in self.replicas if r is not None)))


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
async def test_suspects_run_one_at_a_time_and_who_gets_a_reply_is_cleared():
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


class Dialogues:
    """A process that plays dialogues; started again, it plays on from the last reply it had."""

    def __init__(self, name, count, room):
        self.name, self.room = name, room
        self.turns = dict.fromkeys((f"{name}.{i}" for i in range(count)), 0)
        self.client = client_of(room=room)
        self.tasks = {}

    def start(self, replicas):
        self.client = client_of(*replicas, room=self.room)
        self.tasks = {
            dialogue: asyncio.create_task(self._play(dialogue, self.client))
            for dialogue in self.turns
        }

    async def kill(self):
        """All at once, as with SIGKILL: what arrives after this is seen by nobody."""
        for task in self.tasks.values():
            task.cancel()
        await self.client.close()

    async def _play(self, dialogue, client):
        while (turn := self.turns[dialogue]) < 4:
            words = f"{dialogue}.{turn}"
            reply, _ = await retrying(partial(client.ask, dialogue, request(words)), 100)
            assert reply == reply_to(words)
            self.turns[dialogue] += 1


EVENTS = st.lists(
    st.tuples(
        st.floats(0.01, 6, allow_nan=False),
        st.sampled_from(
            ["kill", "last words", "cancel", "cut", "kill all", "kill client", "restart client"]
        ),
        st.integers(0, 60),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([0, 0.001, 0.9]),
    EVENTS,
)
def test_in_any_storm_every_call_gets_its_own_reply_once_and_no_replica_more_than_its_room(
    count, room, processes, delay, events
):
    async def main():
        players = [Dialogues(f"p{i}", 24 // processes, room) for i in range(processes)]
        dead, cancelled = set(), set()
        driver = Driver([], count, room=room * processes, seconds=0.7, delay=delay)
        watching = asyncio.create_task(driver.run())
        for player in players:
            player.start(driver.up())
        driver.clients = [player.client for player in players]

        for wait, event, which in events:
            await asyncio.sleep(wait)
            there = driver.up()
            player = players[which % processes]
            if event == "cancel":
                dialogue = [*player.turns][which % len(player.turns)]
                player.tasks[dialogue].cancel()
                cancelled.add(dialogue)
            elif event == "kill all":
                for replica in there:
                    replica.die()
            elif event == "kill client":
                driver.forget(player.client)
                await player.kill()
                dead.add(player)
            elif event == "restart client":
                driver.forget(player.client)
                await player.kill()
                player.start(there)
                driver.clients.append(player.client)
                dead.discard(player)
                cancelled -= player.turns.keys()
            elif there and event == "cut":
                there[which % len(there)].cut()
            elif there:
                there[which % len(there)].die("storm", last_words=event == "last words")

        for player in players:
            found = await asyncio.gather(*player.tasks.values(), return_exceptions=True)
            for dialogue, one in zip(player.tasks, found, strict=True):
                if one is None:
                    assert player.turns[dialogue] == 4
                elif isinstance(one, asyncio.CancelledError):
                    assert player in dead or dialogue in cancelled
                else:
                    # One that was in three deaths in a row cannot be told from their cause.
                    assert isinstance(one, CallQuarantined)
                    assert len(events) >= 3
        await asyncio.sleep(100)  # cancelled ones are answered too
        watching.cancel()
        for player in players:
            assert not player.client._waiting
            assert not any(link.calls for link in player.client._links.values())
        for replica in driver.up():
            assert replica.inside == []
            assert len(replica.clients.connected) == processes - len(dead)

    virtual_time.run(main())
