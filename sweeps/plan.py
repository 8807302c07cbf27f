"""The plan: the episodes of a sweep, in the order in which they should run.

- Cells are fully checked (plug-ins, options, roles, models) before anything starts.
- Cases and seeds are expanded lazily, in blocks of one case across all cells. So a partial run has
  complete blocks, and no cell lacks its long dialogues.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agents.core.artifacts import CallsRecipe
from agents.core.errors import UsageError, near
from agents.core.seeds import Seeds
from sweeps import grid, identity
from sweeps.artifact_labels import SettingValues, deciding_settings, differences
from sweeps.artifacts import PROFILES, Artifact, Need, role_of
from sweeps.cells import SEED_AXES, Cell, CellMaker, Declare
from sweeps.episodes import episode_task
from sweeps.judges import PlannedJudge, planned_judges, with_pairs
from sweeps.schema import CellConfig
from sweeps.sources import FindProfiles, Source
from sweeps.streams import Chain, chain_of
from sweeps.tasks import Task
from sweeps.unused import unused_values

if TYPE_CHECKING:  # OmegaConf, which workers need not import
    from sweeps.load import LoadedSweep

_CELL_PARTS = tuple(CellConfig.model_fields)


@dataclass
class Plan:
    """Everything that a sweep file asks for."""

    loaded: LoadedSweep
    probe: bool
    """Whether a metric needs the probe (`simulators.core.dialogue`)."""
    cells: list[Cell] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    judges: list[PlannedJudge] = field(default_factory=list)
    depth: int = 0
    """How many items of a ranking its metrics read, at most."""
    remarks: list[str] = field(default_factory=list)
    """What the author of the file should know: values that have no effect."""

    @property
    def episodes(self) -> int:
        return sum(len(c.seeds) * len(self.sources[c.source]) for c in self.cells)

    @property
    def backends(self) -> list[str]:
        """Those that the cells' models use, each once, in the order of the cells."""
        used = [cell.config.models[name].backend for cell in self.cells for name in cell.models]
        return list(dict.fromkeys(used))

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """The grid's axes without the seeds, in the order of the file."""
        groups = [*self.loaded.header.blocks, *self.loaded.header.zip]
        return tuple(dict.fromkeys(a for group in groups for a in group if a not in SEED_AXES))

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """Key -> every distinct artifact, in the order of the cells, no two with one title."""
        found: dict[str, Artifact] = {}
        needs: dict[str, Need] = {}
        for index, cell in enumerate(self.cells):
            for seeds in cell.seeds:
                # An agent's needs depend on the cases, so a pending cell needs these first.
                for top in cell.needs if cell.profiles is None else (cell.profiles,):
                    seed = top.seed(seeds)
                    for need in top.whole():
                        self._add(found, need, index, seed, for_agents=need is top)
                        needs.setdefault(need.key_at(seed), need)
        return self._with_distinct_titles(found, needs)

    def _with_distinct_titles(
        self, found: dict[str, Artifact], needs: Mapping[str, Need]
    ) -> dict[str, Artifact]:
        """`found`, where artifacts of one title also name the settings in which they differ."""
        of_title: dict[str, list[str]] = {}
        for key, artifact in found.items():
            of_title.setdefault(artifact.title, []).append(key)
        for keys in (keys for keys in of_title.values() if len(keys) > 1):
            words = differences([self._facts(needs[key], found[key]) for key in keys])
            for key, own in zip(keys, words, strict=True):
                # What only dialogues with training users depend on is in no recipe.
                own = own if words.count(own) == 1 else ", ".join(filter(None, (own, key[:8])))
                title = self._title(needs[key], found[key].cells[0], found[key].seed, own)
                found[key] = replace(found[key], title=title)
        return found

    def _facts(self, need: Need, artifact: Artifact) -> SettingValues:
        cell = self.cells[artifact.cells[0]]
        config = cell.config
        return deciding_settings(need, cell.roles, config)

    @property
    def pending(self) -> list[str]:
        """Keys of the profiles that must be written before some cells have cases."""
        return [key for key, artifact in self.artifacts.items() if artifact.name == PROFILES]

    def _add(
        self, found: dict[str, Artifact], need: Need, index: int, seed: int, *, for_agents: bool
    ) -> None:
        key = need.key_at(seed)
        if key not in found:
            found[key] = replace(self._artifact(need, key, index, seed), for_agents=for_agents)
            return
        if index not in found[key].cells:
            found[key] = replace(found[key], cells=(*found[key].cells, index))
        if for_agents and not found[key].for_agents:
            found[key] = replace(found[key], name=need.name, for_agents=True)

    def _artifact(self, need: Need, key: str, index: int, seed: int) -> Artifact:
        inputs = {each.name: each.key_at(seed) for each in need.inputs}
        title = self._title(need, index, seed)
        return Artifact(key, need.name, need.recipe, seed, title, (index,), inputs)

    def _title(self, need: Need, index: int, seed: int, settings: str = "") -> str:
        cell, recipe = self.cells[index], need.recipe
        title = f"{recipe.label} ({settings})" if settings else recipe.label
        if isinstance(recipe, CallsRecipe):
            is_users = need.name == PROFILES or recipe.by_user
            who = cell.config.simulator if is_users else cell.config.agent
            title += f" of {who.name} by {cell.roles[role_of(recipe)]}"
        if recipe.of_domain:
            title += f" on {self.domain_name(self.sources[cell.source])}"
        return f"{title}, seed {seed}"

    def domain_name(self, source: Source) -> str:
        """The name of its domain, with the data set where the sweep has several of that name."""
        name, dataset = source.domain_ref.name, source.domain.dataset
        of_name = {one.domain.dataset for one in self.sources if one.domain_ref.name == name}
        return f"{name} ({dataset})" if dataset and len(of_name) > 1 else name

    def episode_tasks(self, done: Container[str] = ()) -> Iterator[Task]:
        """A task for every episode whose id is not in `done`, block by block.

        Those of streams come last, without their memory.
        """
        yield from self.single_tasks(done)
        for chain in self.chains():
            for batch in chain.batches:
                for episode, case_id in batch:
                    if episode not in done:
                        yield episode_task(episode, chain.cell, chain.seeds, case_id)

    def chains(self, cells: Container[int] | None = None) -> Iterator[Chain]:
        """The streams of all cells, or of some."""
        for index, cell in enumerate(self.cells):
            if cell.memory is None or not (cells is None or index in cells):
                continue
            source = self.sources[cell.source]
            cases = [source.case_id(position) for position in range(len(source))]
            for seeds in cell.seeds if cases else ():
                yield chain_of(index, cell.cell_id, cases, seeds, cell.memory.batch)

    def single_tasks(
        self, done: Container[str] = (), cells: Container[int] | None = None
    ) -> Iterator[Task]:
        """The same without streams, of all cells or of some."""
        chosen = [
            (index, cell)
            for index, cell in enumerate(self.cells)
            if cell.memory is None and (cells is None or index in cells)
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
        """(source, position of its case), alternating between sources."""
        longest = max((len(s) for s in self.sources), default=0)
        for position in range(longest):
            for index, source in enumerate(self.sources):
                if position < len(source):
                    yield index, position


def make_plan(
    loaded: LoadedSweep,
    declare: Declare,
    *,
    probe: bool,
    find_profiles: FindProfiles = lambda key: None,
) -> Plan:
    """Expands and checks a sweep. Raises UsageError or DataError for the first problem.

    `probe` follows from the metrics, and `find_profiles` uses the store of artifacts; both live in
    packages above this one.
    """
    plan = Plan(loaded, probe)
    judges = planned_judges(loaded.header.judges, loaded.origins)
    _check_axis_paths(plan)
    maker = CellMaker(loaded, plan.axes, judges, declare, find_profiles)
    plan.sources = maker.sources.made
    made: dict[str, Cell | None] = {}  # the point without its seeds -> its cell
    seeds: dict[str, dict[Seeds, None]] = {}  # cell id -> its seeds, in order
    cells: dict[str, Cell] = {}
    header = loaded.header
    ordered: Mapping[str, Any] | None = None  # a point that gives an order
    point: Mapping[str, Any] = {}
    try:
        for point in grid.points(header.blocks, header.zip, header.exclude):
            without = {axis: value for axis, value in point.items() if axis not in SEED_AXES}
            key = identity.canonical(without)
            cell = made.get(key)
            if cell is None:
                cell = made[key] = maker.cell(without)
                known = cells.setdefault(cell.cell_id, cell)
                if len(plan.sources[cell.source]) > len(plan.sources[known.source]):
                    cells[cell.cell_id] = replace(known, source=cell.source)
            given = maker.seeding(point)
            if given.order_is_given:
                ordered = point
            seeds.setdefault(cell.cell_id, {})[given.seeding] = None
    except grid.GridError as error:
        raise loaded.origins.refuse((error.key,), error.message) from None
    plan.cells = [replace(cell, seeds=tuple(seeds[cell.cell_id])) for cell in cells.values()]
    _drop_orders(plan)
    if ordered is not None and not any(cell.memory for cell in plan.cells):
        raise maker.origins_at(ordered).refuse(
            ("seeds", "order"),
            "no agent of this sweep has a memory across dialogues, so their order changes nothing",
        )
    if not plan.cells:
        raise loaded.origins.refuse(("exclude",), "leaves no cell of the grid")
    plan.remarks = unused_values(loaded, point)
    _drop_unused_sources(plan)
    axes = [cell.axes for cell in plan.cells]
    plan.judges = [
        with_pairs(judge, axes, loaded.origins, ("judges", index))
        for index, judge in enumerate(maker.judges)
    ]
    return plan


def _drop_orders(plan: Plan) -> None:
    """Sets the order to 0 outside of streams, where it would only repeat episodes."""
    for index, cell in enumerate(plan.cells):
        if cell.memory is None:
            single = dict.fromkeys(seeds._replace(order=0) for seeds in cell.seeds)
            plan.cells[index] = replace(cell, seeds=tuple(single))


def _drop_unused_sources(plan: Plan) -> None:
    """Drops samples that are contained in a larger one of the same cells."""
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
                f"{origins.of_axis(axis)}: grid: the axes {other} and {axis} differ only in case, "
                "which columns of results ignore; rename a model or a role"
            )
        head = axis.split(".", 1)[0]
        if head not in _CELL_PARTS:
            raise UsageError(
                f"{origins.of_axis(axis) or plan.loaded.path}: grid: {axis!r} is not part of a cell"
                f"{near(head, _CELL_PARTS)} (an axis begins with one of: {', '.join(_CELL_PARTS)})"
            )
        if axis in ("cases.sample", "cases.sample_seed", "cases.by"):
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
