"""Groups the cells of a plan by the engines that they need, and places the groups."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.core.formatting import slot_word
from runner.placement.packing import Node, PlacementEngine
from runner.placement.place import Placement, PlacementStage, place
from sweeps.origins import Origins
from sweeps.plan import Plan
from workers.backends.core.backend import EngineSpec
from workers.models import backend_of


@dataclass(frozen=True)
class EngineNeeds:
    """Which engines a plan needs: by key, and for each cell the keys that its dialogues use.

    `names` maps model names of the sweep file to keys; several may share one engine.
    """

    specs: Mapping[str, EngineSpec]
    cells: Sequence[frozenset[str]]
    names: Mapping[str, str]


def needs_of(plan: Plan, cpu: bool) -> EngineNeeds:
    """The engines of a plan, for a cluster with GPUs or without (`cpu`)."""
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
                elastic=other.elastic or spec.elastic,
                max_inflight=max(other.max_inflight, spec.max_inflight),
            )
        cells.append(frozenset(used))
    return EngineNeeds(specs, cells, names)


def placement_of(
    needs: EngineNeeds, nodes: Sequence[Node], spread: bool = False
) -> tuple[Placement, list[frozenset[str]]]:
    """The placement, and the demands (distinct sets of engines) that it refers to."""
    demands = list(dict.fromkeys(used for used in needs.cells if used))
    engines = [PlacementEngine(s.key, s.label, s.replicas, s.gpus) for s in needs.specs.values()]
    return place(engines, nodes, demands, spread), demands


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run: its cells, and its part of the placement."""

    cells: frozenset[int]
    stage: PlacementStage | None
    """None for cells that need no engine."""


@dataclass(frozen=True)
class RunPlan:
    """All stages of a run. `misfits` maps cells that fit on no node to the reason."""

    needs: EngineNeeds
    stages: Sequence[StagePlan]
    misfits: Mapping[int, str]
    loads: int = 0
    gpus: Mapping[str, int] = field(default_factory=dict)
    """GPUs (or CPU slots) of each node."""
    spread: bool = False
    """Whether replicas go to as many nodes as there are (`run.placement`)."""


def without_engines(plan: Plan) -> RunPlan:
    """One stage with all cells, for runs whose engines, if any, start on demand."""
    cells = frozenset(range(len(plan.cells)))
    return RunPlan(EngineNeeds({}, (), {}), [StagePlan(cells, None)], {})


def run_plan(
    plan: Plan, nodes: Sequence[Node], cpu: bool, cells: frozenset[int] | None = None
) -> RunPlan:
    """Groups the cells of a plan by the engines that are loaded together.

    If `cells` is given, all others are left out, and nothing is loaded for them.
    """
    every = frozenset(range(len(plan.cells)))
    left = every if cells is None else cells
    needs = _without(needs_of(plan, cpu), every - left)
    free = frozenset(i for i in left if not needs.cells[i])
    stages = [StagePlan(free, None)] if free else []
    if not needs.specs:
        return RunPlan(needs, stages, {})
    spread = plan.loaded.header.run.placement == "spread"
    placement, demands = placement_of(needs, nodes, spread)
    place_of = {demand: index for index, demand in enumerate(demands)}
    for stage in placement.stages:
        cells = frozenset(
            i for i, used in enumerate(needs.cells) if used and place_of[used] in stage.demands
        )
        stages.append(StagePlan(cells, stage))
    misfits = {
        i: placement.misfits[place_of[used]].replace("GPU", slot_word(cpu))
        for i, used in enumerate(needs.cells)
        if used and place_of[used] in placement.misfits
    }
    gpus = {node.name: node.gpus for node in nodes}
    return RunPlan(needs, stages, misfits, placement.loads, gpus, spread)


def _without(needs: EngineNeeds, cells: Container[int]) -> EngineNeeds:
    """The needs of all other cells."""
    rest = [frozenset() if i in cells else used for i, used in enumerate(needs.cells)]
    used = frozenset[str]().union(*rest)
    return replace(
        needs, specs={key: spec for key, spec in needs.specs.items() if key in used}, cells=rest
    )


def notes_of(needs: EngineNeeds) -> list[str]:
    """Notes on choices that depend on the machine of the engines."""
    return [f"{spec.label}: {note}" for spec in needs.specs.values() for note in spec.notes]
