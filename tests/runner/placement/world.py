"""Real placement, fleet, queue and scheduler, with replicas and workers that are fakes."""

import asyncio
import io
from collections import Counter
from fractions import Fraction

from rich.console import Console

from agents.core.errors import ReplicaLost
from agents.core.seeds import Seeds
from runner.driver.engine_loader import RunEngines
from runner.driver.scheduler import LeaseQueue, drive
from runner.placement.groups import EngineNeeds, RunPlan, StagePlan, placement_of
from sweeps.episodes import episode_task
from sweeps.storage.records import EPISODE
from sweeps.tasks import Outcome
from tests import virtual_time
from workers.backends.core.backend import EngineSpec
from workers.backends.core.watchdog import Counts
from workers.backends.vllm.serving.engine import VLLMEngine
from workers.core.usage import CallCounts
from workers.engines.fleet import Fleet
from workers.engines.replica import ReplicaStatus
from workers.executors.pool import Report


def spec(key, gpus=1.0, replicas=1):
    return EngineSpec(
        key, f"model {key}", "generate", {"model": key}, 8, 600, replicas, gpus, engine=VLLMEngine
    )


def plan_for(specs, cells, nodes):
    """As `run_plan` makes it, from what each cell needs."""
    needs = EngineNeeds({s.key: s for s in specs}, [frozenset(c) for c in cells], {})
    placement, demands = placement_of(needs, nodes)
    stages = [
        StagePlan(
            frozenset(
                i for i, c in enumerate(needs.cells) if c and demands.index(c) in stage.demands
            ),
            stage,
        )
        for stage in placement.stages
    ]
    free = frozenset(i for i, c in enumerate(needs.cells) if not c)
    misfits = {i: "" for i, c in enumerate(needs.cells)
               if c and demands.index(c) in placement.misfits}  # fmt: skip
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

    async def replace(self, lost):
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
                pass  # they load when a call wants them
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
