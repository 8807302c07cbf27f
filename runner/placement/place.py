"""The placement: which model engines are loaded on which nodes, and when.

`place` is pure: no Ray, no clock, no I/O. A demand is a set of engines that must be resident
together. The demands of a sweep are cut into stages. In each stage a set of engines is resident,
and every demand of the stage finds all its engines there.

- Several plans are made, and the one with the fewest loads is taken: `_Grouped` keeps a core of
  engines that many demands share while the others pass, `_Greedy` always serves the demand that
  lacks the fewest engines.
- An engine stays loaded until its room is needed. One that has to move is loaded again, and counts
  as a load.

How close that comes to the fewest loads possible: docs/designs/engines.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from runner.placement.packing import (
    Allocation,
    Cluster,
    EngineSet,
    Grid,
    Node,
    PlacementEngine,
    exact,
    held,
)


@dataclass(frozen=True)
class PlacementStage:
    """What is resident for a while. `loads` happen at its start, after what is not resident in it
    was unloaded.

    An engine that moves is in `loads` too. `demands` are positions in what `place` was given.
    """

    engines: frozenset[str]
    demands: tuple[int, ...]
    loads: tuple[str, ...]
    allocations: tuple[Allocation, ...]


@dataclass(frozen=True)
class Placement:
    """The stages in order, how many engines they load, and why some demands have no stage."""

    stages: tuple[PlacementStage, ...]
    misfits: Mapping[int, str]
    loads: int


def place(
    engines: Sequence[PlacementEngine],
    nodes: Sequence[Node],
    demands: Sequence[frozenset[str]],
    spread: bool = False,
) -> Placement:
    """Plans the stages that serve every demand that fits, with few loads.

    `demands` have keys of engines. Replicas fill node after node, or with `spread` go to as many
    nodes as there are.

    Raises ValueError for an engine or a demand that is impossible whatever the cluster.
    """
    _check(engines, nodes, demands)
    cluster = Cluster(engines, nodes, spread)
    position = {engine.key: i for i, engine in enumerate(engines)}
    sets = [frozenset(position[key] for key in demand) for demand in demands]
    misfits = {
        i: _reason([engines[e] for e in sorted(needed)], nodes)
        for i, needed in enumerate(sets)
        if not cluster.fits(needed)
    }
    fitting = list(dict.fromkeys(needed for i, needed in enumerate(sets) if i not in misfits))
    plans = [_plan(cluster, fitting, order) for order in (_Greedy, _Finishing, _Grouped)]
    steps = min(plans, key=lambda plan: sum(len(step.loads) for step in plan))

    stages: list[PlacementStage] = []
    waiting = {i: needed for i, needed in enumerate(sets) if i not in misfits}
    since: dict[int, int] = {}
    for step in steps:
        now = held(step.grid)
        served = [i for i, needed in waiting.items() if needed <= now]
        for i in served:
            del waiting[i]
        since |= dict.fromkeys(step.loads, len(stages))
        stages.append(
            PlacementStage(
                engines=frozenset(engines[e].key for e in now),
                demands=tuple(served),
                loads=tuple(engines[e].key for e in sorted(step.loads)),
                allocations=tuple(cluster.allocations(step.grid, since)),
            )
        )
    return Placement(tuple(stages), misfits, sum(len(step.loads) for step in steps))


def _check(
    engines: Sequence[PlacementEngine], nodes: Sequence[Node], demands: Sequence[frozenset[str]]
) -> None:
    for engine in engines:
        whole = engine.gpus >= 1 and float(engine.gpus).is_integer()
        if not (whole or engine.gpus == 0 or 0.001 <= engine.gpus < 1):
            raise ValueError(
                f"engine {engine.label}: a replica takes a whole number of GPUs (0: none), or a "
                f"share from 0.001 to 1; found {engine.gpus}"
            )
        if engine.replicas < 1:
            raise ValueError(
                f"engine {engine.label}: expected at least 1 replica, found {engine.replicas}"
            )
    keys = Counter(engine.key for engine in engines)
    if double := [key for key, times in keys.items() if times > 1]:
        raise ValueError(f"engine {double[0]} is named twice")
    for node in nodes:
        if node.gpus < 0:
            raise ValueError(f"node {node.name}: expected at least 0 GPUs, found {node.gpus}")
    for demand in demands:
        if unknown := sorted(demand - keys.keys()):
            raise ValueError(f"a demand needs engine {unknown[0]}, which is not listed")


def _reason(engines: Sequence[PlacementEngine], nodes: Sequence[Node]) -> str:
    """Why these engines do not fit together, in one line."""
    largest = max((node.gpus for node in nodes), default=0)
    for engine in engines:
        if engine.gpus > max(largest, 1):
            return (
                f"a replica of {engine.label} needs {engine.gpus:g} GPUs in one node; "
                f"the largest node has {largest}"
            )
    names = [
        f"{engine.label} ({engine.replicas} x {_amount(exact(engine.gpus))})" for engine in engines
    ]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    need = sum((engine.replicas * exact(engine.gpus) for engine in engines), Fraction(0))
    have = sum(node.gpus for node in nodes)
    verb = "needs" if len(names) == 1 else "need"
    if need > have:
        return f"{listed} {verb} {_amount(need)}; the cluster has {have}"
    sizes = Counter(node.gpus for node in nodes if node.gpus)
    shape = " + ".join(f"{sizes[size]} x {_amount(size)}" for size in sorted(sizes, reverse=True))
    return (
        f"{listed} {verb} {_amount(need)} and the cluster has {have}, "
        f"but the replicas cannot be packed into its nodes ({shape})"
    )


def _amount(gpus: Fraction | int) -> str:
    return f"{float(gpus):g} GPU{'' if gpus == 1 else 's'}"


class _Step(NamedTuple):
    grid: Grid
    loads: EngineSet


_Order = Callable[[Cluster], Callable[[EngineSet, Sequence[EngineSet]], EngineSet]]
"""Which engines are wanted next, given those that are resident and the demands that wait."""


def _plan(cluster: Cluster, demands: Sequence[EngineSet], order: _Order) -> list[_Step]:
    """Serves one demand after another."""
    steps: list[_Step] = []
    grid, wants = cluster.empty, order(cluster)
    if any(not demand for demand in demands):
        steps.append(_Step(grid, EngineSet()))
    waiting = list(demands)
    while waiting := [demand for demand in waiting if not demand <= held(grid)]:
        resident = held(grid)
        wanted = wants(resident, waiting)
        uses = Counter(e for demand in waiting for e in demand)
        leaving = sorted(resident - wanted, key=lambda e: (uses[e], -e))
        grid, loads = cluster.allocate(grid, wanted, leaving)
        steps.append(_Step(grid, loads))
    return steps


class _Greedy:
    """The demand that lacks the fewest engines; of those, the one that lets most be served.

    Of equal ones the one that keeps the engines with most demands left; with `finish`, fewest.
    """

    finish = False

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __call__(self, resident: EngineSet, waiting: Sequence[EngineSet]) -> EngineSet:
        uses = Counter(e for demand in waiting for e in demand)
        by_use = [e for e in sorted(resident, key=lambda e: (-uses[e], e)) if uses[e]]

        def rank(demand: EngineSet) -> tuple[int, int, int]:
            kept = self._cluster.largest(demand, by_use)
            served = sum(other <= kept for other in waiting)
            left = sum(uses[e] for e in kept)
            return len(demand - resident), -served, left if self.finish else -left

        return self._cluster.largest(min(waiting, key=rank), by_use)


class _Finishing(_Greedy):
    finish = True


class _Grouped:
    """A core of engines that many demands share stays, while one engine after another visits it.

    The core is the one that serves most demands a load, grown engine by engine. Of the visitors the
    one with most demands left comes last, and stays for the next core.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._core, self._visitors = EngineSet(), EngineSet()

    def __call__(self, resident: EngineSet, waiting: Sequence[EngineSet]) -> EngineSet:
        uses = Counter(e for demand in waiting for e in demand)
        wanted = EngineSet()
        while wanted <= resident:
            if not self._visitors:
                self._core, self._visitors = self._choose(resident, waiting)
            visitor = min(self._visitors & resident or self._visitors, key=lambda e: (uses[e], e))
            self._visitors -= {visitor}
            both = self._core | {visitor}
            # Of the core, only what still has demands with this visitor.
            wanted = EngineSet().union(*(demand for demand in waiting if demand <= both))
        by_use = sorted(resident - wanted, key=lambda e: (-uses[e], e))
        return self._cluster.largest(wanted, [e for e in by_use if uses[e]])

    def _choose(
        self, resident: EngineSet, waiting: Sequence[EngineSet]
    ) -> tuple[EngineSet, EngineSet]:
        def serving(core: EngineSet) -> tuple[float, int, list[int], EngineSet]:
            """Demands served a load, demands served, the core, and its visitors."""
            visitors, served = EngineSet(), 0
            for demand in waiting:
                # A core that is a whole demand counts one of its own engines as the visitor.
                rest = demand - core or frozenset({min(demand)})
                if len(rest) == 1 and (rest <= visitors or self._cluster.fits(core | rest)):
                    visitors |= rest
                    served += 1
            loads = len((core | visitors) - resident)
            if not served:
                return -1.0, 0, [], visitors
            return served / max(1, loads), served, sorted(core), visitors

        every = sorted(EngineSet().union(*waiting))
        cores = [demand - {min(demand)} for demand in waiting]
        best = max((serving(core) for core in cores), key=lambda found: found[:3])
        for seed in every:
            core = [seed]
            while core:
                grown = [serving(frozenset({*core, e})) for e in every if e not in core]
                best = max(best, serving(frozenset(core)), *grown, key=lambda found: found[:3])
                core = max(grown, key=lambda found: found[:3])[2] if grown else []
        return frozenset(best[2]), best[3]
