"""`crsweep doctor`: checks everything that a sweep needs, at the cost of at most one call per
model.

The call goes to each `openai` model, because only a real call shows what a server refuses.
"""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from agents.core.artifacts import CallsRecipe
from agents.core.errors import CrsweepError, DataError, UsageError
from agents.core.plural import many
from runner.commands.nodes import examine_cluster, unused_gpus
from runner.core.dataset_summary import difference_of, statistics_of
from runner.core.formatting import slot_word
from runner.core.locations import (
    artifact_state,
    check_cache_folder,
    check_packages,
    places_of,
    store_of,
)
from runner.driver.judging import judging_plan
from runner.driver.loading import load_plan
from runner.placement.cluster import gpu_memories, nodes_of
from runner.placement.groups import run_plan, without_engines
from runner.rehearsal.dialogues import rehearse, rehearse_preparing
from runner.rehearsal.judging import rehearse_judges
from runner.rehearsal.stand_ins import StandIn
from simulators.core.cases import Domain
from sweeps.artifacts import role_of
from sweeps.identity import resolve_role
from sweeps.load import LoadedSweep, load
from sweeps.origins import Origins
from sweeps.plan import Plan
from sweeps.storage.folder import Folder
from workers.backends.core.backend import BackendContext, Workload
from workers.backends.vllm.model.reply_length import longest_reply
from workers.cache.store import Places
from workers.core.environment import check_transport
from workers.engines.local import LocalEngines
from workers.kinds.judging import JudgementAttempt
from workers.models import backend_of, building
from workers.results import lease
from workers.results.rows import EpisodeAttempt

_REHEARSED = 24  # cells whose prompts are rendered; more would only repeat the same templates


def examine(sweep: Path, overrides: Sequence[str], console: Console) -> bool:
    """Prints one line per check and returns whether all passed. Raises UsageError for an invalid
    sweep file."""
    try:
        plan = load_plan(sweep, overrides)
    except DataError as error:
        return _without_data(load(sweep, overrides), error, console)
    console.print(
        f"ok    sweep file: {many(len(plan.cells), 'cell')}, {many(plan.episodes, 'episode')}"
    )
    rehearsal, places = _Rehearsal(plan), places_of(plan, epoch=0)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("output folder", lambda: _folder(plan.loaded.out)),
        *((f"domain {s.domain_ref.name}", lambda s=s: _domain(s.domain)) for s in plan.sources),
        *([("call cache", lambda: _cache(plan, places))] if places else []),
        *([("artifacts", lambda: _artifacts(plan))] if plan.artifacts else []),
        ("prompts", rehearsal.check),
        *([("judges", rehearsal.check_judges)] if plan.judges else []),
        *((f"model {name}", check) for name, check in _models(plan, rehearsal)),
    ]
    run = plan.loaded.header.run
    if run.executor == "ray":
        checks.append(("ray", lambda: _ray(plan, console)))
    checks.append(("placement", lambda: _placement(plan)))
    failed = set[str]()
    for name, check in checks:
        if name == "placement" and "ray" in failed and run.ray_address is not None:
            continue  # it asks the same cluster
        if not _passes(name, check, console):
            failed.add(name)
    return not failed


def _passes(name: str, check: Callable[[], str], console: Console) -> bool:
    """Prints the line of one check."""
    try:
        found = check()
    except CrsweepError as error:
        console.print(f"[red]FAIL[/]  {escape(name)}: {escape(error.message)}", soft_wrap=True)
        return False
    console.print(f"ok    {escape(name)}: {escape(found)}", soft_wrap=True)
    return True


def _without_data(loaded: LoadedSweep, error: DataError, console: Console) -> bool:
    """What can be checked if there are no cells, because a data set is missing or broken."""

    def fail() -> str:
        raise error

    _passes("data", fail, console)
    _passes("output folder", lambda: _folder(loaded.out), console)
    console.print("      not checked without the data: the cells, prompts, models and placement")
    return False


def _folder(out: Folder) -> str:
    room = out.room()
    held = lease.holder(out)
    if held is not None:
        raise UsageError(f"{out} is in use: {lease.holding(held)}")
    return f"{out}, {room}"


def _cache(plan: Plan, places: Places) -> str:
    check_cache_folder(places, plan.loaded.origins)
    return "off" if places.shared is None else str(places.shared)


def _domain(domain: Domain) -> str:
    return "; ".join([statistics_of(domain), *difference_of(domain), *domain.remarks()])


def _artifacts(plan: Plan) -> str:
    store = store_of(plan.loaded.header.artifacts)
    missing = [a for key, a in plan.artifacts.items() if artifact_state(store, key) != "ready"]
    check_packages(missing)
    return f"{len(plan.artifacts)}, {len(missing)} to make, in {store.folder}"


class _Rehearsal:
    """One dialogue per cell with the rules backend, which exposes prompts that break."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @cached_property
    def _cells(self) -> range:
        count = len(self._plan.cells)
        return range(0, count, max(1, count // _REHEARSED))

    @cached_property
    def attempts(self) -> list[EpisodeAttempt]:
        return rehearse(self._plan, self._cells, 1)

    @cached_property
    def _preparing(self) -> list[StandIn]:
        return rehearse_preparing(self._plan, self._cells)

    def check(self) -> str:
        for attempt in self.attempts:
            if attempt.error is not None:
                raise attempt.error
        longest = max((len(m.content) for a in self.attempts for r in a.journal.records
                       for m in r.call.messages), default=0)  # fmt: skip
        count = many(len(self.attempts), "dialogue")
        return f"{count} rehearsed, longest prompt {longest:,} characters"

    @cached_property
    def _judged(self) -> list[JudgementAttempt]:
        return rehearse_judges(self._plan, self.attempts)

    def check_judges(self) -> str:
        count = many(len(self._judged), "judgement")
        return f"{', '.join(judge.title for judge in self._plan.judges)}: {count} rehearsed"

    def workload(self, model: str) -> Workload:
        """What the model with this name was asked during the rehearsal."""
        calls = [
            record.call
            for attempt in self.attempts
            for record in attempt.journal.records
            if self._model_of(record.call.role, attempt.task.cell) == model
        ]
        calls += [
            record.call
            for attempt in self._judged
            for record in attempt.log.records
            if self._model_of(record.call.role, attempt.task.cell) == model
        ]
        prompts = [[message._asdict() for message in call.messages] for call in calls]
        steps = [call.step for call in calls]
        for found in self._preparing:
            recipe, cell = found.prepared.recipe, self._plan.cells[found.cell]
            if isinstance(recipe, CallsRecipe) and cell.roles[role_of(recipe)] == model:
                prompts += [json.loads(row["prompt"]) for row in found.calls]
                steps += recipe.widest_steps()
        # Bounds depend on what a prompt lists, so the longest schema of each step is checked.
        schemas = [(step.name, step.schema) for step in steps if step.mode == "json"]
        schemas.sort(key=lambda named: longest_reply(named[1]) or math.inf)
        return Workload(
            prompts,
            dict(schemas),
            min(gpu_memories(), default=None),
            calls,
        )

    def _model_of(self, role: str, cell: int) -> str:
        return resolve_role(role, self._plan.cells[cell].config.roles)


def _models(plan: Plan, rehearsal: _Rehearsal) -> list[tuple[str, Callable[[], str]]]:
    """One check for every model that plays or judges a dialogue of the plan."""
    found: dict[str, Callable[[], str]] = {}
    for cell in plan.cells:
        for name in cell.models:
            spec = cell.config.models[name]
            source = plan.sources[cell.source]

            def check(name: str = name, spec=spec, source=source) -> str:
                cls, options = backend_of(spec, Origins(), ("models", name))
                if cls.environment(options).network:
                    check_transport()
                work = rehearsal.workload(name)

                async def ask() -> str:
                    with tempfile.TemporaryDirectory() as logs:
                        context = BackendContext(
                            name,
                            "local",
                            "doctor",
                            Path(logs),
                            lambda: source.domain.catalogue,
                            LocalEngines(),
                        )
                        with building(name):
                            backend = cls(options, context)
                        try:
                            return await backend.check(work)
                        except OSError as error:  # such as too many open files on this machine
                            raise UsageError(f"{type(error).__name__}: {error}") from error
                        finally:
                            await backend.close()

                return f"{spec.backend}, {asyncio.run(ask())}"

            found[name] = check
    return list(found.items())


def _placement(plan: Plan) -> str:
    nodes, cpu = nodes_of(plan, ())
    stages = run_plan(plan, nodes, cpu=cpu) if nodes else without_engines(plan)
    judging = run_plan(judging_plan(plan, plan.judges), nodes, cpu=cpu) if nodes else stages
    for misfits in (stages.misfits, judging.misfits):
        if misfits:
            raise UsageError(next(iter(misfits.values())))
    if not nodes:
        return "engines, if any, start in the driver's own process"
    if not stages.needs.specs:
        return "no engine to start"
    return (
        f"{many(len(stages.needs.specs), 'engine')} in {many(len(stages.stages), 'group')} on "
        f"{many(sum(node.gpus for node in nodes), slot_word(cpu))}"
    )


def _ray(plan: Plan, console: Console) -> str:
    """Starts Ray, or joins the sweep's cluster and examines each of its nodes."""
    from workers.executors.ray_cluster import cluster_nodes, start_ray, stop_ray

    address = plan.loaded.header.run.ray_address
    resources = start_ray(address)
    try:
        found = f"{resources.get('CPU', 0):.0f} CPUs, {resources.get('GPU', 0):.0f} GPUs"
        if address is None:
            return found
        nodes = cluster_nodes()
        examined = examine_cluster(plan, [node.node_id for node in nodes], console)
        unused = unused_gpus(nodes, mixed=plan.loaded.header.run.mixed_gpus)
        return f"{found}; {examined}{unused}"
    finally:
        stop_ray()
