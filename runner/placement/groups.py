"""The engines of a run: which models need one, where they go, and when they come and go."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape

from runner.driver.scheduler import LeaseQueue
from runner.placement.packing import Allocation, Engine, Node, exact
from runner.placement.place import Placement, Stage, Work, place
from sweeps.origins import Origins
from sweeps.plan import Plan
from workers.backends.core import EngineSpec
from workers.backends.vllm.client.fleet import Fleet
from workers.models import backend_of

_LOOK_EVERY = 0.2
_NOTE_EVERY = 60.0  # seconds between notes of counts alone
_SAY_EVERY = 15.0  # seconds between lines while models load


@dataclass(frozen=True)
class Needs:
    """Which engines a plan needs: by key, and for each cell the keys that its dialogues use.

    `names` maps the names of models in the sweep file to keys; several may share one engine.
    """

    specs: Mapping[str, EngineSpec]
    cells: Sequence[frozenset[str]]
    names: Mapping[str, str]


def needs_of(plan: Plan, cpu: bool) -> Needs:
    """The engines of a plan, for a cluster without (`cpu`) or with GPUs."""
    specs: dict[str, EngineSpec] = {}
    names: dict[str, str] = {}
    cells: list[frozenset[str]] = []
    known: dict[tuple[str, int], EngineSpec | None] = {}
    for cell in plan.cells:
        used: set[str] = set()
        for name in dict.fromkeys(cell.roles.values()):
            model = cell.config.models[name]
            at = (name, id(model))
            if at not in known:
                cls, options = backend_of(model, Origins(), ("models", name))
                known[at] = cls.engine(options, name, cpu)
            spec = known[at]
            if spec is None:
                continue
            used.add(spec.key)
            names[name] = spec.key
            other = specs.setdefault(spec.key, spec)
            specs[spec.key] = replace(
                other,
                replicas=max(other.replicas, spec.replicas),
                max_inflight=max(other.max_inflight, spec.max_inflight),
            )
        cells.append(frozenset(used))
    return Needs(specs, cells, names)


def placement_of(needs: Needs, nodes: Sequence[Node]) -> tuple[Placement, list[frozenset[str]]]:
    """The placement, and the works (distinct sets of engines) that it speaks of."""
    works = list(dict.fromkeys(used for used in needs.cells if used))
    engines = [Engine(s.key, s.label, s.replicas, s.gpus) for s in needs.specs.values()]
    return place(engines, nodes, [Work("dialogue", work) for work in works]), works


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run: the cells that it runs, and its part of the placement."""

    cells: frozenset[int]
    stage: Stage | None
    """None for the cells that need no engine."""


@dataclass(frozen=True)
class RunPlan:
    """All stages of a run. `misfits` maps cells that fit nowhere to the reason."""

    needs: Needs
    stages: Sequence[StagePlan]
    misfits: Mapping[int, str]
    loads: int = 0
    gpus: Mapping[str, int] = field(default_factory=dict)
    """GPUs (or CPU slots) of each node."""


def without_engines(plan: Plan) -> RunPlan:
    """One stage of all cells: for runs whose engines, if any, start where they are asked."""
    cells = frozenset(range(len(plan.cells)))
    return RunPlan(Needs({}, (), {}), [StagePlan(cells, None)], {})


def run_plan(plan: Plan, nodes: Sequence[Node], cpu: bool, done: Container[str] = ()) -> RunPlan:
    """Groups the cells of a plan by the engines that are up together.

    Cells whose episodes are all in `done` are in no group, and nothing is loaded for them.
    """
    left = _left(plan, done)
    needs = _without(needs_of(plan, cpu), frozenset(range(len(plan.cells))) - left)
    free = frozenset(i for i in left if not needs.cells[i])
    stages = [StagePlan(free, None)] if free else []
    if not needs.specs:
        return RunPlan(needs, stages, {})
    placement, works = placement_of(needs, nodes)
    of_work = {work: index for index, work in enumerate(works)}
    for stage in placement.stages:
        cells = frozenset(
            i for i, used in enumerate(needs.cells) if used and of_work[used] in stage.works
        )
        stages.append(StagePlan(cells, stage))
    misfits = {
        i: placement.misfits[of_work[used]].replace("GPU", unit(cpu))
        for i, used in enumerate(needs.cells)
        if used and of_work[used] in placement.misfits
    }
    gpus = {node.name: node.gpus for node in nodes}
    return RunPlan(needs, stages, misfits, placement.loads, gpus)


def _left(plan: Plan, done: Container[str]) -> frozenset[int]:
    """The cells that have an episode to run."""
    left: set[int] = set()
    for ref in plan.refs(done):
        left.add(ref.cell)
        if len(left) == len(plan.cells):
            break  # most plans have shown all their cells in their first block
    return frozenset(left)


def _without(needs: Needs, cells: Container[int]) -> Needs:
    """The needs of all other cells."""
    rest = [frozenset() if i in cells else used for i, used in enumerate(needs.cells)]
    used = frozenset[str]().union(*rest)
    return replace(
        needs, specs={key: spec for key, spec in needs.specs.items() if key in used}, cells=rest
    )


class Residents:
    """The engines that are loaded or being loaded, and where; changes during a run."""

    def __init__(self, specs: Sequence[EngineSpec]) -> None:
        self.specs = specs
        self.allocations: dict[str, tuple[Allocation, ...]] = {}


class EngineLoader:
    """Opens the stages of a run, and loads and unloads engines as they need them.

    A stage opens when the one before has given all its episodes, and its engines load when the
    first call waits for one: dialogues that find all their calls in the cache need none. While
    the last dialogues of a stage still run, engines that they do not use make room.
    """

    def __init__(
        self,
        run: RunPlan,
        residents: Residents,
        fleet: Fleet,
        queue: LeaseQueue,
        console: Console,
        *,
        cpu: bool,
    ) -> None:
        self._run, self._fleet, self._queue, self._console = run, fleet, queue, console
        self._residents = residents
        self._unit = unit(cpu)

    async def conduct(self) -> None:
        """Runs until the last stage has what it needs."""
        for number, part in enumerate(self._run.stages):
            stage = part.stage
            if stage is None:
                self._open(number)
                continue
            await self._until(lambda n=number: self._queue.exhausted >= n)
            resident, wanted = self._residents.allocations, _allocations(stage)
            if any(key in resident and resident[key] != wanted[key] for key in wanted):
                # One has to move: once dialogues of this stage use it, it never could.
                await self._bring_up(stage)
                self._open(number)
            else:
                self._open(number)
                if await self._is_needed(number, part.cells, stage):
                    await self._bring_up(stage)

    def _open(self, number: int) -> None:
        if number >= self._queue.opened:
            self._queue.open()

    async def _is_needed(self, number: int, cells: frozenset[int], stage: Stage) -> bool:
        """Waits until a call waits for an engine to be loaded, or all dialogues have ended."""
        missing = stage.engines - self._residents.allocations.keys()
        while missing and not self._queue.wanted & missing:
            if self._queue.exhausted > number and not self._queue.outstanding() & cells:
                return False
            await asyncio.sleep(_LOOK_EVERY)
        return bool(missing)

    async def _bring_up(self, stage: Stage) -> None:
        labels = {key: spec.label for key, spec in self._run.needs.specs.items()}
        resident, wanted = self._residents.allocations, _allocations(stage)
        # What is resident need not be what the placement thinks: stages may have loaded nothing.
        leaving = {k for k, now in resident.items() if wanted.get(k) != now}
        loads = [k for k in sorted(stage.engines) if k not in resident or k in leaving]
        for key in loads:
            await self._until(lambda k=key: self._makes_room(leaving, k, wanted[k]))
            resident[key] = wanted[key]
            self._console.print(
                f"loading {escape(labels[key])}: {_where(wanted[key], self._unit)}", soft_wrap=True
            )
            self._fleet.load(key)
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
            with suppress(TimeoutError):  # without news it is time for a line
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
        """Unloads what is to leave and no longer used; whether there is room for `new` now."""
        resident = self._residents.allocations
        used = {key for cell in self._queue.outstanding() for key in self._run.needs.cells[cell]}
        for key in leaving - used:
            self._fleet.unload(key)
            del resident[key]
            leaving.discard(key)
        if new in resident:
            return False  # it moves, and is still used where it is
        taken: dict[str, Fraction] = {}
        for one in (*wanted, *(a for allocations in resident.values() for a in allocations)):
            taken[one.node] = taken.get(one.node, Fraction(0)) + exact(one.gpus)
        return all(gpus <= self._run.gpus[node] for node, gpus in taken.items())

    @staticmethod
    async def _until(condition: Callable[[], bool]) -> None:
        # The queue has no events: it is bookkeeping that workers' reports move.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY)


def _allocations(stage: Stage) -> dict[str, tuple[Allocation, ...]]:
    """Where each engine of a stage is to be, by key."""
    return {key: tuple(a for a in stage.allocations if a.engine == key) for key in stage.engines}


class RunEngines:
    """The engines of a run together with the queue that waits for them."""

    def __init__(
        self, stages: RunPlan, queue: LeaseQueue, crew: Launcher, console: Console
    ) -> None:
        self.queue = queue
        self._cpu = crew.cpu
        self._fleet: Fleet | None = None
        self._loader: EngineLoader | None = None
        if stages.needs.specs:
            residents = Residents(list(stages.needs.specs.values()))
            self._fleet = crew.launch(residents)
            self._loader = EngineLoader(
                stages, residents, self._fleet, queue, console, cpu=crew.cpu
            )
        else:
            for _ in stages.stages:
                queue.open()

    def start(self, stopping: asyncio.Event) -> asyncio.Task[None] | None:
        """Begins to load; should that break, `stopping` is set, and `end` raises why."""
        if self._loader is None:
            return None
        task = asyncio.create_task(self._loader.conduct())

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None:
                stopping.set()

        task.add_done_callback(ended)
        return task

    async def end(self, conducting: asyncio.Task[None] | None) -> None:
        """Stops loading, and counts for the last time."""
        if conducting is not None:
            conducting.cancel()
            with suppress(asyncio.CancelledError):  # as it was told
                await conducting
        if self._fleet is not None:
            await self._fleet.refresh()

    async def keep_noting(
        self, epoch: int, note: Callable[[Sequence[dict[str, Any]]], None]
    ) -> None:
        """Has the entries noted whenever an engine came or went, and now and then.

        A driver that is killed could not: the fingerprints of its calls would mean nothing.
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
        """GPUs times the seconds that this run has held them; CPU slots are no GPUs."""
        return 0.0 if self._fleet is None or self._cpu else self._fleet.gpu_seconds()

    def entries(self, epoch: int) -> list[dict[str, Any]]:
        """What the manifest keeps of the engines of this run."""
        if self._fleet is None:
            return []
        return [
            {"driver_epoch": epoch, **self._fleet.summary(key)}
            for key, engine in self._fleet.engines.items()
            if engine.fingerprints or engine.failed or engine.deaths
        ]


def engine_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the engines of a manifest did, a line a model."""
    lines = []
    for label in dict.fromkeys(entry["label"] for entry in entries):
        of = [entry for entry in entries if entry["label"] == label]
        queries, hits = sum(e["prefix_queries"] for e in of), sum(e["prefix_hits"] for e in of)
        line = (
            f"{label}: {sum(e['prompt_tokens'] for e in of):,} prompt and "
            f"{sum(e['output_tokens'] for e in of):,} output tokens"
        )
        if queries:
            line += f", prefix cache {hits / queries:.1%}"
        deaths = [cause for e in of for cause in e["death_causes"]]
        if deaths:
            down = sum(e["seconds_down"] for e in of)
            count = sum(e["deaths"] for e in of)
            line += f"; {count} deaths, {down:,.0f} s without a replica (last: {deaths[-1]})"
        if of[-1]["failed"]:
            line += f"; {of[-1]['failed']}"
        lines.append(line)
    return lines


class Launcher(Protocol):
    """Who starts the replicas (`runner.driver.executors`)."""

    cpu: bool

    def launch(self, residents: Residents) -> Fleet: ...


def many(count: int, word: str) -> str:
    """`2 cells`, `1 cell`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def unit(cpu: bool) -> str:
    """What engines are placed on, in words."""
    return "CPU slot" if cpu else "GPU"


def notes_of(needs: Needs) -> list[str]:
    """Lines on what was chosen for the machine that the engines run on."""
    return [f"{spec.label}: {note}" for spec in needs.specs.values() for note in spec.notes]


def describe(run: RunPlan, nodes: Sequence[Node], *, cpu: bool) -> list[str]:
    """Lines for `crsweep plan`: which models go where, in which order, and what does not fit."""
    labels = {key: spec.label for key, spec in run.needs.specs.items()}
    total = sum(node.gpus for node in nodes)
    lines = []
    if labels:
        lines.append(
            f"{many(len(labels), 'engine')} on {many(total, unit(cpu))}: {many(run.loads, 'load')}"
        )
    for number, part in enumerate((p for p in run.stages if p.stage is not None), start=1):
        assert part.stage is not None
        keeps = sorted(labels[key] for key in part.stage.engines - set(part.stage.loads))
        lines.append(
            f"  group {number}: {many(len(part.cells), 'cell')}"
            + (f", keeps {', '.join(keeps)}" if keeps else "")
        )
        for key in part.stage.loads:
            where = [one for one in part.stage.allocations if one.engine == key]
            lines.append(f"    load {labels[key]}: {_where(where, unit(cpu))}")
    lines += ["  " + line for line in notes_of(run.needs)]
    for reason in dict.fromkeys(run.misfits.values()):
        count = sum(found == reason for found in run.misfits.values())
        lines.append(f"  does not fit ({many(count, 'cell')}): {reason}")
    return lines


def placement_data(run: RunPlan) -> dict[str, Any]:
    """The placement as JSON types: groups of cells with what they load, and what does not fit."""
    labels = {key: spec.label for key, spec in run.needs.specs.items()}
    return {
        "groups": [
            {
                "cells": sorted(part.cells),
                "loads": [labels[key] for key in part.stage.loads],
                "allocations": [
                    {
                        "model": labels[one.engine],
                        "replica": one.replica,
                        "node": one.node,
                        "gpus": one.gpus,
                    }
                    for one in part.stage.allocations
                ],
            }
            for part in run.stages
            if part.stage is not None
        ],
        "loads": run.loads,
        "misfits": {str(cell): reason for cell, reason in run.misfits.items()},
    }


def _where(allocations: Sequence[Allocation], word: str) -> str:
    """`2 replicas on node-a (1 GPU each)`."""
    nodes = Counter(one.node[:12] for one in allocations)
    listed = ", ".join(
        name if len(nodes) == 1 else f"{name} ({count})" for name, count in nodes.items()
    )
    gpus = allocations[0].gpus
    each = f"{gpus:g} of a {word}" if gpus < 1 else many(int(gpus), word)
    return f"{many(len(allocations), 'replica')} on {listed}, {each} each"
