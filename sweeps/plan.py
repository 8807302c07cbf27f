"""The plan: which episodes a sweep is made of, in the order in which they should run.

- Cells are checked whole (plug-ins, options, roles, models) before anything starts.
- Cases and seeds are expanded lazily, in blocks of one case across all cells, so that a partial
  run holds complete blocks and long dialogues are not missing from one cell first.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from agents.core import plugins
from agents.core.agent import Agent, AgentOptions
from agents.core.errors import UsageError, near
from agents.core.plugins import Options
from agents.core.prompts import folder_of
from agents.core.seeds import Seeds
from simulators.core.cases import Domain
from simulators.core.user import User, UserOptions
from sweeps import grid, identity
from sweeps.load import Loaded
from sweeps.origins import Origins, check
from sweeps.schema import CellConfig, ModelSpec, PluginRef

AGENTS, USERS, DOMAINS = "agents", "simulators.users", "simulators.domains"
SUCCESS = "simulators.success"
_SEED_AXES = ("seed", "seeds.sampling", "seeds.training", "seeds.order")
_CELL_PARTS = tuple(CellConfig.model_fields)

Declare = Callable[[ModelSpec, Origins, Sequence[str]], Mapping[str, Any]]
"""Checks a model's options and returns its identity. Backends live above this package, so
whoever makes a plan brings this."""


class Ref(NamedTuple):
    """One episode to run. `cell` is a position in the plan's cells; attempts count from 0."""

    episode_id: str
    cell: int
    seeds: Seeds
    case_id: str
    attempt: int = 0


@dataclass(frozen=True)
class Source:
    """Where a group of cells takes its cases from: one domain and one sample of its cases."""

    source_id: str
    domain_ref: PluginRef
    domain: Domain
    split: Any
    order: Sequence[int]
    """Positions in `domain.case_ids(split)`, the sample only."""

    @cached_property
    def _ids(self) -> Sequence[str]:
        return self.domain.case_ids(self.split)

    def __len__(self) -> int:
        return len(self.order)

    def case_id(self, position: int) -> str:
        return self._ids[self.order[position]]


@dataclass(frozen=True)
class Cell:
    """One point of the grid, seed and case left out."""

    cell_id: str
    source: int
    config: CellConfig
    axes: dict[str, str]
    roles: dict[str, str]
    """Every role that its dialogues speak -> the name of its model."""
    seeds: tuple[Seeds, ...]


@dataclass
class Plan:
    """All that a sweep file asks for."""

    loaded: Loaded
    cells: list[Cell] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)

    @property
    def episodes(self) -> int:
        return sum(len(c.seeds) * len(self.sources[c.source]) for c in self.cells)

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """The grid's axes without the seeds, in the order of the file."""
        groups = [*self.loaded.header.blocks, *self.loaded.header.zip]
        return tuple(dict.fromkeys(a for group in groups for a in group if a not in _SEED_AXES))

    def refs(self, done: Container[str] = ()) -> Iterator[Ref]:
        """Every episode whose id is not in `done`, block by block."""
        for source, position in self.blocks():
            case_id = self.sources[source].case_id(position)
            for index, cell in enumerate(self.cells):
                if cell.source != source:
                    continue
                for seeds in cell.seeds:
                    found = identity.episode_id(cell.cell_id, case_id, seeds)
                    if found not in done:
                        yield Ref(found, index, seeds, case_id)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(source, position of its case), the sources taking turns."""
        longest = max((len(s) for s in self.sources), default=0)
        for position in range(longest):
            for index, source in enumerate(self.sources):
                if position < len(source):
                    yield index, position


def make_plan(loaded: Loaded, declare: Declare) -> Plan:
    """Expands and checks a sweep; UsageError or DataError for the first thing wrong with it."""
    plan = Plan(loaded)
    _check_axis_paths(plan)
    cells: dict[str, Cell] = {}
    sources: dict[str, int] = {}
    domains: dict[str, Domain] = {}
    header = loaded.header
    for point in grid.points(header.blocks, header.zip, header.exclude):
        cell = _cell(plan, point, declare, domains, sources)
        known = cells.get(cell.cell_id)
        if known is not None:  # two points that differ in seeds alone, or in nothing observable
            seeds = tuple(dict.fromkeys((*known.seeds, *cell.seeds)))
            larger = max(known.source, cell.source, key=lambda s: len(plan.sources[s]))
            cell = replace(known, seeds=seeds, source=larger)
        cells[cell.cell_id] = cell
    plan.cells = list(cells.values())
    _drop_unused_sources(plan)
    if not plan.cells:
        raise UsageError(f"{loaded.path}: `exclude` leaves no cell of the grid")
    return plan


def _drop_unused_sources(plan: Plan) -> None:
    """A sample that a larger one of the same cells has swallowed is no source of its own."""
    used = sorted({cell.source for cell in plan.cells})
    plan.sources = [plan.sources[index] for index in used]
    plan.cells = [replace(cell, source=used.index(cell.source)) for cell in plan.cells]


def _check_axis_paths(plan: Plan) -> None:
    origins = plan.loaded.origins
    for axis in plan.axes:
        head = axis.split(".", 1)[0]
        if head not in _CELL_PARTS:
            raise UsageError(
                f"{origins.of_axis(axis) or plan.loaded.path}: grid: {axis!r} is no part of a cell"
                f"{near(head, _CELL_PARTS)} (an axis begins with one of: {', '.join(_CELL_PARTS)})"
            )
        parts = axis.split(".")
        if head == "models" and len(parts) > 1 and parts[1] not in plan.loaded.cell["models"]:
            raise UsageError(
                f"{origins.of_axis(axis)}: grid: there is no model {parts[1]!r}"
                f"{near(parts[1], plan.loaded.cell['models'])}"
            )


def _cell(
    plan: Plan,
    point: Mapping[str, Any],
    declare: Declare,
    domains: dict[str, Domain],
    sources: dict[str, int],
) -> Cell:
    raw = plan.loaded.cell
    for path, value in point.items():
        raw = grid.put(raw, path, value)
    origins = _origins_at(plan.loaded.origins, point)
    config: CellConfig = check(CellConfig, raw, origins)
    source = _source(plan, config, origins, domains, sources)
    agent, agent_identity = speaker(config.agent, AGENTS, "agent", origins, ("agent",))
    user, user_identity = speaker(config.simulator, USERS, "simulator", origins, ("simulator",))
    _require(plugins.load, SUCCESS, config.success.name, "success rule", origins, ("success",))
    roles = _roles(config, (*agent.roles, *user.roles), origins)
    declared = {
        name: declare(spec, origins, ("models", name)) for name, spec in config.models.items()
    }
    cell_id = identity.cell_id(
        domain=plan.sources[source].domain.fingerprint(),
        split=config.cases.split,
        agent=agent_identity,
        user=user_identity,
        success={"name": config.success.name, **config.success.options},
        limits=config.limits.model_dump(),
        models={role: declared[name] for role, name in roles.items()},
    )
    axes = {axis: _label(raw, axis) for axis in plan.axes}
    return Cell(cell_id, source, config, axes, roles, (config.seeding,))


def _label(raw: Mapping[str, Any], axis: str) -> str:
    value = grid.get(raw, axis)
    return "default" if value is None else grid.label(value)


def speaker(
    ref: PluginRef, package: str, kind: str, origins: Origins, at: Sequence[str]
) -> tuple[type[Agent] | type[User], dict[str, Any]]:
    """The class of an agent or user, and its identity; its options and prompts are checked."""
    cls = _require(plugins.load, package, ref.name, kind, origins, at)
    options: AgentOptions | UserOptions = check(cls.Options, ref.options, origins, at)
    try:
        prompts = folder_of(plugins.module(package, ref.name, kind), options.prompts)
    except UsageError as error:
        raise origins.refuse(at, error.message) from None
    found = {
        "name": ref.name,
        "version": cls.version,
        "options": options.identity(),
        "prompts": prompts.digest(),
    }
    return cls, found


def make_domain(ref: PluginRef, origins: Origins) -> Domain:
    """The domain that `ref` names; what it reads, it reads when first asked."""
    cls = _require(plugins.load, DOMAINS, ref.name, "domain", origins, ("domain",))
    options: Options = check(cls.Options, ref.options, origins, ("domain",))
    return cls(options)


def _source(
    plan: Plan,
    config: CellConfig,
    origins: Origins,
    domains: dict[str, Domain],
    sources: dict[str, int],
) -> int:
    """The position of the cell's source in the plan, which it may be the first to need."""
    key = identity.canonical([config.domain.model_dump(), config.cases.model_dump()])
    if key in sources:
        return sources[key]
    domain_key = identity.canonical(config.domain.model_dump())
    if domain_key not in domains:
        domains[domain_key] = make_domain(config.domain, origins)
    domain, cases = domains[domain_key], config.cases
    ids = domain.case_ids(cases.split)
    wanted = len(ids) if cases.sample is None else cases.sample
    if wanted > len(ids):
        raise origins.refuse(
            ("cases", "sample"), f"the domain has {len(ids)} cases, found {wanted}"
        )
    found = Source(
        identity.digest([domain.fingerprint(), cases.split, cases.sample_seed]),
        config.domain,
        domain,
        cases.split,
        identity.sample_order(ids, cases.sample_seed)[:wanted],
    )
    plan.sources.append(found)
    sources[key] = len(plan.sources) - 1
    return sources[key]


def _roles(config: CellConfig, spoken: Sequence[str], origins: Origins) -> dict[str, str]:
    for role, model in config.roles.items():
        if model not in config.models:
            raise origins.refuse(
                ("roles", role),
                f"there is no model {model!r}{near(model, config.models)}"
                f" (known: {', '.join(config.models)})",
            )
    try:
        return {role: identity.resolve_role(role, config.roles) for role in spoken}
    except UsageError as error:
        raise origins.refuse(("roles",), error.message.removeprefix("roles: ")) from None


def _origins_at(origins: Origins, point: Mapping[str, Any]) -> Origins:
    """`origins` for one point: what an axis sets comes from the axis."""
    found = Origins(dict(origins.places))
    for axis in point:
        place = origins.of_axis(axis)
        if place is not None:
            found.replace(axis.split("."), place)
    return found


def _require(
    load: Callable[..., Any],
    package: str,
    name: str,
    kind: str,
    origins: Origins,
    at: Sequence[str],
) -> Any:
    try:
        return load(package, name, kind)
    except UsageError as error:
        raise origins.refuse(at, error.message) from None
