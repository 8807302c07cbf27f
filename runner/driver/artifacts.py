"""Prepare: artifacts are made before the dialogues that need them, once, resumably.

1. What is in the store is used; what is damaged there is named, set aside and made again.
2. Fits run first, before any engine is loaded. Their states are saved as they go.
3. What models write is made by the episode workers, at the beginning of the stage of the run
   that first needs it: same slots, engines, call cache and retries as episodes.
4. What is made from other artifacts waits for them: fits that wait for what models write run while
   the stage's other tasks wait. What no agent is given is made only where something needs it.
5. Loops (`runner.driver.loops`) play dialogues while the stage's other tasks wait.
6. Cells whose artifact cannot be made are not run by this command; all others are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import aclosing
from dataclasses import replace

from rich.console import Console

from agents.core.artifacts import (
    CallsRecipe,
    Content,
    CurvePoint,
    FitRecipe,
    LoopRecipe,
    RolloutsRecipe,
)
from agents.core.ask import together
from agents.core.errors import AgentError, UsageError
from agents.core.plural import many
from runner.core.formatting import duration
from runner.core.locations import check_packages, free_calls, store_of
from runner.driver.executors import Executor
from runner.driver.loops import Background, Loops
from runner.driver.progress import PreparingDisplay
from runner.driver.scheduler import LeaseQueue
from sweeps.artifacts import Artifact, calling_roles
from sweeps.plan import Plan
from sweeps.tasks import Outcome, Task
from workers.artifacts.fits import FitLost, FitSpec
from workers.artifacts.store import About, ArtifactDamaged, Prepared, Stored
from workers.core.code import library_versions
from workers.results.bundles import artifacts_used

_LIBRARIES = ("crsweep", "numpy", "torch")


class Preparation:
    """The artifacts that a run needs: which are ready, being made, or failed.

    Raises UsageError if committed episodes used different content (unless `accept`), and if
    training needs a package that is not installed.
    """

    def __init__(
        self, plan: Plan, keys: Sequence[str], console: Console, *, accept: bool = False
    ) -> None:
        self._plan, self._console = plan, console
        self._wanted = plan.loaded.header.artifacts
        self._store = store_of(self._wanted)
        self._artifacts: dict[str, Artifact] = {}
        self._used = artifacts_used(plan.loaded.out) if keys and not accept else {}
        self._ready: dict[str, Prepared] = {}
        self._executor: Executor | None = None
        self._queue: LeaseQueue | None = None
        self._display: PreparingDisplay | None = None
        self._assigned: set[str] = set()
        self._begun: set[str] = set()
        self.failed: dict[str, str] = {}
        """Title -> why it could not be made."""
        self._lacking: set[str] = set()
        self.gpu_seconds = 0.0
        """GPUs that fits have held, times seconds."""
        self._add([key for key in keys if plan.artifacts[key].for_agents])
        self._late: asyncio.Queue[Artifact] = asyncio.Queue()
        self.loops = Loops(plan, self._store, self._wanted.state_every)
        check_packages(self._to_make(FitRecipe, LoopRecipe))

    @property
    def keys(self) -> list[str]:
        """The keys of all needed artifacts."""
        return list(self._artifacts)

    @property
    def missing(self) -> int:
        """The number of artifacts that are not ready."""
        return len(self._artifacts) - len(self._ready)

    async def begin(self, executor: Executor, stopping: asyncio.Event) -> None:
        """Provides ready artifacts, and makes the fits. Returns early if the run is stopping."""
        self._executor = executor
        provided = [key for key in self._ready if self._workers_need(self._artifacts[key])]
        await executor.provide([self._ready[key] for key in provided])
        if not self._possible_fits():
            return
        with PreparingDisplay(self._console) as self._display:
            fitting = asyncio.create_task(self._fit_all(executor))
            stopped = asyncio.create_task(stopping.wait())
            await asyncio.wait({fitting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not fitting.done():
                fitting.cancel()
                await asyncio.wait({fitting})
                return
            fitting.result()

    def tasks(self, cells: Collection[int]) -> list[Task]:
        """The tasks that workers do before the episodes of `cells`; earlier ones left out."""
        found = []
        for artifact in self._to_make(CallsRecipe, RolloutsRecipe):
            here = [cell for cell in artifact.cells if cell in cells]
            if here and artifact.key not in self._assigned:
                self._assigned.add(artifact.key)
                found.append(artifact.task(here[0]))
        return found

    def waits(self, task: Task) -> bool:
        """Whether a task from `tasks` needs artifacts that are not ready yet."""
        return not self._has_inputs(self._artifacts[task.id])

    def cannot_make(self, task: Task) -> bool:
        """Whether a task from `tasks` needs an artifact that could not be made."""
        return task.id in self._lacking

    def late_fits(self, cells: Set[int]) -> list[str]:
        """The keys of fits of `cells` that wait for model-written artifacts, and of their loops,
        without those of earlier cells. Called once for each stage, in order."""
        found = []
        for artifact in self._to_make(FitRecipe, LoopRecipe):
            here = [cell for cell in artifact.cells if cell in cells]
            if artifact.key not in self._assigned and here:
                self._assigned.add(artifact.key)
                found.append(artifact.key)
                if isinstance(artifact.recipe, LoopRecipe):
                    self.loops.assign(artifact.key, here[0])
        self.loops.next_stage()
        return found

    async def fit_late(self) -> None:
        """Makes fits one by one, and runs loops, when their inputs are ready, until it is
        cancelled."""
        fits: asyncio.Queue[Artifact] = asyncio.Queue()

        async def fit() -> None:
            while True:
                await self._make_late(await fits.get())

        async def begin() -> None:
            while True:
                artifact = await self._late.get()
                if isinstance(artifact.recipe, LoopRecipe):
                    aside.start(self._make_late(artifact))
                else:
                    fits.put_nowait(artifact)

        aside = Background()
        aside.start(fit())
        aside.start(begin())
        await aside.until_one_fails()

    async def _make_late(self, artifact: Artifact) -> None:
        assert self._executor is not None
        assert self._queue is not None
        if isinstance(artifact.recipe, LoopRecipe):
            await self._train(artifact)
        else:
            await self._fit(artifact, self._executor, 1)
        self._queue.passed(artifact.key)
        self._follow()

    def engines_only(self) -> Plan:
        """The plan reduced to the roles whose engines artifacts need."""
        roles: dict[int, list[str]] = {}
        for artifact in self._to_make(CallsRecipe, RolloutsRecipe, LoopRecipe):
            for cell in artifact.cells:
                spoken = calling_roles(artifact.recipe, self._plan.cells[cell].roles)
                roles.setdefault(cell, []).extend(spoken)
        cells = [
            replace(cell, roles={role: cell.roles[role] for role in roles.get(index, ())})
            for index, cell in enumerate(self._plan.cells)
        ]
        return replace(self._plan, cells=cells)

    @property
    def lacking(self) -> Set[str]:
        """The keys of artifacts that could not be made in this run."""
        return self._lacking

    def attach(self, queue: LeaseQueue, display: PreparingDisplay) -> None:
        """Connects the queue, which from now on waits for artifacts that workers make."""
        self._queue, self._display = queue, display
        self._follow()

    def progressed(self, progress: Mapping[str, tuple[int, int]]) -> None:
        """Shows the progress of the artifacts being made."""
        assert self._display is not None
        for key, (done, most) in progress.items():
            words = f"{done:,} of {most:,} {self._artifacts[key].recipe.counts}"
            self._display.note(self._artifacts[key].title, done, most, words)

    async def received(self, outcome: Outcome, final: bool) -> None:
        """Stores what a worker made. Raises StoreError; UsageError if it differs from before."""
        if not final:
            return
        assert self._queue is not None
        artifact = self._artifacts[outcome.task.id]
        if outcome.status == "failed":
            self._fail(artifact, f"{outcome.error_class}: {outcome.error}")
        else:
            content, rows, seconds = outcome.result
            counts = {
                "calls": len(rows),
                "cached": sum(row["cached"] for row in rows),
                "tokens": sum((r["input_tokens"] or 0) + (r["output_tokens"] or 0) for r in rows),
            }
            about = self._about(artifact, seconds).model_copy(update=counts)
            await self._keep(about, artifact, content, rows)
        self._queue.passed(artifact.key)
        self._follow()

    def _follow(self) -> None:
        """Starts fits and loops whose inputs have become ready."""
        possible = [loop for loop in self._to_make(LoopRecipe) if self._has_inputs(loop)]
        for artifact in (*self._possible_fits(), *possible):
            if artifact.key not in self._begun:
                self._begun.add(artifact.key)
                self._late.put_nowait(artifact)

    def _possible_fits(self) -> list[Artifact]:
        return [fit for fit in self._to_make(FitRecipe) if self._has_inputs(fit)]

    def _has_inputs(self, artifact: Artifact) -> bool:
        return all(key in self._ready for key in artifact.inputs.values())

    def _add(self, keys: Sequence[str]) -> None:
        """Adds artifacts, and inputs of those that are not ready, in the plan's order."""
        wanted, seen = list(keys), set[str]()
        while wanted:
            key = wanted.pop()
            if key not in seen:
                seen.add(key)
                artifact = self._plan.artifacts[key]
                self._look_for(artifact)
                if key not in self._ready:
                    wanted += artifact.inputs.values()
        self._artifacts = {k: found for k, found in self._plan.artifacts.items() if k in seen}

    def _to_make(self, *kinds: type) -> list[Artifact]:
        return [
            artifact
            for key, artifact in self._artifacts.items()
            if key not in self._ready
            and key not in self._lacking
            and isinstance(artifact.recipe, kinds)
        ]

    def _look_for(self, artifact: Artifact) -> None:
        try:
            found = self._store.find(artifact.key)
        except ArtifactDamaged as error:
            aside = self._store.set_aside(artifact.key)
            self._console.print(
                f"{error.message}; renamed it to {aside.name}, and {artifact.title} is made again",
                style="bold red",
                markup=False,
                soft_wrap=True,
            )
            return
        if found is not None:
            self._take(artifact, *found)

    def _take(self, artifact: Artifact, about: About, content: Content) -> Prepared:
        """Marks an artifact as ready, unless committed episodes used different content."""
        for index in artifact.cells:
            cell = self._plan.cells[index]
            used = self._used.get((cell.cell_id, artifact.seed, artifact.name), set())
            if others := used - {about.digest}:
                raise UsageError(
                    f"{artifact.title} has changed since episodes in {self._plan.loaded.out} used "
                    f"it: they used content with the digest {', '.join(sorted(others))}, "
                    f"{self._store.folder / artifact.key} has {about.digest}. Restore the old "
                    "artifact, set another `out`, or pass --accept-artifact-change to mix both"
                )
        ready = Prepared(artifact.key, about.digest, artifact.recipe, content)
        self._ready[artifact.key] = ready
        return ready

    async def _keep(
        self,
        about: About,
        artifact: Artifact,
        content: Content,
        calls: Sequence[Mapping[str, object]] = (),
        words: str = "",
    ) -> None:
        assert self._executor is not None
        assert self._display is not None
        found = await asyncio.to_thread(self._store.keep, about, content, calls)
        ready = self._take(artifact, *found)
        free = free_calls(about.cached, self._plan.loaded.header.cache.mode)
        more = f", {many(about.calls, 'call')}{free}" if calls else words and f": {words}"
        self._display.end(artifact.title, f"ready after {duration(about.seconds)}{more}")
        if self._workers_need(artifact):
            await self._executor.provide([ready])

    def _workers_need(self, artifact: Artifact) -> bool:
        """Whether workers get the content; inputs of fits alone may be too large."""
        return artifact.for_agents or any(
            artifact.key in other.inputs.values()
            for other in self._artifacts.values()
            if isinstance(other.recipe, CallsRecipe | RolloutsRecipe)
        )

    def _fail(self, artifact: Artifact, reason: str) -> None:
        self._lacking.add(artifact.key)
        for other in self._artifacts.values():
            if artifact.key in other.inputs.values() and other.key not in self._lacking:
                self._fail(other, f"{artifact.title} cannot be prepared")
        if self._queue is not None:
            self._queue.passed(artifact.key)
        self.failed[artifact.title] = reason
        assert self._display is not None
        if not artifact.for_agents:
            self._display.end(artifact.title, f"cannot be prepared: {reason}", "red")
            return
        count = len(artifact.cells)
        self._display.end(
            artifact.title,
            f"cannot be prepared: {reason}; the dialogues of the {many(count, 'cell')} that "
            f"{'needs' if count == 1 else 'need'} it are skipped",
            "red",
        )

    def _about(self, artifact: Artifact, seconds: float) -> About:
        source = self._plan.sources[self._plan.cells[artifact.cells[0]].source]
        return About(
            key=artifact.key,
            digest="",  # the store fills it in
            arrays=[],
            title=artifact.title,
            kind=artifact.recipe.kind,
            recipe=dict(artifact.recipe.identity()),
            domain=artifact.recipe.data_of(source.domain.fingerprint()),
            seed=artifact.seed,
            made=time.time(),
            seconds=seconds,
            versions=library_versions(_LIBRARIES),
        )

    async def _fit_all(self, executor: Executor) -> None:
        """Makes all fits that do not wait for model-written artifacts."""
        while fits := [fit for fit in self._possible_fits() if fit.key not in self._begun]:
            self._begun.update(fit.key for fit in fits)
            await self._fit_some(fits, executor)

    async def _fit_some(self, fits: Sequence[Artifact], executor: Executor) -> None:
        among = min(len(fits), executor.fits_at_once)
        room = asyncio.Semaphore(among)

        async def fit(artifact: Artifact) -> None:
            async with room:
                await self._fit(artifact, executor, among)

        await together(fit(artifact) for artifact in fits)

    async def _fit(self, artifact: Artifact, executor: Executor, among: int) -> None:
        """Makes one fit from its latest state, and retries if its process is lost."""
        assert isinstance(artifact.recipe, FitRecipe)
        source = self._plan.sources[self._plan.cells[artifact.cells[0]].source]
        inputs = {name: Stored(self._store.folder, key) for name, key in artifact.inputs.items()}
        every, written = self._wanted.state_every, source.written
        task = FitSpec(artifact.recipe, source.domain_ref, artifact.seed, every, written, inputs)
        losses, restarted = 0, False
        while True:
            state = await asyncio.to_thread(self._store.state, artifact.key)
            try:
                await self._fit_from(state, artifact, task, executor, among)
                return
            except FitLost as error:
                losses += 1
                if losses > self._plan.loaded.header.retries.episode:
                    self._fail(artifact, f"FitLost: {error.message}")
                    return
            except AgentError as error:
                if state is None or restarted:
                    self._fail(artifact, f"AgentError: {error.message}")
                    return
                restarted = True  # the state may come from code that has changed since
                self._store.drop_states(artifact.key)

    async def _fit_from(
        self,
        state: tuple[About, Content] | None,
        artifact: Artifact,
        task: FitSpec,
        executor: Executor,
        among: int,
    ) -> None:
        assert self._display is not None
        words, before, content = "begins", 0.0, None
        curve: list[CurvePoint] = []
        if state is not None:
            words, before, content = "resumes from its last state", state[0].seconds, state[1]
            curve += state[0].curve
        self._display.note(artifact.title, 0, 1, words)
        result, seconds = None, 0.0
        async with aclosing(executor.fit(task, content, among)) as steps:
            async for step in steps:
                self._display.note(artifact.title, step.done, step.most, step.note)
                words, result, seconds = step.note, step.result, step.seconds
                curve += step.curve
                if step.state is not None:
                    saved = (artifact.key, step.state, before + seconds, curve)
                    await asyncio.to_thread(self._store.save_state, *saved)
        if result is None:
            raise AgentError("the training ended without a result")
        self.gpu_seconds += seconds * self._plan.loaded.header.run.fit_gpus
        about = self._about(artifact, before + seconds).model_copy(update={"curve": curve})
        await self._keep(about, artifact, result, words=words)
        await asyncio.to_thread(self._store.drop_states, artifact.key)

    async def _train(self, artifact: Artifact) -> None:
        """Runs a loop from its latest state, and again if its learner's process is lost."""
        assert self._executor is not None
        assert self._queue is not None
        assert self._display is not None
        losses, display = 0, self._display
        cell = await self.loops.opened(artifact.key, self._queue)
        while True:
            try:
                content, seconds, curve = await self.loops.train(
                    artifact, cell, self._executor, self._queue,
                    lambda done, most, words: display.note(artifact.title, done, most, words),
                )  # fmt: skip
                break
            except FitLost as error:
                losses += 1
                if losses > self._plan.loaded.header.retries.episode:
                    self._fail(artifact, f"FitLost: {error.message}")
                    return
            except AgentError as error:
                self._fail(artifact, f"AgentError: {error.message}")
                return
        about = self._about(artifact, seconds).model_copy(update={"curve": curve})
        await self._keep(about, artifact, content)
        await asyncio.to_thread(self._store.drop_states, artifact.key)
