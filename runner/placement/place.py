"""The placement: which model engines are loaded on which nodes, and when.

`place` is pure: no Ray, no clock, no I/O. It cuts the works of a sweep into stages. In each stage a
set of engines is resident, and every work of the stage finds all its engines there.

- Several plans are made, and the one with the fewest loads is taken: `_Grouped` keeps a core of
  engines that many works share while the others pass, `_Greedy` always serves the work that lacks
  the fewest engines.
- An engine stays loaded until its room is needed. One that has to move is loaded again, and counts
  as a load.

How close that comes to the fewest loads possible: docs/designs/engines.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple, get_args

from runner.placement.packing import Allocation, Cluster, Engine, Engines, Grid, Node, exact, held

Phase = Literal["prepare", "dialogue", "judge"]


@dataclass(frozen=True)
class Work:
    """Engines that must be resident together in a phase; phases run one after the other."""

    phase: Phase
    engines: frozenset[str]


@dataclass(frozen=True)
class PlacementStage:
    """What is resident for a while. `loads` happen at its start, after what is not resident in it
    was unloaded.

    An engine that moves is in `loads` too. `works` are positions in what `place` was given.
    """

    phase: Phase
    engines: frozenset[str]
    works: tuple[int, ...]
    loads: tuple[str, ...]
    allocations: tuple[Allocation, ...]


@dataclass(frozen=True)
class Placement:
    """The stages in order, how many engines they load, and why some works have no stage."""

    stages: tuple[PlacementStage, ...]
    misfits: Mapping[int, str]
    loads: int


def place(
    engines: Sequence[Engine], nodes: Sequence[Node], works: Sequence[Work], spread: bool = False
) -> Placement:
    """Plans the stages that serve every work that fits, with few loads.

    Replicas fill node after node, or with `spread` go to as many nodes as there are.

    Raises ValueError for an engine or a work that is impossible whatever the cluster.
    """
    _check(engines, nodes, works)
    cluster = Cluster(engines, nodes, spread)
    position = {engine.key: i for i, engine in enumerate(engines)}
    sets = [frozenset(position[key] for key in work.engines) for work in works]
    misfits = {
        i: _reason([engines[e] for e in sorted(needed)], nodes)
        for i, needed in enumerate(sets)
        if not cluster.fits(needed)
    }
    phases = [
        list(
            dict.fromkeys(
                sets[i] for i, work in enumerate(works) if work.phase == p and i not in misfits
            )
        )
        for p in get_args(Phase)
    ]
    plans = [_plan(cluster, phases, order) for order in (_Greedy, _Finishing, _Grouped)]
    steps = min(plans, key=lambda plan: sum(len(step.loads) for step in plan))

    stages: list[PlacementStage] = []
    waiting = {i: needed for i, needed in enumerate(sets) if i not in misfits}
    since: dict[int, int] = {}
    for step in steps:
        phase, now = get_args(Phase)[step.phase], held(step.grid)
        served = [i for i, e in waiting.items() if works[i].phase == phase and e <= now]
        for i in served:
            del waiting[i]
        since |= dict.fromkeys(step.loads, len(stages))
        stages.append(
            PlacementStage(
                phase=phase,
                engines=frozenset(engines[e].key for e in now),
                works=tuple(served),
                loads=tuple(engines[e].key for e in sorted(step.loads)),
                allocations=tuple(cluster.allocations(step.grid, since)),
            )
        )
    return Placement(tuple(stages), misfits, sum(len(step.loads) for step in steps))


def _check(engines: Sequence[Engine], nodes: Sequence[Node], works: Sequence[Work]) -> None:
    for engine in engines:
        whole = engine.gpus >= 1 and float(engine.gpus).is_integer()
        if not (whole or 0.001 <= engine.gpus < 1):
            raise ValueError(
                f"engine {engine.label}: a replica takes a whole number of GPUs, or a share from "
                f"0.001 to 1; found {engine.gpus}"
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
    for work in works:
        if unknown := sorted(work.engines - keys.keys()):
            raise ValueError(
                f"work of phase {work.phase} needs engine {unknown[0]}, which is not listed"
            )


def _reason(engines: Sequence[Engine], nodes: Sequence[Node]) -> str:
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
    phase: int
    grid: Grid
    loads: Engines


_Order = Callable[[Cluster], Callable[[Engines, Sequence[Engines]], Engines]]
"""Which engines are wanted next, given those that are resident and the works that wait."""


def _plan(cluster: Cluster, phases: Sequence[Sequence[Engines]], order: _Order) -> list[_Step]:
    """Serves the works phase after phase."""
    steps: list[_Step] = []
    grid = cluster.empty
    for phase, works in enumerate(phases):
        waiting, wants = list(works), order(cluster)
        later = [work for rest in phases[phase + 1 :] for work in rest]
        if any(work <= held(grid) for work in waiting):
            steps.append(_Step(phase, grid, Engines()))
        while waiting := [work for work in waiting if not work <= held(grid)]:
            resident = held(grid)
            wanted = wants(resident, waiting)
            uses = Counter(e for work in (*waiting, *later) for e in work)
            leaving = sorted(resident - wanted, key=lambda e: (uses[e], -e))
            grid, loads = cluster.allocate(grid, wanted, leaving)
            steps.append(_Step(phase, grid, loads))
    return steps


class _Greedy:
    """The work that lacks the fewest engines; of those, the one that lets most be served.

    Of equal ones the one that keeps the engines with most works left; with `finish`, fewest.
    """

    finish = False

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __call__(self, resident: Engines, waiting: Sequence[Engines]) -> Engines:
        uses = Counter(e for work in waiting for e in work)
        by_use = [e for e in sorted(resident, key=lambda e: (-uses[e], e)) if uses[e]]

        def rank(work: Engines) -> tuple[int, int, int]:
            kept = self._cluster.largest(work, by_use)
            served = sum(other <= kept for other in waiting)
            left = sum(uses[e] for e in kept)
            return len(work - resident), -served, left if self.finish else -left

        return self._cluster.largest(min(waiting, key=rank), by_use)


class _Finishing(_Greedy):
    finish = True


class _Grouped:
    """A core of engines that many works share stays, while one engine after another visits it.

    The core is the one that serves most works a load, grown engine by engine. Of the visitors the
    one with most works left comes last, and stays for the next core.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._core, self._visitors = Engines(), Engines()

    def __call__(self, resident: Engines, waiting: Sequence[Engines]) -> Engines:
        uses = Counter(e for work in waiting for e in work)
        wanted = Engines()
        while wanted <= resident:
            if not self._visitors:
                self._core, self._visitors = self._choose(resident, waiting)
            visitor = min(self._visitors & resident or self._visitors, key=lambda e: (uses[e], e))
            self._visitors -= {visitor}
            both = self._core | {visitor}
            # Of the core, only what still has works with this visitor.
            wanted = Engines().union(*(work for work in waiting if work <= both))
        by_use = sorted(resident - wanted, key=lambda e: (-uses[e], e))
        return self._cluster.largest(wanted, [e for e in by_use if uses[e]])

    def _choose(self, resident: Engines, waiting: Sequence[Engines]) -> tuple[Engines, Engines]:
        def serving(core: Engines) -> tuple[float, int, list[int], Engines]:
            """Works served a load, works served, the core, and its visitors."""
            visitors, served = Engines(), 0
            for work in waiting:
                # A core that is a whole work counts one of its own engines as the visitor.
                rest = work - core or frozenset({min(work)})
                if len(rest) == 1 and (rest <= visitors or self._cluster.fits(core | rest)):
                    visitors |= rest
                    served += 1
            loads = len((core | visitors) - resident)
            if not served:
                return -1.0, 0, [], visitors
            return served / max(1, loads), served, sorted(core), visitors

        every = sorted(Engines().union(*waiting))
        cores = [work - {min(work)} for work in waiting]
        best = max((serving(core) for core in cores), key=lambda found: found[:3])
        for seed in every:
            core = [seed]
            while core:
                grown = [serving(frozenset({*core, e})) for e in every if e not in core]
                best = max(best, serving(frozenset(core)), *grown, key=lambda found: found[:3])
                core = max(grown, key=lambda found: found[:3])[2] if grown else []
        return frozenset(best[2]), best[3]
