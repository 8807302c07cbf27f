"""What all tasks in one process share: domains, models and artifacts, each created
once, on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from agents.core import plugins
from agents.core.errors import AgentError, StoreError, blaming
from agents.core.items import Catalogue
from agents.core.prompts import PromptFolder, prompt_folder
from agents.policies.core.trained import TrainedPolicy
from simulators.core.cases import Domain
from sweeps.cells import Cell
from sweeps.identity import canonical, resolve_role
from sweeps.origins import Origins
from sweeps.schema import PluginRef
from sweeps.sources import make_domain
from workers.artifacts.store import Prepared
from workers.backends.core import weights
from workers.backends.core.backend import BackendContext
from workers.cache.client import CallCache
from workers.core.concurrency import Load, total_load
from workers.engines.clients import Engines
from workers.engines.local import LocalEngines
from workers.job import Job
from workers.models import BoundModel, building
from workers.policies import ServedPolicy

EnginesOfRun = Engines | LocalEngines


@dataclass(frozen=True)
class LoadedSpeaker:
    """One speaker of a cell, ready to be built for each task."""

    cls: type
    options: plugins.Options
    prompts: PromptFolder


def speaker_of(ref: PluginRef, package: str, kind: str) -> LoadedSpeaker:
    """The plug-in that `ref` names, with its options and prompts."""
    cls = plugins.load(package, ref.name, kind)
    options = plugins.build_options(cls.Options, ref.options)
    prompts = prompt_folder(
        plugins.module(package, ref.name, kind), getattr(options, "prompts", None)
    )
    return LoadedSpeaker(cls, options, prompts)


class Resources:
    """What tasks of one job use in one process.

    `engines` gives access to the engines that the run has started; without it, they start in this
    process. `cache` keeps completed calls; without it, none is kept.
    """

    def __init__(
        self, job: Job, engines: EnginesOfRun | None = None, cache: CallCache | None = None
    ) -> None:
        self.job = job
        self._cache = cache
        weights.take(job.weights)
        self.engines = engines or LocalEngines(job.folder.logs)
        self._domains: dict[str, Domain] = {}
        self._source_domains: dict[int, Domain] = {}
        self._models: dict[tuple[str, str, str], BoundModel] = {}
        self._cell_models: dict[tuple[int, str], BoundModel] = {}
        self._prepared: dict[str, Prepared] = {}
        self._loaded: dict[str, Any] = {}

    def provide(self, artifacts: Iterable[Prepared]) -> None:
        """Takes artifacts that agents need; each is loaded once, when a task first needs it."""
        for artifact in artifacts:
            self._prepared[artifact.key] = artifact
            self._loaded.pop(artifact.key, None)

    def for_job(self, job: Job) -> Resources:
        """Resources for another job, with the same engines, cache, models, domains and artifacts.

        They are not closed separately.
        """
        found = Resources(job, self.engines, self._cache)
        found._domains, found._models = self._domains, self._models
        found._prepared, found._loaded = self._prepared, self._loaded
        return found

    def artifact(self, key: str) -> Prepared:
        """A provided artifact. Raises StoreError if it was not provided."""
        found = self._prepared.get(key)
        if found is None:
            raise StoreError(f"an episode needs the artifact {key}, which is not prepared")
        return found

    def load(self, keys: Mapping[str, str], catalogue: Catalogue) -> dict[str, Any]:
        """Name -> loaded artifact for an agent, from name -> key."""
        for key in keys.values():
            if key not in self._loaded:
                artifact = self.artifact(key)
                with blaming(AgentError):
                    loaded = artifact.recipe.load(artifact.content, catalogue)
                if isinstance(loaded, TrainedPolicy):
                    loaded = ServedPolicy(loaded, self._cache)
                self._loaded[key] = loaded
        return {name: self._loaded[key] for name, key in keys.items()}

    def domain(self, source: int) -> Domain:
        """The domain of the source at this position in the job."""
        found = self._source_domains.get(source)
        if found is None:
            found = self._source_domains[source] = self._domain_of(source)
        return found

    def _domain_of(self, source: int) -> Domain:
        ref, written = self.job.sources[source].domain, self.job.sources[source].written
        key = canonical([ref.model_dump(), written and written.digest])
        if key not in self._domains:
            self._domains[key] = make_domain(ref, Origins(), written)
        return self._domains[key]

    def model(self, cell: int, role: str) -> BoundModel:
        """The model for `role` in the cell at this position."""
        found = self._cell_models.get((cell, role))
        if found is None:
            found = self._cell_models[cell, role] = self._bind(self.job.cells[cell], role)
        return found

    def models_of(self, cell: int) -> Callable[[str], BoundModel]:
        """Role -> model in the cell at this position, for `Ask`."""
        return partial(self.model, cell)

    def loads(self) -> dict[str, Load]:
        """The load that this process puts on engines and servers, as far as it is known here.

        By key of the engine, or by name of the server.
        """
        found = self.engines.loads()
        servers: dict[str, list[Load]] = {}
        for model in self._models.values():
            if model.load is not None:
                servers.setdefault(model.load[0], []).append(model.load[1])
        return found | {name: total_load(loads) for name, loads in servers.items()}

    async def close(self) -> None:
        """Closes every model that was used."""
        for model in self._models.values():
            await model.close()
        await self.engines.close()
        if self._cache is not None:
            self._cache.close()

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
