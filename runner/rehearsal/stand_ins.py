"""Stand-ins for artifacts that are not ready, for rehearsals and `play`.

A fit's recipe names another that takes seconds; what models write, the `rules` backend writes.
Each is made once per process and domain, and nothing is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from agents.core.artifacts import CallsRecipe, Content, FitRecipe, LoopRecipe, RolloutsRecipe
from agents.core.ask import CallLog
from agents.core.errors import AgentError
from runner.core.locations import store_of
from simulators.core.cases import Domain
from simulators.core.profiles import WrittenProfiles
from sweeps import identity
from sweeps.artifacts import Need, artifact_task, role_of
from sweeps.cells import Cell
from sweeps.plan import Plan
from sweeps.schema import ModelSpec
from workers.artifacts.store import ArtifactDamaged, Prepared
from workers.core.attempts import Row
from workers.job import job_of
from workers.kinds.artifacts import ArtifactHandler
from workers.kinds.rollouts import rehearse_rollouts
from workers.resources import Resources

_RULES = ModelSpec(backend="rules")
_SEED = 0  # of fits


@dataclass(frozen=True)
class StandIn:
    """An artifact for a rehearsal. `calls` are those that made it, here."""

    prepared: Prepared
    title: str
    cell: int
    is_real: bool
    """Whether a run would use the same."""
    calls: Sequence[Row] = ()


# Of this process.
_contents: dict[str, Content] = {}
_written_here: dict[str, tuple[Content, Sequence[Row], float]] = {}


def rules_resources(plan: Plan, *, probe: bool) -> Resources:
    """For tasks of the plan in this process, with the `rules` backend."""
    job = job_of(plan, probe=probe, executor="local", epoch=0, run_id="rehearsal")
    return Resources(replace(job, cells=tuple(map(_with_rules, job.cells))))


async def with_cases(plan: Plan) -> Plan:
    """The plan, with a few users whose profiles the `rules` backend writes, where a model has yet
    to write those of the cases."""
    sources, cells = list(plan.sources), list(plan.cells)
    for index, cell in enumerate(plan.cells):
        if cell.profiles is None:
            continue
        source = sources[cell.source]
        if source.is_pending:
            key = cell.profiles.key(cell.seeds[0])
            content, _, _ = await _written(plan, index, cell.profiles, key)
            written = WrittenProfiles(content.digest(), content.data)
            domain = source.domain.with_profiles(written)
            order = range(len(domain.case_ids(source.split)))
            sources[cell.source] = replace(
                source, domain=domain, order=order, written=written, is_pending=False
            )
        cells[index] = replace(cell, profiles=None)
    return replace(plan, sources=sources, cells=cells)


async def stand_ins(plan: Plan, cells: Sequence[int]) -> list[StandIn]:
    """What dialogues of `cells` with their first seeds need: from the store where it is ready."""
    found: dict[str, StandIn] = {}
    for index in cells:
        seeds = plan.cells[index].seeds[0]
        for need in _needs(plan.cells[index]):
            key = need.key(seeds)
            if key not in found:
                found[key] = await _find(plan, index, need, key)
    return list(found.values())


def stand_in_calls(plan: Plan, made: StandIn) -> Sequence[Mapping[str, Any]]:
    """The calls that made it, here or before it was stored; none if no model did."""
    return made.calls or store_of(plan.loaded.header.artifacts).calls(made.prepared.key)


class CallEstimate(NamedTuple):
    """How much is asked of models."""

    calls: float
    input_tokens: float
    output_tokens: float

    def words(self) -> str:
        return (
            f"{self.calls:,.0f} calls, {self.input_tokens:,.0f} input and "
            f"{self.output_tokens:,.0f} output tokens"
        )


class RolloutEstimate(NamedTuple):
    """How many dialogues with training users may be played until enough entries are there."""

    dialogues: int
    rehearsed: int
    left_entries: int
    """Entries that the rehearsed ones have left; if none, all training users are counted."""
    spoken: CallEstimate


async def expected_rollouts(plan: Plan, keys: Sequence[str]) -> dict[str, RolloutEstimate]:
    """Key -> what artifacts that are collected by dialogues may cost, from the first batch of them,
    one rehearsal for all seeds."""
    rehearsed: dict[str, RolloutEstimate] = {}
    found: dict[str, RolloutEstimate] = {}
    for key in keys:
        artifact = plan.artifacts[key]
        index = artifact.cells[0]
        if (
            not isinstance(artifact.recipe, RolloutsRecipe)
            or plan.sources[plan.cells[index].source].is_pending
        ):
            continue
        need = next(n for n in plan.cells[index].needs if n.key_at(artifact.seed) == key)
        if need.identity not in rehearsed:
            rehearsed[need.identity] = await _rehearsed(plan, index, need, artifact.seed)
        found[key] = rehearsed[need.identity]
    return found


async def _rehearsed(plan: Plan, index: int, need: Need, seed: int) -> RolloutEstimate:
    recipe = need.recipe
    assert isinstance(recipe, RolloutsRecipe)
    inputs = [await _find(plan, index, each, each.key_at(seed)) for each in need.inputs]
    resources = rules_resources(plan, probe=False)
    task = artifact_task(need.key_at(seed), index, need.name, seed)
    played = await rehearse_rollouts(resources, task, recipe, [one.prepared for one in inputs])
    await resources.close()
    count, dialogues = len(played.logs), played.available
    if played.entries:
        batch = recipe.memory.batch
        batches = math.ceil(recipe.size * count / played.entries / batch)
        dialogues = min(dialogues, batches * batch)
    records = [record for log in played.logs for record in log.records]
    done = [record.completion for record in records if record.completion is not None]
    share = dialogues / count if count else 0
    spoken = CallEstimate(
        round(share * len(records)),
        round(share * sum(each.input_tokens or 0 for each in done)),
        round(share * sum(each.output_tokens or 0 for each in done)),
    )
    return RolloutEstimate(dialogues, count, played.entries, spoken)


async def expected(plan: Plan, keys: Sequence[str]) -> dict[str, CallEstimate]:
    """Key -> what artifacts that model calls make may cost, from one rehearsal of all that are made
    from one recipe, domain and folder of prompts."""
    rehearsed: dict[str, CallEstimate] = {}
    found: dict[str, CallEstimate] = {}
    for key in keys:
        artifact = plan.artifacts[key]
        if not isinstance(artifact.recipe, CallsRecipe):
            continue
        index = artifact.cells[0]
        cell = plan.cells[index]
        agent, domain = cell.config.agent, plan.sources[cell.source].domain
        speaks = [agent.name, agent.options.get("prompts"), cell.config.simulator.model_dump()]
        same = identity.digest([artifact.recipe.identity(), domain.fingerprint(), speaks])
        if same not in rehearsed:
            every = (need for top in _needs(cell) for need in top.whole())
            need = next(need for need in every if need.key_at(artifact.seed) == key)
            _, calls, share = await _written(plan, index, need, key, short=True)
            rehearsed[same] = CallEstimate(
                round(share * len(calls)),
                round(share * sum(row["input_tokens"] or 0 for row in calls)),
                round(share * sum(row["output_tokens"] or 0 for row in calls)),
            )
        found[key] = rehearsed[same]
    return found


def _needs(cell: Cell) -> tuple[Need, ...]:
    """What must be made for a cell next."""
    return cell.needs if cell.profiles is None else (cell.profiles,)


async def _find(plan: Plan, index: int, need: Need, key: str) -> StandIn:
    cell, title, recipe = plan.cells[index], plan.artifacts[key].title, need.recipe
    calls, is_real = (), True
    try:
        ready = store_of(plan.loaded.header.artifacts).find(key)
    except ArtifactDamaged:  # `run` reports it
        ready = None
    if ready is not None:
        content = ready[1]
    elif isinstance(recipe, FitRecipe | LoopRecipe):
        quick = recipe.stand_in()
        is_real = quick.identity() == recipe.identity() and plan.artifacts[key].seed == _SEED
        recipe, content = quick, _fitted(quick, plan.sources[cell.source].domain)
    elif isinstance(recipe, RolloutsRecipe):
        content, is_real = Content({"entries": []}), False
    else:
        assert isinstance(recipe, CallsRecipe)
        content, calls, _ = await _written(plan, index, need, key)
        backend = cell.config.models[cell.roles[role_of(recipe)]].backend
        is_real = backend == _RULES.backend and cell.profiles is None
    prepared = Prepared(key, content.digest(), recipe, content)
    return StandIn(prepared, title, index, is_real, calls)


def _fitted(recipe: FitRecipe, domain: Domain) -> Content:
    known = identity.digest([recipe.identity(), domain.fingerprint()])
    if known not in _contents:
        steps = list(recipe.fit(domain.training_data(), _SEED))
        if not steps or steps[-1].result is None:
            raise AgentError(f"the substitute {recipe.label} ended without a result")
        _contents[known] = steps[-1].result
    return _contents[known]


async def _written(
    plan: Plan, index: int, need: Need, key: str, *, short: bool = False
) -> tuple[Content, Sequence[Row], float]:
    """The content, the calls that made it, and how many times as many a run makes: 1 unless
    `short`, which makes some of the calls only."""
    # A model that is `rules` already keeps its skill and its seed, so it writes the real thing.
    cell = plan.cells[index]
    seed, short = need.seed(cell.seeds[0]), short or cell.profiles is not None
    known = f"{need.identity} {seed} {short}"
    if known not in _written_here:
        inputs = {each.name: await _input(plan, index, each, seed, short) for each in need.inputs}
        recipe, share = need.recipe.given(inputs), 1.0
        assert isinstance(recipe, CallsRecipe)
        if short:
            recipe, share = recipe.rehearsal(plan.sources[cell.source].domain)
        resources = rules_resources(plan, probe=False)
        task = artifact_task(key, index, need.name, seed)
        handler = ArtifactHandler(resources)
        made = await handler.write(recipe, task, CallLog(), lambda done, most: None)
        await resources.close()
        if made.written is None:
            raise AgentError(
                f"{plan.artifacts[key].title}, by the rules backend: {made.outcome.error}"
            )
        _written_here[known] = (made.written.content, made.written.calls, share)
    return _written_here[known]


async def _input(plan: Plan, index: int, need: Need, seed: int, short: bool) -> Content:
    """What an artifact of a rehearsal is made from."""
    if isinstance(need.recipe, FitRecipe):
        domain = plan.sources[plan.cells[index].source].domain
        return _fitted(need.recipe.stand_in(), domain)
    return (await _written(plan, index, need, need.key_at(seed), short=short))[0]


def _with_rules(cell: Cell) -> Cell:
    models = {
        name: spec if spec.backend == _RULES.backend else _RULES
        for name, spec in cell.config.models.items()
    }
    return replace(cell, config=cell.config.model_copy(update={"models": models}))
