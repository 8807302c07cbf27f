"""The driver's side of the engines: what is up, what it costs, and when it is given up."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import virtual_time
from tests.virtual_time import in_virtual_time
from tests.workers.engines.fake_actors import Actor, Fakes, spec
from workers.engines.fleet import UNPRODUCTIVE_RESTARTS

pytestmark = pytest.mark.usefixtures("virtual_clock")


@in_virtual_time
async def test_workers_are_informed_when_a_replica_is_ready_and_the_engine_when_all_are():
    fakes = Fakes(spec(replicas=2))
    fakes.fleet.load("m")
    fakes.actors[1].loads = 0
    await asyncio.sleep(5)
    assert (fakes.up(), fakes.fleet.settled("m")) == ([], False)
    await asyncio.sleep(10)
    assert fakes.up() == [actor.incarnation for actor in fakes.actors]
    assert fakes.fleet.settled("m")
    assert fakes.engine.load_seconds == pytest.approx(10, abs=0.1)
    assert fakes.fleet.news.is_set()
    assert fakes.views[-1] == fakes.fleet.view()


@in_virtual_time
async def test_a_death_is_counted_once_with_its_cause_and_its_time():
    fakes = Fakes()
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    [actor] = fakes.actors
    actor.work()
    await asyncio.sleep(3)
    actor.say_dying("the engine hangs: no step for 15 s")
    await asyncio.sleep(1)
    assert fakes.up() == []
    await asyncio.sleep(20)
    assert fakes.up() == [actor.incarnation]
    found = fakes.fleet.summary("m")
    assert found["death_causes"] == ["the engine hangs: no step for 15 s"]
    assert found["seconds_down"] == pytest.approx(12, abs=1)
    assert actor.boots == 2


@in_virtual_time
async def test_the_second_death_has_its_own_cause():
    fakes = Fakes()
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    [actor] = fakes.actors
    actor.say_dying("first")
    await asyncio.sleep(5)  # it is loading again
    actor.die()  # killed, without last words
    await asyncio.sleep(30)
    assert fakes.engine.deaths == ["first", "the actor died"]


@in_virtual_time
async def test_an_ongoing_outage_is_part_of_the_time_down():
    fakes = Fakes()
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    fakes.actors[0].die()
    await asyncio.sleep(6)
    assert fakes.fleet.summary("m")["seconds_down"] == pytest.approx(6, abs=1)
    fakes.fleet.unload("m")
    await asyncio.sleep(100)
    assert fakes.fleet.summary("m")["seconds_down"] == pytest.approx(6, abs=1)


@in_virtual_time
async def test_counts_of_all_incarnations_add_up_and_none_twice():
    fakes = Fakes()
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    [actor] = fakes.actors
    for _ in range(3):
        actor.work(100)
        await asyncio.sleep(3)
        actor.say_dying("x", ends=False)
        await asyncio.sleep(2)
        actor.die()
        await asyncio.sleep(20)
    actor.work(7)
    await fakes.fleet.refresh()
    assert fakes.fleet.counts("m").steps == 307
    fakes.fleet.unload("m")
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    fakes.actors[-1].work(1)
    await fakes.fleet.refresh()
    assert fakes.fleet.counts("m").steps == 308
    assert fakes.fleet.summary("m")["output_tokens"] == 3 * 308


@in_virtual_time
async def test_a_replica_replaced_before_its_end_was_seen_is_a_death_too():
    fakes = Fakes()
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    [actor] = fakes.actors
    actor.work(50)
    await asyncio.sleep(3)
    before = fakes.up()
    actor.restarts = actor.loads = 0
    actor.die()
    actor._boot()
    await asyncio.sleep(5)
    assert fakes.engine.deaths
    assert fakes.up() == [actor.incarnation] != before
    assert fakes.fleet.counts("m").steps == 50


@in_virtual_time
async def test_a_silent_actor_is_killed_and_comes_back():
    fakes = Fakes()
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    [actor] = fakes.actors
    actor.silent = True
    await asyncio.sleep(25)
    assert actor.killed == []
    await asyncio.sleep(30)
    assert actor.killed == [True]
    assert fakes.engine.deaths == ["its actor did not answer for 30 s"]
    assert fakes.up() == [actor.incarnation]


@in_virtual_time
async def test_a_driver_that_was_held_up_itself_kills_no_engine():
    fakes = Fakes()
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    [actor] = fakes.actors
    loop = asyncio.get_running_loop()
    for _ in range(4):
        await asyncio.sleep(7)
        loop._now += 200  # type: ignore[attr-defined]
    await asyncio.sleep(30)
    assert (actor.killed, fakes.engine.deaths) == ([], [])


@in_virtual_time
async def test_a_replica_that_says_it_dies_and_does_not_is_killed():
    fakes = Fakes()
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    [actor] = fakes.actors
    actor.say_dying("x", ends=False)
    await asyncio.sleep(5)
    assert actor.killed == []
    await asyncio.sleep(30)
    assert actor.killed == [True]
    assert fakes.engine.deaths == ["x"]
    assert fakes.up() == [actor.incarnation]


@in_virtual_time
async def test_a_replica_that_dies_again_and_again_while_it_loads_is_given_up():
    fakes = Fakes(make=lambda: Actor(dies_loading=True))
    fakes.fleet.load("m")
    await asyncio.sleep(300)
    [actor] = fakes.actors
    assert actor.boots == 1 + UNPRODUCTIVE_RESTARTS
    assert fakes.fleet.settled("m")
    assert (
        "restarted 3 times without one reply; the last time: the actor died" in fakes.engine.failed
    )
    assert fakes.views[-1]["m"].failed == fakes.engine.failed
    assert actor.killed == [False]


@in_virtual_time
async def test_one_that_replies_in_between_is_not_given_up():
    fakes = Fakes()
    fakes.fleet.load("m")
    [actor] = fakes.actors
    for _ in range(3 * UNPRODUCTIVE_RESTARTS):
        await asyncio.sleep(20)
        actor.work()
        actor.say_dying("x")
    await asyncio.sleep(20)
    assert fakes.up() == [actor.incarnation]
    assert len(fakes.engine.deaths) == 3 * UNPRODUCTIVE_RESTARTS


@in_virtual_time
async def test_a_replica_that_never_shows_up_is_given_up_with_the_reason():
    fakes = Fakes(spec(start_timeout=100), make=lambda: Actor(never=True))
    fakes.fleet.load("m")
    await asyncio.sleep(90)
    assert not fakes.fleet.settled("m")
    await asyncio.sleep(20)
    reason = r"not ready within 100 s (start_timeout): the actor died"
    assert fakes.engine.failed == f"the model cannot be served: {reason}"


@in_virtual_time
async def test_time_to_start_counts_from_the_last_death_not_from_the_first():
    fakes = Fakes(spec(start_timeout=60), make=lambda: Actor(loads=25))
    fakes.fleet.load("m")
    await asyncio.sleep(40)
    [actor] = fakes.actors
    actor.die()
    for _ in range(2):
        await asyncio.sleep(25)
        actor.die()  # just before it is ready
    await asyncio.sleep(60)
    assert fakes.up() == [actor.incarnation]


@in_virtual_time
async def test_a_model_that_cannot_be_loaded_fails_its_engine_once_all_replicas_have_failed():
    fakes = Fakes(spec(replicas=2), make=lambda: Actor(fails="no such file"))
    fakes.fleet.load("m")
    fakes.actors[1].fails = ""
    await asyncio.sleep(20)
    assert fakes.engine.failed == ""
    assert fakes.fleet.settled("m")
    assert fakes.up() == [fakes.actors[1].incarnation]
    fakes.actors[1].fails = "no such file"
    fakes.actors[1].die()
    await asyncio.sleep(30)
    assert fakes.engine.failed == "the model cannot be served: no such file"
    assert [actor.killed for actor in fakes.actors] == [[False], [False]]
    fakes.fleet.unload("m")
    fakes.fleet.load("m")  # a later group needs it too
    assert fakes.fleet.settled("m")
    assert len(fakes.actors) == 2


@in_virtual_time
async def test_whatever_the_cluster_raises_is_a_loss_and_ends_no_watch():
    fakes = Fakes()
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    [actor] = fakes.actors
    real = actor.hello

    async def broken(known, wait):
        raise RuntimeError("node is gone")

    actor.hello = broken
    await asyncio.sleep(1)
    assert fakes.up() == []
    assert "node is gone" in fakes.engine.deaths[0]
    actor.die()
    actor.hello = real
    await asyncio.sleep(30)
    assert fakes.up() == [actor.incarnation]


@in_virtual_time
async def test_loading_and_unloading_twice_is_the_same_as_once():
    fakes = Fakes()
    fakes.fleet.load("m")
    fakes.fleet.load("m")
    assert len(fakes.actors) == 1
    await asyncio.sleep(5)  # unloaded while it loads
    fakes.fleet.unload("m")
    fakes.fleet.unload("m")
    assert fakes.actors[0].killed == [False]
    await asyncio.sleep(60)
    assert (fakes.up(), fakes.engine.deaths, fakes.fleet.settled("m")) == ([], [], False)
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    assert fakes.up() == [fakes.actors[1].incarnation]
    fakes.fleet.close()
    fakes.fleet.close()
    assert fakes.actors[1].killed == [False]
    await asyncio.sleep(60)
    assert len(asyncio.all_tasks()) == 1


ACTS = st.sampled_from(["die", "dying", "silent", "work", "fails", "load", "unload"])


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 40), ACTS, st.integers(0, 2)), max_size=15))
def test_the_view_names_live_replicas_only_and_all_of_them_in_the_end(events):
    async def main():
        fakes = Fakes(spec(replicas=3))
        steps = 0
        fakes.fleet.load("m")
        for wait, act, which in events:
            await asyncio.sleep(wait)
            there = [r.handle for r in fakes.engine.replicas]
            if act == "load":
                fakes.fleet.load("m")
            elif act == "unload":
                await fakes.fleet.refresh()
                fakes.fleet.unload("m")
            elif there:
                actor = there[which]
                if act == "die":
                    await asyncio.sleep(2)  # its counts were seen
                    actor.die()
                elif act == "dying" and actor.state == "ready":
                    actor.say_dying("x")
                elif act == "silent":
                    actor.silent = True
                elif act == "fails":
                    actor.fails = "broken"
                elif (
                    act == "work"
                    and actor.alive
                    and actor.state == "ready"
                    and not actor.silent
                    and actor.incarnation in fakes.up()
                ):
                    actor.work()
                    steps += 10
                    await asyncio.sleep(2)
        fakes.fleet.load("m")
        await asyncio.sleep(400)
        assert fakes.fleet.settled("m")
        for replica in fakes.engine.replicas:
            assert replica.up == (not replica.failed)
            assert replica.failed or replica.handle.incarnation in fakes.up()
        assert (fakes.engine.failed != "") == (not fakes.up())
        assert fakes.fleet.counts("m").steps == steps
        assert fakes.views[-1] == fakes.fleet.view()
        fakes.fleet.close()
        assert [ref for one in fakes.fleet.view().values() for ref in one.replicas] == []

    virtual_time.run(main())


@in_virtual_time
async def test_replicas_are_added_and_dropped_while_the_others_serve():
    fakes = Fakes(spec(replicas=1))
    fakes.fleet.load("m")
    await asyncio.sleep(20)
    fakes.fleet.add("m", 7)
    await asyncio.sleep(20)
    first, second = fakes.actors
    assert fakes.up() == [first.incarnation, second.incarnation]
    first.work(100)
    await fakes.fleet.refresh()
    fakes.fleet.drop("m", 0)
    assert fakes.up() == [second.incarnation]
    assert first.killed == [False]
    await asyncio.sleep(20)
    assert [ref.index for ref in fakes.fleet.view()["m"].replicas] == [7]
    assert fakes.fleet.counts("m").steps == 100
    assert fakes.engine.deaths == []


@in_virtual_time
async def test_a_replica_on_another_gpu_serves_only_where_that_is_allowed():
    for mixed in (True, False):
        fakes = Fakes(spec(replicas=2), mixed=mixed)
        fakes.fleet.load("m")
        for actor, device in zip(fakes.actors, ("A", "B"), strict=True):
            actor.details = {"device": device, "vllm": "1"}
        await asyncio.sleep(20)
        assert len(fakes.up()) == (2 if mixed else 1)
        failed = [replica.failed for replica in fakes.engine.replicas if replica.failed]
        assert mixed or "has device B, where the others have A (run.mixed_gpus" in failed[0]
        assert not fakes.engine.failed
