"""Stages of a run: engines come and go in time, and no node is promised more than it has.

Real placement, fleet, queue and scheduler; replicas and workers are fakes, and time is virtual.
"""

import asyncio
import io
import re
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from agents.core.errors import ReplicaLost
from agents.core.seeds import Seeds
from runner.commands import plan as plan_command
from runner.driver import engine_loader as module
from runner.driver.engine_loader import RunEngines
from runner.driver.scheduler import LeaseQueue, drive
from runner.driver.work import remaining
from runner.placement import cluster, groups
from runner.placement.groups import Needs, RunPlan, StagePlan, placement_of, run_plan
from runner.placement.packing import Allocation, Node
from runner.placement.place import Stage
from sweeps.episodes import episode_task
from sweeps.storage.records import EPISODE
from sweeps.tasks import Outcome
from tests import virtual_time
from tests.sweep_files import plan_of, write_sweep
from workers.backends.core.backend import EngineSpec
from workers.backends.vllm.client import fleet
from workers.backends.vllm.client.fleet import Fleet
from workers.backends.vllm.serving.replica import ReplicaStatus
from workers.backends.vllm.serving.watchdog import Counts
from workers.core.usage import CallCounts
from workers.executors.pool import Report


@pytest.fixture(autouse=True, scope="module")
def virtual():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet, "time", virtual_time.TIME)
        patch.setattr(module, "time", virtual_time.TIME)
        yield


def spec(key, gpus=1.0, replicas=1):
    return EngineSpec(key, f"model {key}", "generate", {"model": key}, 8, 600, replicas, gpus)


def plan_for(specs, cells, nodes):
    """As `run_plan` makes it, from what each cell needs."""
    needs = Needs({s.key: s for s in specs}, [frozenset(c) for c in cells], {})
    placement, works = placement_of(needs, nodes)
    stages = [
        StagePlan(
            frozenset(i for i, c in enumerate(needs.cells) if c and works.index(c) in stage.works),
            stage,
        )
        for stage in placement.stages
    ]
    free = frozenset(i for i, c in enumerate(needs.cells) if not c)
    misfits = {i: "" for i, c in enumerate(needs.cells)
               if c and works.index(c) in placement.misfits}  # fmt: skip
    gpus = {node.name: node.gpus for node in nodes}
    return RunPlan(needs, [StagePlan(free, None)] * bool(free) + stages, misfits, gpus=gpus)


class Replica:
    """Loads for ten seconds, or fails; holds its GPUs until it is killed."""

    def __init__(self, world, spec, where):
        self.world, self.spec, self.where = world, spec, where
        self.alive, self.ready_at = True, asyncio.get_running_loop().time() + 10
        self.name = f"{spec.key}/{len(world.launched)}"
        world.launched.append(spec.key)
        world.hold(where, 1)

    async def hello(self, known, wait):
        await asyncio.sleep(0.5)
        if not self.alive:
            raise ReplicaLost("gone")
        now = asyncio.get_running_loop().time()
        state = "loading" if now < self.ready_at else "ready"
        if state == "ready" and self.spec.key in self.world.broken:
            state = "failed"
        return ReplicaStatus(self.name, state, "broken", "f", {}, 1, 1)

    async def counts(self):
        return Counts()

    def kill(self, *, restart):
        if self.alive:
            self.alive = False
            self.world.killed.append(self.spec.key)
            self.world.hold(self.where, -1)


class World:
    """A crew of fakes, and what happened: which episode ended how, and what was loaded when."""

    cpu = False

    def __init__(self, run, episodes, *, broken=(), workers=2, seconds=lambda ref: 1.0, retry=0,
                 is_cached=lambda ref: False):  # fmt: skip
        self.is_cached = is_cached
        self.run, self.broken, self.seconds, self.retry = run, set(broken), seconds, retry
        self.launched, self.killed = [], []
        self.taken = Counter()
        self.held = 0.0
        """GPUs times the seconds that they were taken, once all are free."""
        self.ended: list[tuple[str, str]] = []
        self.log: list[tuple[float, str, str]] = []
        stages = [
            iter([episode_task(f"c{c}e{n}", c, Seeds(0, 0, 0), f"u{n}")
                  for n in range(episodes) for c in sorted(part.cells)])
            for part in run.stages
        ]  # fmt: skip
        self.queue = LeaseQueue(stages, 3, opened=0)
        self.engines = RunEngines(run, self.queue, self, Console(file=io.StringIO()))
        self.workers = [Worker(self, f"w{n}") for n in range(workers)]
        self.stopping = asyncio.Event()
        self.settled_finally: list[str] = []

    def launch(self, residents):
        def start(spec, index):
            return Replica(self, spec, residents.allocations[spec.key][index])

        self.fleet = Fleet(residents.specs, start, lambda: None)
        return self.fleet

    def hold(self, where, sign):
        self.taken[where.node] += sign * Fraction(where.gpus).limit_denominator(1000)
        assert 0 <= self.taken[where.node] <= self.run.gpus[where.node]
        self.held -= sign * where.gpus * asyncio.get_running_loop().time()

    async def play(self):
        conducting = self.engines.start(self.stopping)
        await drive(
            self.workers, self.queue, {EPISODE: self}, self, self.stopping, lost=Lost,
            epoch=1, left_behind=lambda name: {}, replace=self.replace,
        )  # fmt: skip
        await self.engines.end(conducting)
        self.entries = self.engines.entries(1)
        if hasattr(self, "fleet"):
            self.fleet.close()
        self.gpu_seconds = self.engines.gpu_seconds()
        return self

    async def replace(self):
        self.workers.append(Worker(self, f"w{len(self.workers)}"))
        return self.workers[-1]

    async def received(self, outcome, final):
        if final:
            self.settled_finally.append(outcome.task.id)

    def counted(self, worker, report): ...

    def lost(self, worker, again): ...


class Lost(Exception):
    pass


class Worker:
    """Runs each episode when all its engines are up, as the clients would."""

    slots = 4

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.tasks, self.found, self.dead = set(), [], False
        self.wrong = ""
        self.wanted: dict[str, set[str]] = {}

    async def add(self, refs):
        for ref in refs:
            task = asyncio.create_task(self._run(ref))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _run(self, ref):
        world, needs = self.world, self.world.run.needs.cells[ref.cell]
        if world.is_cached(ref):
            needs = frozenset()
        left, waited, had = world.seconds(ref), 0.0, False
        while left > 0:
            if any(world.fleet.engines[key].failed for key in needs):
                self.wanted.pop(ref.id, None)
                self._settle(ref, "failed", "EngineRefused")
                return
            view = world.fleet.view() if needs else {}
            missing = {key for key in needs if not view[key].replicas}
            self.wanted[ref.id] = missing
            if not missing:
                left, had = left - 0.5, True
            elif not had:
                pass  # they load when somebody wants them
            elif (waited := waited + 0.5) > 5:
                self.wrong = f"{ref.id} runs without its engines"
                return
            await asyncio.sleep(0.5)
        self.wanted.pop(ref.id, None)
        again = ref.attempt < world.retry
        self._settle(ref, "failed" if again else "done", "EngineDead" if again else None)

    def _settle(self, ref, status, error):
        blame = "infrastructure" if error else None
        self.found.append(Outcome(ref, status, blame, error, error))
        if error != "EngineDead":
            self.world.ended.append((ref.id, status))

    async def report(self, wait, drain):
        await asyncio.sleep(wait)
        assert not self.wrong, self.wrong
        if self.dead:
            for task in self.tasks:
                task.cancel()
            raise Lost("killed")
        found, self.found = self.found, []
        wanted = frozenset[str]().union(*self.wanted.values())
        return Report(found, CallCounts(), {}, 0, wanted=wanted)

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        return Report(self.found, CallCounts(), {}, 0)

    def abandon(self): ...


def play(*args, **options):
    async def main():
        return await World(*args, **options).play()

    return virtual_time.run(main())


PAIRS = [("a", "u"), ("b", "u"), ("c", "u")]
THREE = [spec(key) for key in "abcu"]


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
def test_an_engine_that_fails_opens_its_group_and_the_others_go_on(broken):
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
    needs = Needs({k: spec(k) for k in "xy"}, [frozenset("x"), frozenset("xy")], {})
    first = Allocation("x", 0, "n", 1, since=0)
    moved, other = (Allocation(key, 0, "n", 1, since=1) for key in "xy")
    stages = [
        Stage("dialogue", frozenset("x"), (0,), ("x",), (), (first,)),
        Stage("dialogue", frozenset("xy"), (1,), ("x", "y"), ("x",), (moved, other)),
    ]
    plans = [StagePlan(frozenset({i}), s) for i, s in enumerate(stages)]
    run = RunPlan(needs, plans, {}, gpus={"n": 2})
    world = play(run, 5, seconds=lambda ref: 40.0 if ref.id == "c0e0" else 1.0)
    assert world.launched == ["x", "x", "y"]
    assert len(world.settled_finally) == 10


def test_what_fits_nowhere_is_left_out():
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


def test_nothing_is_loaded_for_cells_whose_episodes_are_all_done(tmp_path, monkeypatch):
    plan = plan_of(write_sweep(tmp_path))
    assert len(plan.cells) == 4
    cells = [frozenset(c) for c in (("a", "u"), ("b", "u"), (), ("a",))]
    needs = Needs({s.key: s for s in THREE}, cells, {})
    monkeypatch.setattr(groups, "needs_of", lambda plan, cpu: needs)
    nodes = [Node("n", 2)]

    def done_but(cell):
        return {ref.id for ref in plan.episode_tasks() if ref.cell != cell}

    everything = run_plan(plan, nodes, cpu=False)
    assert set(everything.needs.specs) == {"a", "b", "u"}  # c is in no cell
    assert frozenset().union(*(part.cells for part in everything.stages)) == {0, 1, 2, 3}
    [part] = run_plan(plan, nodes, cpu=False, cells=remaining(plan, done_but(1)).cells).stages
    assert part.cells == {1}
    assert part.stage is not None
    assert set(part.stage.loads) == {"b", "u"}
    rest = run_plan(plan, nodes, cpu=False, cells=remaining(plan, done_but(2)).cells)
    assert (rest.needs.specs, [p.cells for p in rest.stages]) == ({}, [{2}])


@pytest.mark.parametrize("executor", ["ray", "local"])
@pytest.mark.parametrize("gpus", [(), (80.0,)])
def test_the_plan_says_what_dtype_a_cpu_computes_with(tmp_path, monkeypatch, executor, gpus):
    for where in (cluster, plan_command):
        monkeypatch.setattr(where, "gpu_memories", lambda: list(gpus))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    path = write_sweep(
        tmp_path,
        models={"tiny": {"backend": "vllm", "model": str(tmp_path / "model")}},
        roles={"user": "tiny"},
        grid={"agent": ["zero_shot"], "roles.agent": ["tiny"], "seed": [0]},
        run={"executor": executor},
    )
    screen = io.StringIO()
    plan_command.show_plan(
        path, [], gpus=(), as_json=False, console=Console(file=screen, width=200)
    )
    lines = [line for line in screen.getvalue().splitlines() if "dtype" in line]
    assert len(lines) == (0 if gpus else 1)
    assert all(re.match(r" *tiny: dtype auto is (float32|bfloat16): ", line) for line in lines)
