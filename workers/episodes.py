"""Runs single episodes: builds the two sides, plays the dialogue, and records what happened."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from agents.core import plugins
from agents.core.agent import Agent, AgentContext
from agents.core.artifacts import CallsRecipe, Content
from agents.core.ask import Ask, CallLog
from agents.core.calls import Model
from agents.core.errors import (
    AgentError,
    CrsweepError,
    EngineRefused,
    InternalError,
    StoreError,
    UserError,
    blaming,
    described,
)
from agents.core.items import Catalogue
from agents.core.prompts import PromptFolder, folder_of
from simulators.core.cases import Case, Domain, Split
from simulators.core.dialogue import DialogueLimits, SuccessRule, Transcript, run_dialogue
from simulators.core.user import User, UserContext
from sweeps.artifacts import PrepareRef, role_of
from sweeps.identity import canonical, resolve_role
from sweeps.origins import Origins
from sweeps.plan import AGENTS, SUCCESS, USERS, Cell, Plan, Ref, make_domain
from sweeps.schema import PluginRef
from sweeps.storage.folder import Folder
from workers.artifacts.store import Prepared
from workers.backends.core import BackendContext
from workers.backends.vllm.client.clients import Engines
from workers.backends.vllm.client.local import LocalEngines
from workers.backends.vllm.model import weights
from workers.cache.client import CallCache
from workers.cache.store import Places
from workers.models import BoundModel, building
from workers.results.rows import Attempt, Row, rows_of_calls

log = logging.getLogger(__name__)

ExecutorName = Literal["ray", "local"]
EnginesOfRun = Engines | LocalEngines
Wrap = Callable[[Agent, User], tuple[Agent, User]]


@dataclass(frozen=True)
class CaseSource:
    """What a worker needs to know of a plan's source."""

    source_id: str
    domain: PluginRef
    split: Split


@dataclass(frozen=True)
class Job:
    """All that a worker needs to run episodes of one run of a sweep. Crosses processes."""

    cells: tuple[Cell, ...]
    sources: tuple[CaseSource, ...]
    probe: bool
    executor: ExecutorName
    folder: Folder
    epoch: int
    run_id: str
    transient_retries: int
    weights: weights.Known
    """What models of the sweep file stand for, as the driver has found it."""
    cache: Places | None = None
    """Where completed calls are kept; None keeps none."""
    strict: bool = False
    """Whether a cached reply counts only from what serves now."""


def job_of(plan: Plan, *, probe: bool, executor: ExecutorName, epoch: int, run_id: str) -> Job:
    """The job of running `plan` in its output folder."""
    return Job(
        cells=tuple(plan.cells),
        sources=tuple(CaseSource(s.source_id, s.domain_ref, s.split) for s in plan.sources),
        probe=probe,
        executor=executor,
        folder=plan.loaded.out.absolute(),
        epoch=epoch,
        run_id=run_id,
        transient_retries=plan.loaded.header.retries.transient,
        weights=weights.known(),
    )


class Made(NamedTuple):
    """What became of one attempt at an artifact: its content, or an error. Crosses processes."""

    ref: PrepareRef
    content: Content | None
    calls: list[Row]
    seconds: float
    blame: str | None = None
    error_class: str | None = None
    error: str | None = None

    @property
    def status(self) -> str:
        return "failed" if self.content is None else "done"


@dataclass(frozen=True)
class _Side:
    """One speaker of a cell, ready to be built for each episode."""

    cls: type
    options: plugins.Options
    prompts: PromptFolder


@dataclass(frozen=True)
class _Scene:
    """What all episodes of one cell share."""

    agent: _Side
    user: _Side
    is_success: SuccessRule
    limits: DialogueLimits


class EpisodeRunner:
    """Plays episodes of one job in one process. Domains and models are made once, when needed.

    `engines` reaches the engines that the run has started; without it they start in this process.
    `cache` keeps completed calls; without it none is kept.
    """

    def __init__(
        self, job: Job, engines: EnginesOfRun | None = None, cache: CallCache | None = None
    ) -> None:
        self.job = job
        self._cache = cache
        weights.take(job.weights)
        self.engines = engines or LocalEngines(job.folder.logs)
        self._domains: dict[str, Domain] = {}
        self._models: dict[tuple[str, str, str], BoundModel] = {}
        self._cell_models: dict[tuple[int, str], BoundModel] = {}
        self._scenes: dict[int, _Scene] = {}
        self._prepared: dict[str, Prepared] = {}
        self._loaded: dict[str, Any] = {}

    def provide(self, artifacts: Iterable[Prepared]) -> None:
        """Takes what agents need prepared; each is loaded once, when an episode first needs it."""
        for artifact in artifacts:
            self._prepared[artifact.key] = artifact
            self._loaded.pop(artifact.key, None)

    async def prepare(
        self,
        ref: PrepareRef,
        report: Callable[[int, int], None],
        journal: CallLog | None = None,
    ) -> Made:
        """One attempt at an artifact that models make. StoreError is raised, others are told.

        `report` is told how many calls were made, of how many.
        """
        cell = self.job.cells[ref.cell]
        recipe = next(need.recipe for need in cell.needs if need.name == ref.name)
        assert isinstance(recipe, CallsRecipe)
        journal = journal or CallLog()
        prompts = self._scene(ref.cell).agent.prompts

        def model(role: str) -> Model:
            return self._model(ref.cell, role)

        ask = Ask(role_of(recipe), ref.key, ref.seed, prompts, model, journal)
        started = time.monotonic()
        content, error = None, None
        try:
            with blaming(AgentError):
                content = await recipe.build(self.domain(cell.source).catalogue, ask, report)
        except StoreError:
            raise
        except CrsweepError as failed:
            error = failed
        return Made(
            ref,
            content,
            rows_of_calls(f"{ref.key}.{self.job.epoch}.{ref.attempt}", journal),
            time.monotonic() - started,
            error.blame if error else None,
            type(error).__name__ if error else None,
            error.message if error else None,
        )

    async def run(
        self, ref: Ref, wrap: Wrap | None = None, journal: CallLog | None = None
    ) -> Attempt:
        """One attempt at an episode. Errors of the dialogue are its outcome; others are raised.

        `wrap` may put something around the two sides, such as a watcher. Who gives the empty
        `journal` that the attempt is to fill can read in it while the dialogue runs.
        """
        cell = self.job.cells[ref.cell]
        domain = self.domain(cell.source)
        case = domain.case(self.job.sources[cell.source].split, ref.case_id)
        scene = self._scene(ref.cell)
        keys = cell.artifacts(ref.seeds)
        digests = {name: self._artifact(key).digest for name, key in keys.items()}
        transcript, journal = Transcript(), journal or CallLog()
        started = time.time()
        error: CrsweepError | None = None
        try:
            await self._play(ref, cell, scene, domain, case, transcript, journal, wrap)
        except StoreError:
            raise  # what cannot be written is no outcome of a dialogue
        except CrsweepError as failed:
            error = failed
        except Exception as fault:  # ours: the other dialogues must not pay for it
            log.info("attempt %d at %s", ref.attempt, ref.episode_id, exc_info=True)
            error = InternalError(f"a fault of crsweep: {described(fault)}")
        if error is None or error.blame != "infrastructure":
            error = _swallowed(journal) or error
        return Attempt(
            ref,
            f"{ref.episode_id}.{self.job.epoch}.{ref.attempt}",
            transcript,
            journal,
            case,
            error,
            started,
            time.time(),
            digests,
        )

    async def _play(
        self,
        ref: Ref,
        cell: Cell,
        scene: _Scene,
        domain: Domain,
        case: Case,
        transcript: Transcript,
        journal: CallLog,
        wrap: Wrap | None,
    ) -> None:
        catalogue = domain.catalogue
        context = AgentContext(
            catalogue,
            case.visible,
            cell.config.limits.shown_items,
            self._load(cell.artifacts(ref.seeds), catalogue),
        )
        with blaming(AgentError):
            agent: Agent = scene.agent.cls(scene.agent.options, context)
        with blaming(UserError):
            user: User = scene.user.cls(scene.user.options, UserContext(catalogue, case))
        if wrap is not None:
            agent, user = wrap(agent, user)

        def model(role: str) -> Model:
            return self._model(ref.cell, role)

        sampling = ref.seeds.sampling
        await run_dialogue(
            agent,
            user,
            Ask("agent", ref.case_id, sampling, scene.agent.prompts, model, journal),
            Ask("user", ref.case_id, sampling, scene.user.prompts, model, journal),
            hidden=case.hidden,
            limits=scene.limits,
            is_success=scene.is_success,
            probe=self.job.probe,
            transcript=transcript,
        )

    def _artifact(self, key: str) -> Prepared:
        found = self._prepared.get(key)
        if found is None:
            raise StoreError(f"an episode needs the artifact {key}, which is not prepared")
        return found

    def _load(self, keys: Mapping[str, str], catalogue: Catalogue) -> dict[str, Any]:
        """What an agent is given, by name."""
        for key in keys.values():
            if key not in self._loaded:
                artifact = self._artifact(key)
                with blaming(AgentError):
                    self._loaded[key] = artifact.recipe.load(artifact.content, catalogue)
        return {name: self._loaded[key] for name, key in keys.items()}

    def domain(self, source: int) -> Domain:
        ref = self.job.sources[source].domain
        key = canonical(ref.model_dump())
        if key not in self._domains:
            self._domains[key] = make_domain(ref, Origins())
        return self._domains[key]

    async def close(self) -> None:
        """Closes every model that was used."""
        for model in self._models.values():
            await model.close()
        await self.engines.close()
        if self._cache is not None:
            self._cache.close()

    def _scene(self, index: int) -> _Scene:
        if index not in self._scenes:
            config = self.job.cells[index].config
            self._scenes[index] = _Scene(
                _side(config.agent, AGENTS, "agent"),
                _side(config.simulator, USERS, "simulator"),
                plugins.load(SUCCESS, config.success.name, "success rule"),
                DialogueLimits(config.limits.max_turns, config.limits.episode_tokens),
            )
        return self._scenes[index]

    def _model(self, index: int, role: str) -> BoundModel:
        found = self._cell_models.get((index, role))
        if found is None:
            found = self._cell_models[index, role] = self._bind(self.job.cells[index], role)
        return found

    def _bind(self, cell: Cell, role: str) -> BoundModel:
        name = resolve_role(role, cell.config.roles)
        spec = cell.config.models[name]
        domain_key = canonical(cell.config.domain.model_dump())
        key = (name, canonical(spec.model_dump()), domain_key)
        if key not in self._models:
            context = BackendContext(
                name=name,
                executor=self.job.executor,
                run_id=self.job.run_id,
                log_folder=self.job.folder.logs,
                catalogue=lambda: self.domain(cell.source).catalogue,
                engines=self.engines,
            )
            with building(name):
                self._models[key] = BoundModel(
                    name,
                    spec,
                    context,
                    self.job.transient_retries,
                    self._cache,
                    strict=self.job.strict,
                )
        return self._models[key]


def _swallowed(journal: CallLog) -> CrsweepError | None:
    """An accident of infrastructure that a plug-in caught and played on without: what came of it is
    no result. A plain EngineRefused would be the same at every try, so it may be lived with."""
    errors = (record.error for record in journal.records if record.error is not None)
    return next(
        (e for e in errors if e.blame == "infrastructure" and type(e) is not EngineRefused), None
    )


def _side(ref: PluginRef, package: str, kind: str) -> _Side:
    cls = plugins.load(package, ref.name, kind)
    options = plugins.build_options(cls.Options, ref.options)
    prompts = folder_of(plugins.module(package, ref.name, kind), getattr(options, "prompts", None))
    return _Side(cls, options, prompts)
