"""Loads and unloads the engines of a run as its stages need them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape

from runner.core.formatting import slot_word
from runner.driver.scheduler import LeaseQueue
from runner.placement.describe import replica_words
from runner.placement.elastic import Serving, replica_changes
from runner.placement.groups import RunPlan
from runner.placement.packing import Allocation, exact
from runner.placement.place import PlacementStage
from workers.backends.core.backend import ClusterNode, EngineSpec
from workers.core.concurrency import Load
from workers.engines.fleet import Fleet

_LOOK_EVERY = 0.2
_NOTE_EVERY = 60.0  # seconds between notes of counts alone
_ADJUST_EVERY = 2.0
_SAY_EVERY = 15.0  # seconds between lines while models load


class LoadedEngines:
    """The engines that are loaded or loading, and where. Changes during a run."""

    def __init__(self, specs: Sequence[EngineSpec]) -> None:
        self.specs = specs
        self.allocations: dict[str, tuple[Allocation, ...]] = {}


class EngineLoader:
    """Opens the stages of a run, and loads and unloads the engines that they need.

    A stage opens when the previous one has handed out all its episodes, and its engines load when
    the first call waits for one: dialogues whose calls are all cached need none. While the last
    dialogues of a stage run, engines that they do not use make room.
    """

    def __init__(
        self,
        run: RunPlan,
        residents: LoadedEngines,
        fleet: Fleet,
        queue: LeaseQueue,
        console: Console,
        *,
        cpu: bool,
    ) -> None:
        self._run, self._fleet, self._queue, self._console = run, fleet, queue, console
        self._residents = residents
        self._cpu, self._unit = cpu, slot_word(cpu)
        self._planned: dict[str, tuple[Allocation, ...]] = {}  # without those that were added
        self._making_room = False

    async def run(self) -> None:
        """Runs until the last stage has the engines it needs."""
        for number, part in enumerate(self._run.stages):
            stage = part.stage
            if stage is None:
                self._open(number)
                continue
            await self._until(lambda n=number: self._queue.exhausted >= n)
            resident, wanted = self._residents.allocations, _allocations(stage)
            if any(key in resident and resident[key] != wanted[key] for key in wanted):
                # An engine has to move now: once dialogues of this stage use it, it could not.
                await self._bring_up(stage)
                self._open(number)
            else:
                self._open(number)
                if await self._is_needed(number, part.cells, stage):
                    await self._bring_up(stage)

    def _open(self, number: int) -> None:
        if number >= self._queue.opened:
            self._queue.open()

    async def _is_needed(self, number: int, cells: frozenset[int], stage: PlacementStage) -> bool:
        """Waits until a call needs an engine that is not loaded, or until all dialogues
        have ended."""
        missing = stage.engines - self._residents.allocations.keys()
        while missing and not self._queue.wanted & missing:
            if self._queue.exhausted > number and not self._queue.outstanding() & cells:
                return False
            await asyncio.sleep(_LOOK_EVERY)
        return bool(missing)

    def adjust(self, nodes: Sequence[ClusterNode], most: float | None) -> None:
        """Starts and stops replicas as nodes join and leave (`placement.elastic`).

        `nodes` have the GPUs that this run may use there, `most` limits the total.
        """
        if self._making_room:  # freed GPUs are for an engine that is waiting
            return
        resident = self._residents.allocations
        served = [
            Serving(
                key,
                float(allocations[0].gpus if allocations else self._planned[key][0].gpus),
                None if self._run.needs.specs[key].elastic else len(self._planned[key]),
                {one.replica: one.node for one in allocations},
            )
            for key, allocations in resident.items()
            if not self._fleet.engines[key].failed
        ]
        changes = replica_changes(nodes, served, most, self._run.spread)
        for key, index in changes.end:
            self._drop(key, index)
        for key, node in changes.start:
            index = max((one.replica for one in resident[key]), default=-1) + 1
            gpus = self._planned[key][0].gpus
            resident[key] = (*resident[key], Allocation(key, index, node, gpus, 0))
            self._fleet.add(key, index)
            label = escape(self._run.needs.specs[key].label)
            self._console.print(f"loading another replica of {label} on {node[:12]}")

    def _drop(self, key: str, index: int) -> None:
        resident = self._residents.allocations
        self._fleet.drop(key, index)
        resident[key] = tuple(one for one in resident[key] if one.replica != index)

    def _drop_added_replicas(self) -> None:
        """Drops additional replicas before the next stage, whose engines need the room."""
        for key, allocations in list(self._residents.allocations.items()):
            planned = {one.replica for one in self._planned[key]}
            for one in allocations:
                if one.replica not in planned:
                    self._drop(key, one.replica)

    async def _bring_up(self, stage: PlacementStage) -> None:
        self._making_room = True
        self._drop_added_replicas()
        labels = {key: spec.label for key, spec in self._run.needs.specs.items()}
        resident, wanted = self._residents.allocations, _allocations(stage)
        # The resident engines may differ from the placement: stages may have loaded nothing.
        leaving = {k for k, now in resident.items() if wanted.get(k) != now}
        loads = [k for k in sorted(stage.engines) if k not in resident or k in leaving]
        for key in loads:
            await self._until(lambda k=key: self._makes_room(leaving, k, wanted[k]))
            resident[key] = self._planned[key] = wanted[key]
            self._console.print(
                f"loading {escape(labels[key])}: {replica_words(wanted[key], self._unit)}",
                soft_wrap=True,
            )
            self._fleet.load(key)
        self._making_room = False
        started = said = time.monotonic()
        waiting = set(loads)
        while waiting:
            self._fleet.news.clear()
            for key in sorted(waiting):
                if self._fleet.settled(key):
                    waiting.discard(key)
                    self._say_settled(key, labels[key])
            if not waiting:
                return
            with suppress(TimeoutError):  # nothing new: print a line
                await asyncio.wait_for(self._fleet.news.wait(), _SAY_EVERY)
            if time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                names = ", ".join(escape(labels[key]) for key in sorted(waiting))
                self._console.print(f"still loading {names}, {said - started:.0f} s")

    def _say_settled(self, key: str, label: str) -> None:
        engine = self._fleet.engines[key]
        if engine.failed:
            self._console.print(f"[red]{escape(label)}: {escape(engine.failed)}[/]", soft_wrap=True)
        else:
            self._console.print(f"{escape(label)} is ready after {engine.load_seconds:.0f} s")

    def _makes_room(self, leaving: set[str], new: str, wanted: Sequence[Allocation]) -> bool:
        """Unloads engines that are due to leave and no longer used. Returns whether
        `new` now fits."""
        resident = self._residents.allocations
        used = {key for cell in self._queue.outstanding() for key in self._run.needs.cells[cell]}
        for key in leaving - used:
            self._fleet.unload(key)
            del resident[key]
            leaving.discard(key)
        if new in resident:
            return False  # it has to move but is still in use
        taken: dict[str, Fraction] = {}
        for one in (*wanted, *(a for allocations in resident.values() for a in allocations)):
            taken[one.node] = taken.get(one.node, Fraction(0)) + exact(one.gpus)
        return all(gpus <= self._run.gpus[node] for node, gpus in taken.items())

    @staticmethod
    async def _until(condition: Callable[[], bool]) -> None:
        # The queue has no events; workers' reports update it.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY)


def _allocations(stage: PlacementStage) -> dict[str, tuple[Allocation, ...]]:
    """Where each engine of a stage is placed, by key."""
    return {key: tuple(a for a in stage.allocations if a.engine == key) for key in stage.engines}


class RunEngines:
    """The engines of a run, and the queue that waits for them."""

    def __init__(
        self, stages: RunPlan, queue: LeaseQueue, executor: Launcher, console: Console
    ) -> None:
        self.queue = queue
        self._cpu = executor.cpu
        self._fleet: Fleet | None = None
        self._loader: EngineLoader | None = None
        if stages.needs.specs:
            residents = LoadedEngines(list(stages.needs.specs.values()))
            self._fleet = executor.launch(residents)
            self._loader = EngineLoader(
                stages, residents, self._fleet, queue, console, cpu=executor.cpu
            )
        else:
            for _ in stages.stages:
                queue.open()

    def start(self, stopping: asyncio.Event) -> asyncio.Task[None] | None:
        """Starts loading. If that fails, `stopping` is set, and `end` raises the error."""
        if self._loader is None:
            return None
        task = asyncio.create_task(self._loader.run())

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None:
                stopping.set()

        task.add_done_callback(ended)
        return task

    async def end(self, conducting: asyncio.Task[None] | None) -> None:
        """Stops loading and takes the final counts."""
        if conducting is not None:
            conducting.cancel()
            with suppress(asyncio.CancelledError):  # cancelled above
                await conducting
        if self._fleet is not None:
            await self._fleet.refresh()

    async def keep_adjusting(
        self, nodes: Callable[[], Sequence[ClusterNode]], most: float | None
    ) -> None:
        """Adjusts replicas to the nodes of the cluster, until cancelled."""
        while self._loader is not None:
            await asyncio.sleep(_ADJUST_EVERY)
            self._loader.adjust(nodes(), most)

    async def keep_noting(
        self, epoch: int, note: Callable[[Sequence[dict[str, Any]]], None]
    ) -> None:
        """Records engine entries whenever an engine comes up or goes away, and at intervals.

        A driver that is killed cannot do so at the end, and then the fingerprints of its calls
        would be unexplained.
        """
        noted, last = None, time.monotonic()
        while self._fleet is not None:
            entries = self.entries(epoch)
            news = [(e["label"], e["fingerprints"], e["deaths"], e["failed"]) for e in entries]
            if entries and (news != noted or time.monotonic() - last > _NOTE_EVERY):
                noted, last = news, time.monotonic()
                note(entries)
            await asyncio.sleep(1.0)

    def gpu_seconds(self) -> float:
        """GPU seconds held by this run; CPU slots do not count."""
        return 0.0 if self._fleet is None or self._cpu else self._fleet.gpu_seconds()

    def loads(self) -> dict[str, Load]:
        """The load of each serving engine, by key."""
        return {} if self._fleet is None else self._fleet.loads()

    def entries(self, epoch: int) -> list[dict[str, Any]]:
        """The manifest entries of this run's engines."""
        if self._fleet is None:
            return []
        return [
            {"driver_epoch": epoch, **self._fleet.summary(key)}
            for key, engine in self._fleet.engines.items()
            if engine.fingerprints or engine.failed or engine.deaths
        ]


class Launcher(Protocol):
    """Starts replicas (see `runner.driver.executors`)."""

    cpu: bool

    def launch(self, residents: LoadedEngines) -> Fleet: ...
