"""Stages of a run: engines come and go in time, and no node is promised more than it has.

Real placement, fleet, queue and scheduler; replicas and workers are fakes, and time is virtual.
"""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.placement.groups import EngineNeeds, RunPlan, StagePlan
from runner.placement.packing import Allocation, Node
from runner.placement.place import PlacementStage
from tests import virtual_time
from tests.runner.placement.world import PAIRS, THREE, World, plan_for, play, spec

pytestmark = pytest.mark.usefixtures("virtual_clock")


def test_models_that_do_not_fit_together_take_turns_and_what_stays_is_loaded_once():
    world = play(plan_for(THREE, [*PAIRS, ()], [Node("n", 2)]), 10)
    assert sorted(name for name, _ in world.ended) == sorted(world.settled_finally)
    assert len(world.settled_finally) == 40
    assert Counter(world.launched) == {"a": 1, "b": 1, "c": 1, "u": 1}
    assert {status for _, status in world.ended} == {"done"}
    assert len(world.entries) == 4
    assert world.gpu_seconds == pytest.approx(world.held)
    assert world.held > 2 * 10


def test_cpu_slots_that_stand_in_for_gpus_are_no_gpu_hours():
    class OnCPU(World):
        cpu = True

    async def main():
        return await OnCPU(plan_for(THREE, PAIRS, [Node("n", 2)]), 2).play()

    world = virtual_time.run(main())
    assert world.held > 0
    assert world.gpu_seconds == 0


def test_dialogues_that_need_no_call_load_nothing():
    run = plan_for(THREE, [*PAIRS, ()], [Node("n", 2)])
    cached = {min(run.stages[1].cells), min(run.stages[3].cells)}
    world = play(run, 6, is_cached=lambda ref: ref.cell in cached)
    assert len(world.settled_finally) == 24
    used = set().union(*(run.needs.cells[c] for c in range(4) if c not in cached))
    assert set(world.launched) == used


def test_a_rerun_from_the_cache_loads_no_engine():
    world = play(plan_for(THREE, PAIRS, [Node("n", 2)]), 6, is_cached=lambda ref: True)
    assert len(world.settled_finally) == 18
    assert world.launched == []


def test_the_next_models_load_while_the_last_dialogues_still_run():
    run = plan_for([spec(key) for key in "abc"], ["a", "b", "c"], [Node("n", 2)])
    slow = min(run.stages[0].cells)

    async def main():
        world = World(run, 5, seconds=lambda ref: 200.0 if ref.id == f"c{slow}e0" else 1.0)
        task = asyncio.create_task(world.play())
        await asyncio.sleep(60)
        assert sorted(world.launched) == ["a", "b", "c"]
        assert len(world.killed) == 1
        assert "abc"[slow] not in world.killed
        assert len(world.settled_finally) == 14
        await task
        assert len(world.settled_finally) == 15

    virtual_time.run(main())


def test_an_engine_in_use_stays_until_its_last_dialogue_has_ended():
    run = plan_for([spec("a"), spec("b")], [("a",), ("b",)], [Node("n", 1)])

    async def main():
        slow = f"c{min(run.stages[0].cells)}e0"
        world = World(run, 5, seconds=lambda ref: 90.0 if ref.id == slow else 1.0)
        task = asyncio.create_task(world.play())
        await asyncio.sleep(95)
        assert (len(world.launched), world.killed) == (1, [])
        await task
        assert world.killed == world.launched

    virtual_time.run(main())


def test_an_episode_that_is_tried_again_keeps_its_engines():
    world = play(plan_for(THREE, PAIRS, [Node("n", 2)]), 4, retry=3)
    assert len(world.settled_finally) == 12
    assert {status for _, status in world.ended} == {"done"}


@pytest.mark.parametrize("broken", ["a", "u", "abcu"])
def test_an_engine_that_fails_opens_its_group_and_the_others_continue(broken):
    world = play(plan_for(THREE, PAIRS, [Node("n", 2)]), 6, broken=broken)
    assert len(world.settled_finally) == 18
    for name, status in world.ended:
        used = PAIRS[int(name[1])]
        assert status == ("failed" if set(used) & set(broken) else "done")
    failed = {e["label"] for e in world.entries if e["failed"]}
    # Where all models of a dialogue fail, the last of them may never be asked for.
    assert failed == {f"model {k}" for k in broken} or len(broken) > 1
    assert failed <= {f"model {k}" for k in broken}


def test_a_run_can_be_stopped_while_models_load_and_while_they_wait_for_room():
    for after in (3, 14, 30):

        async def main(after=after):
            world = World(plan_for(THREE, PAIRS, [Node("n", 2)]), 50, seconds=lambda ref: 20.0)
            task = asyncio.create_task(world.play())
            await asyncio.sleep(after)
            world.stopping.set()
            await asyncio.wait_for(task, 5)
            await asyncio.sleep(20)
            assert Counter(world.killed) == Counter(world.launched)
            assert len(asyncio.all_tasks()) == 1

        virtual_time.run(main())


def test_a_conductor_that_breaks_stops_the_run_and_says_why():
    async def main():
        world = World(plan_for(THREE, PAIRS, [Node("n", 2)]), 5)

        def broken(key):
            raise RuntimeError("no actor can be made")

        world.fleet.load = broken
        with pytest.raises(RuntimeError, match="no actor can be made"):
            await asyncio.wait_for(world.play(), 60)

    virtual_time.run(main())


def test_workers_that_die_lose_no_episode_of_any_group():
    async def main():
        world = World(plan_for(THREE, PAIRS, [Node("n", 2)]), 30, workers=3)
        task = asyncio.create_task(world.play())
        for wait in (12, 14, 13):
            await asyncio.sleep(wait)
            world.workers[-1].dead = True
        await task
        assert sorted(set(world.settled_finally)) == sorted(world.settled_finally)
        assert len(world.settled_finally) == 90

    virtual_time.run(main())


def test_an_engine_that_moves_is_unloaded_before_it_is_loaded_again():
    """There is room for it at once; its old GPU is wanted by another."""
    needs = EngineNeeds({k: spec(k) for k in "xy"}, [frozenset("x"), frozenset("xy")], {})
    first = Allocation("x", 0, "n", 1, since=0)
    moved, other = (Allocation(key, 0, "n", 1, since=1) for key in "xy")
    stages = [
        PlacementStage(frozenset("x"), (0,), ("x",), (first,)),
        PlacementStage(frozenset("xy"), (1,), ("x", "y"), (moved, other)),
    ]
    plans = [StagePlan(frozenset({i}), s) for i, s in enumerate(stages)]
    run = RunPlan(needs, plans, {}, gpus={"n": 2})
    world = play(run, 5, seconds=lambda ref: 40.0 if ref.id == "c0e0" else 1.0)
    assert world.launched == ["x", "x", "y"]
    assert len(world.settled_finally) == 10


def test_what_fits_on_no_node_is_left_out():
    run = plan_for([spec("big", 4), spec("a")], [("big",), ("a",), ()], [Node("n", 2)])
    world = play(run, 3)
    assert set(run.misfits) == {0}
    assert sorted(world.settled_finally) == [f"c{c}e{n}" for c in (1, 2) for n in range(3)]
    assert world.launched == ["a"]


@settings(max_examples=25)
@given(
    st.lists(st.sets(st.sampled_from("abcde"), min_size=0, max_size=3), min_size=1, max_size=6),
    st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=5, max_size=5),
    st.sampled_from([(2,), (1, 2), (4,)]),
    st.sets(st.sampled_from("abcde"), max_size=2),
    st.integers(0, 1),
    st.lists(st.sampled_from([0.5, 3.0, 25.0]), min_size=1, max_size=4),
)
def test_whatever_is_to_run_everything_ends_and_no_gpu_is_promised_twice(
    cells, sizes, nodes, broken, retry, seconds
):
    used = sorted(set().union(*cells))
    specs = [spec(key, size) for key, size in zip("abcde", sizes, strict=True) if key in used]
    run = plan_for(specs, cells, [Node(f"n{i}", gpus) for i, gpus in enumerate(nodes)])
    world = play(
        run, 3, broken=broken, retry=retry,
        seconds=lambda ref: seconds[(ref.cell + len(ref.spec.case_id)) % len(seconds)],
    )  # fmt: skip
    expected = [f"c{c}e{n}" for c in range(len(cells)) if c not in run.misfits for n in range(3)]
    assert sorted(world.settled_finally) == sorted(expected)
    for name, status in world.ended:
        assert status == ("failed" if cells[int(name[1])] & broken else "done")
    assert Counter(world.killed) == Counter(world.launched)
