"""The plan: which episodes a sweep is made of, in the order in which they should run.

- Cells are checked whole (plug-ins, options, roles, models) before anything starts.
- Cases and seeds are expanded lazily, in blocks of one case across all cells, so that a partial
  run holds complete blocks and long dialogues are not missing from one cell first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

from agents.core import plugins
from agents.core.agent import Agent, AgentOptions
from agents.core.artifacts import CallsRecipe, Recipe
from agents.core.errors import DataError, PromptError, UsageError, near
from agents.core.plugins import Options
from agents.core.prompts import folder_of
from agents.core.seeds import Seeds
from agents.core.text import repaired
from simulators.core.cases import Domain
from simulators.core.user import User
from sweeps import grid, identity
from sweeps.artifacts import Artifact, Need, keys_of, need_of, role_of
from sweeps.episodes import episode_task
from sweeps.judges import PlannedJudge, planned_judges, with_pairs
from sweeps.load import LoadedSweep
from sweeps.missing import refused_data
from sweeps.origins import Origins, check
from sweeps.reserved import ROLES, reserved, usable
from sweeps.schema import CellConfig, ModelSpec, PluginRef, Seeding
from sweeps.speakers import AGENTS, USERS, require, speaker
from sweeps.tasks import Task

DOMAINS, SUCCESS = "simulators.domains", "simulators.success"
_SEED_AXES = ("seed", "seeds", "seeds.sampling", "seeds.training", "seeds.order")
_CELL_PARTS = tuple(CellConfig.model_fields)

Declare = Callable[[ModelSpec, Origins, Sequence[str]], Callable[[], Mapping[str, Any]]]
"""Checks a model's options and returns what finds its identity, for which weights must be there.
Backends live above this package, so whoever makes a plan brings this."""


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
    needs: tuple[Need, ...] = ()
    """What its agent needs prepared."""
    judges: Mapping[str, str] = field(default_factory=dict)
    """Every role that its dialogues are judged by -> the name of its model."""

    @property
    def models(self) -> list[str]:
        """The names of all models that play or judge its dialogues."""
        return list(dict.fromkeys([*self.roles.values(), *self.judges.values()]))

    def artifacts(self, seeds: Seeds) -> dict[str, str]:
        """Name -> key of what its episodes with these seeds need."""
        return keys_of(self.needs, seeds)


@dataclass
class Plan:
    """All that a sweep file asks for."""

    loaded: LoadedSweep
    probe: bool
    """Whether a metric needs the probe (`simulators.core.dialogue`)."""
    cells: list[Cell] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    judges: list[PlannedJudge] = field(default_factory=list)

    @property
    def episodes(self) -> int:
        return sum(len(c.seeds) * len(self.sources[c.source]) for c in self.cells)

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """The grid's axes without the seeds, in the order of the file."""
        groups = [*self.loaded.header.blocks, *self.loaded.header.zip]
        return tuple(dict.fromkeys(a for group in groups for a in group if a not in _SEED_AXES))

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """Key -> every distinct artifact, in the order of the cells."""
        found: dict[str, Artifact] = {}
        for index, cell in enumerate(self.cells):
            for seeds in cell.seeds:
                for need in cell.needs:
                    key = need.key(seeds)
                    if key not in found:
                        found[key] = self._artifact(need, key, index, seeds.training)
                    elif index not in found[key].cells:
                        found[key] = replace(found[key], cells=(*found[key].cells, index))
        return found

    def _artifact(self, need: Need, key: str, index: int, seed: int) -> Artifact:
        cell, recipe = self.cells[index], need.recipe
        title = recipe.label
        if isinstance(recipe, CallsRecipe):
            title += f" of {cell.config.agent.name} by {cell.roles[role_of(recipe)]}"
        title += f" on {self.sources[cell.source].domain_ref.name}, seed {seed}"
        return Artifact(key, need.name, recipe, seed, title, (index,))

    def episode_tasks(
        self, done: Container[str] = (), cells: Container[int] | None = None
    ) -> Iterator[Task]:
        """A task for every episode whose id is not in `done`, block by block.

        With `cells`, of those only.
        """
        chosen = [
            (index, cell)
            for index, cell in enumerate(self.cells)
            if cells is None or index in cells
        ]
        for source, position in self.blocks():
            case_id = self.sources[source].case_id(position)
            for index, cell in chosen:
                if cell.source != source:
                    continue
                for seeds in cell.seeds:
                    found = identity.episode_id(cell.cell_id, case_id, seeds)
                    if found not in done:
                        yield episode_task(found, index, seeds, case_id)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(source, position of its case), the sources taking turns."""
        longest = max((len(s) for s in self.sources), default=0)
        for position in range(longest):
            for index, source in enumerate(self.sources):
                if position < len(source):
                    yield index, position


def make_plan(loaded: LoadedSweep, declare: Declare, *, probe: bool) -> Plan:
    """Expands and checks a sweep; UsageError or DataError for the first thing wrong with it.

    `probe` is known by whoever knows the metrics, which live above this package.
    """
    plan = Plan(loaded, probe, judges=planned_judges(loaded.header.judges, loaded.origins))
    _check_axis_paths(plan)
    maker = _CellMaker(plan, declare)
    made: dict[str, Cell | None] = {}  # the point without its seeds -> its cell
    seeds: dict[str, dict[Seeds, None]] = {}  # cell id -> its seeds, in order
    cells: dict[str, Cell] = {}
    header = loaded.header
    try:
        for point in grid.points(header.blocks, header.zip, header.exclude):
            without = {axis: value for axis, value in point.items() if axis not in _SEED_AXES}
            key = identity.canonical(without)
            cell = made.get(key)
            if cell is None:
                cell = made[key] = maker.cell(without)
                known = cells.setdefault(cell.cell_id, cell)
                if len(plan.sources[cell.source]) > len(plan.sources[known.source]):
                    cells[cell.cell_id] = replace(known, source=cell.source)
            seeds.setdefault(cell.cell_id, {})[maker.seeds(point)] = None
    except grid.GridError as error:
        raise loaded.origins.refuse((error.key,), error.message) from None
    plan.cells = [replace(cell, seeds=tuple(seeds[cell.cell_id])) for cell in cells.values()]
    if not plan.cells:
        raise loaded.origins.refuse(("exclude",), "leaves no cell of the grid")
    _drop_unused_sources(plan)
    axes = [cell.axes for cell in plan.cells]
    plan.judges = [
        with_pairs(judge, axes, loaded.origins, ("judges", index))
        for index, judge in enumerate(maker.judges)
    ]
    return plan


def _drop_unused_sources(plan: Plan) -> None:
    """A sample that a larger one of the same cells has swallowed is no source of its own."""
    used = sorted({cell.source for cell in plan.cells})
    plan.sources = [plan.sources[index] for index in used]
    plan.cells = [replace(cell, source=used.index(cell.source)) for cell in plan.cells]


def _check_axis_paths(plan: Plan) -> None:
    origins = plan.loaded.origins
    folded: dict[str, str] = {}
    for axis in plan.axes:
        other = folded.setdefault(axis.lower(), axis)
        if other != axis:
            raise UsageError(
                f"{origins.of_axis(axis)}: grid: the axes {other} and {axis} differ in case only, "
                "and columns of results do not: rename a model or a role"
            )
        head = axis.split(".", 1)[0]
        if (why := reserved([head])) is not None:
            raise UsageError(f"{origins.of_axis(axis)}: grid: {axis}: {why}")
        if head not in _CELL_PARTS:
            raise UsageError(
                f"{origins.of_axis(axis) or plan.loaded.path}: grid: {axis!r} is not part of a cell"
                f"{near(head, _CELL_PARTS)} (an axis begins with one of: {', '.join(_CELL_PARTS)})"
            )
        if axis in ("cases.sample", "cases.sample_seed"):
            raise UsageError(
                f"{origins.of_axis(axis)}: grid: {axis} cannot be an axis: which users are drawn "
                "changes no dialogue, so its values would be one cell; use two sweeps"
            )
        models = plan.loaded.cell.get("models") or {}
        keys = grid.keys_of(plan.loaded.cell, axis)
        if head == "models" and len(keys) > 2 and keys[2] == "price":
            raise UsageError(
                f"{origins.of_axis(axis)}: grid: {axis} cannot be an axis: a price changes no "
                "dialogue, so its values would be one cell"
            )
        if head == "roles" and len(keys) > 1 and keys[1].split(".", 1)[0] == "judge":
            raise UsageError(
                f"{origins.of_axis(axis)}: grid: {axis} cannot be an axis: a judge changes no "
                "dialogue; judge again with another model by `crsweep judge`"
            )
        if head == "models" and len(keys) > 1 and keys[1] not in models:
            raise UsageError(
                f"{origins.of_axis(axis)}: grid: there is no model {keys[1]!r}"
                f"{near(keys[1], models)}"
            )


class _CellMaker:
    """Makes and checks the cells of one plan; what cells share is made once."""

    def __init__(self, plan: Plan, declare: Declare) -> None:
        self._plan = plan
        self._declare = declare
        self._declared: dict[str, Callable[[], Mapping[str, Any]]] = {}
        self._origins: dict[tuple[str, ...], Origins] = {}
        self._domains: dict[str, Domain] = {}
        self._sources: dict[str, int] = {}
        self.judges = plan.judges
        """With the digests of their models, once a cell is made."""

    def cell(self, point: Mapping[str, Any]) -> Cell:
        """The cell of a point without seeds."""
        raw, origins = self._raw(point), self._origins_at(point)
        _refuse_infinite(raw, origins, ())
        config: CellConfig = check(CellConfig, raw, origins)
        source = self._source(config, origins, point)
        agent, agent_identity = speaker(config.agent, AGENTS, "agent", origins, ("agent",))
        recipes = needs_of(agent, config.agent, origins)
        user, user_identity = speaker(config.simulator, USERS, "simulator", origins, ("simulator",))
        _check_success(config.success, origins)
        roles = _roles(config, (*agent.roles, *user.roles), origins)
        checked = {name: self._checked(name, config, origins) for name in config.models}
        # A model that nobody speaks with is checked, but its weights need not be there.
        models = {role: checked[name]() for role, name in roles.items()}
        fingerprint = self._plan.sources[source].domain.fingerprint()
        prompts = agent_identity["prompts"]
        needs = tuple(
            need_of(name, recipe, domain=fingerprint, prompts=prompts, models=models)
            for name, recipe in recipes.items()
        )
        cell_id = identity.cell_id(
            domain=fingerprint,
            split=config.cases.split,
            agent=agent_identity,
            user=user_identity,
            success={"name": config.success.name},
            limits=config.limits.model_dump(),
            models=models,
        )
        axes = {axis: self._label(raw, axis) for axis in self._plan.axes}
        judging = self._judging(config, checked, origins)
        return Cell(cell_id, source, config, axes, roles, (), needs, judging)

    def _judging(
        self,
        config: CellConfig,
        checked: Mapping[str, Callable[[], Mapping[str, Any]]],
        origins: Origins,
    ) -> dict[str, str]:
        """The roles of the judges and their models, which must be the same in all cells."""
        judging: dict[str, str] = {}
        known, self.judges = self.judges, []
        for index, judge in enumerate(known):
            roles = _roles(config, judge.roles, origins)
            found = judge.with_models({role: checked[name]() for role, name in roles.items()})
            if judge.digest and judge.digest != found.digest:
                raise origins.refuse(
                    ("judges", index),
                    f"the model of {judge.role} differs between cells of the grid; all dialogues "
                    "of a sweep are judged by one",
                )
            self.judges.append(found)
            judging |= roles
        return judging

    def seeds(self, point: Mapping[str, Any]) -> Seeds:
        """The seeds of a point."""
        raw = self._plan.loaded.cell
        given = {key: raw[key] for key in ("seed", "seeds") if key in raw}
        for axis in _SEED_AXES:
            if axis in point:
                given = grid.put(given, axis, point[axis])
        origins = self._origins_at(point)
        found: Seeding = check(Seeding, given, origins)
        for name in found.seeds.model_fields_set if found.seeds else ():
            origins.refuse_reserved(("seeds", name))
        return found.seeding

    def _raw(self, point: Mapping[str, Any]) -> dict[str, Any]:
        return grid.put_all(self._plan.loaded.cell, point)

    def _label(self, raw: Mapping[str, Any], axis: str) -> str:
        value = grid.get(raw, axis)
        label = "default" if value is None else grid.label(value)
        return self._plan.loaded.as_written(label)

    def _checked(
        self, name: str, config: CellConfig, origins: Origins
    ) -> Callable[[], Mapping[str, Any]]:
        spec = config.models[name]
        key = identity.canonical(spec.model_dump())
        if key not in self._declared:
            self._declared[key] = cache(self._declare(spec, origins, ("models", name)))
        return self._declared[key]

    def _origins_at(self, point: Mapping[str, Any]) -> Origins:
        """The origins for one point: what an axis sets comes from the axis."""
        axes = tuple(point)
        if axes not in self._origins:
            loaded = self._plan.loaded
            found = Origins(dict(loaded.origins.places), dict(loaded.origins.plain))
            for axis in axes:
                found.replace_by_axis(grid.keys_of(loaded.cell, axis), axis)
            self._origins[axes] = found
        return self._origins[axes]

    def _source(self, config: CellConfig, origins: Origins, point: Mapping[str, Any]) -> int:
        """The position of the cell's source in the plan, which it may be the first to need."""
        key = identity.canonical([config.domain.model_dump(), config.cases.model_dump()])
        if key not in self._sources:
            self._plan.sources.append(self._make_source(config, origins, point))
            self._sources[key] = len(self._plan.sources) - 1
        return self._sources[key]

    def _make_source(
        self, config: CellConfig, origins: Origins, point: Mapping[str, Any]
    ) -> Source:
        domain_key = identity.canonical(config.domain.model_dump())
        if domain_key not in self._domains:
            self._domains[domain_key] = make_domain(config.domain, origins)
        domain, cases = self._domains[domain_key], config.cases
        try:
            ids, fingerprint = domain.case_ids(cases.split), domain.fingerprint()
            order = _order(ids, cases.sample_seed)
        except DataError as error:
            raise refused_data(error, self._plan.loaded, origins, point) from None
        wanted = len(ids) if cases.sample is None else cases.sample
        if wanted > len(ids):
            raise origins.refuse(
                ("cases", "sample"), f"the domain has {len(ids)} cases, found {wanted}"
            )
        return Source(
            identity.digest([fingerprint, cases.split, cases.sample_seed]),
            config.domain,
            domain,
            cases.split,
            order[:wanted],
        )


def _refuse_infinite(value: Any, origins: Origins, at: tuple[Any, ...]) -> None:
    """No option means anything with them, and canonical JSON has none."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            _refuse_infinite(part, origins, (*at, key))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            _refuse_infinite(part, origins, (*at, index))
    elif isinstance(value, float) and not math.isfinite(value):
        raise origins.refuse(at, f"expected a finite number, found {value}")


def _check_success(ref: PluginRef, origins: Origins) -> None:
    require(plugins.load, SUCCESS, ref.name, "success rule", origins, ("success",))
    for option in ref.options:
        raise origins.refuse(
            ("success", option), f"unknown key {option!r}; {ref.name} takes no options"
        )


def needs_of(
    cls: type[Agent] | type[User], ref: PluginRef, origins: Origins
) -> Mapping[str, Recipe]:
    """What an agent, as a sweep file has it, needs prepared; what speaks for that is checked."""
    assert issubclass(cls, Agent)
    options: AgentOptions = check(cls.Options, ref.options, origins, ("agent",))
    found = cls.needs(options)
    prompts = folder_of(plugins.module(AGENTS, ref.name, "agent"), options.prompts)
    for name, recipe in found.items():
        if not isinstance(recipe, CallsRecipe):
            continue
        if role_of(recipe) not in cls.roles:
            raise origins.refuse(
                ("agent",),
                f"{ref.name} needs {name!r}, which the role {role_of(recipe)!r} makes; expected "
                f"it among its roles, found {', '.join(cls.roles)}",
            )
        try:
            for step in recipe.steps:
                prompts.check(step.name)
        except PromptError as error:
            raise origins.refuse(("agent",), error.message) from None
    return found


def _order(ids: Sequence[str], sample_seed: int) -> list[int]:
    """The order of the sample. DataError for ids of a domain that no file can hold."""
    try:
        return identity.sample_order(ids, sample_seed)
    except (AttributeError, UnicodeEncodeError):
        odd = next(i for i in ids if not isinstance(i, str) or repaired(i) != i)
        raise DataError(
            f"a case has the id {odd!r}; expected a string of whole characters"
        ) from None


def make_domain(ref: PluginRef, origins: Origins) -> Domain:
    """The domain that `ref` names; what it reads, it reads when first asked."""
    cls = require(plugins.load, DOMAINS, ref.name, "domain", origins, ("domain",))
    options: Options = check(cls.Options, ref.options, origins, ("domain",))
    return cls(options)


def _roles(config: CellConfig, spoken: Sequence[str], origins: Origins) -> dict[str, str]:
    possible = usable(ROLES, ["roles"])
    for role, model in config.roles.items():
        origins.refuse_reserved(("roles", role))
        speaks = role.split(".", 1)[0]
        if speaks not in possible:
            raise origins.refuse(
                ("roles", role),
                f"there is no role {role!r}{near(speaks, possible)}"
                f" (a role begins with one of: {', '.join(possible)})",
            )
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
