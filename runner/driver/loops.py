"""Training loops of a run: dialogues, then an update of weights that learns from them, and again.

1. The dialogues of an update are offered to the workers like episodes, with the same engines, cache
   and retries. They are committed to the table `rollouts`.
2. When all of them are settled, a learner in a process of its own makes the update, and workers get
   the new weights.
3. A state is saved at most every `artifacts.state_every` seconds. A loop that is resumed takes the
   latest one, and makes the updates after it again from the dialogues that are committed: no call
   is repeated. An id names the weights of its dialogue, so one with other weights is played again.
4. A dialogue that failed is missing: its reward is unknown, not 0. An update needs at least one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.core.artifacts import Content, CurvePoint, LoopRecipe
from agents.core.errors import AgentError
from runner.driver.executors import Executor
from runner.driver.scheduler import LeaseQueue
from sweeps.artifacts import Artifact
from sweeps.plan import Plan
from sweeps.rollouts import rollouts_of, weights_key
from sweeps.storage import parts
from sweeps.storage.folder import Folder
from sweeps.tasks import Outcome, Task
from workers.artifacts.store import About, ArtifactStore, Prepared, Stored
from workers.results.bundles import read_columns
from workers.training import LearnerProcess, LearnerSpec

_SHARES = 3  # of each kind on the screen: there is no room for all
_LOOK_EVERY = 0.2  # seconds between two looks whether the engines of a loop may load
_COLUMNS = ("rollout_id", "loop", "status", "success", "steps", "blame", "driver_epoch", "ended")


@dataclass(frozen=True)
class RunHooks:
    """How a loop communicates with the run: where it reports, and gets and leaves data."""

    provide: Callable[[Prepared], Awaitable[None]]
    """Gives the current weights to the workers."""
    save: Callable[[Content, float, Sequence[CurvePoint]], Awaitable[None]]
    """Saves a state, with the seconds and the curve so far."""
    note: Callable[[int, int, str], None]
    """Shows the loop's progress."""


class Rollouts:
    """The current dialogues of all loops of a run. Receives their outcomes."""

    def __init__(self) -> None:
        self._awaited: dict[str, asyncio.Future[Outcome]] = {}
        self.cells: Counter[int] = Counter()
        """Cells of loops that have not ended: they will offer more."""

    async def received(self, outcome: Outcome, final: bool) -> None:
        awaited = self._awaited.get(outcome.task.id)
        if final and awaited is not None and not awaited.done():
            awaited.set_result(outcome)

    def progressed(self, progress: Mapping[str, tuple[int, int]]) -> None:
        """Shows a rollout by the update that it belongs to."""

    @property
    def held(self) -> set[int]:
        return {cell for cell, count in self.cells.items() if count}

    async def play(self, tasks: Sequence[Task], queue: LeaseQueue) -> list[Outcome]:
        """The outcomes of tasks, in order, once all are settled."""
        loop = asyncio.get_running_loop()
        mine = {task.id: loop.create_future() for task in tasks}
        self._awaited |= mine
        queue.offer(tasks, gating=True)
        try:
            return [await mine[task.id] for task in tasks]
        finally:
            for task in tasks:
                self._awaited.pop(task.id, None)


@dataclass
class TrainingLoop:
    """One loop, with `cases` as users and the agent of the cell at position `cell`."""

    artifact: Artifact
    cell: int
    cases: Sequence[str]
    folder: Folder
    rollouts: Rollouts
    queue: LeaseQueue
    hooks: RunHooks
    state_every: float
    seconds: float = 0.0
    """Time spent on the current weights, over all attempts."""
    curve: list[CurvePoint] = field(default_factory=list)
    stored: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """Committed rollouts: id -> result, or None if it failed for good."""

    @property
    def recipe(self) -> LoopRecipe:
        assert isinstance(self.artifact.recipe, LoopRecipe)
        return self.artifact.recipe

    async def run(
        self, learner: LearnerProcess, spec: LearnerSpec, state: tuple[About, Content] | None
    ) -> Content:
        """Trains from a state, if there is one, to the final weights. Raises AgentError, FitLost,
        StoreError."""
        if not self.cases:
            raise AgentError("the domain has no training users, so no rollout can be played")
        began = saved = time.monotonic()
        before = 0.0 if state is None else state[0].seconds
        self.curve = [] if state is None else list(state[0].curve)
        done = await learner.begin(spec, None if state is None else state[1])
        most = self.recipe.updates
        words = "begins" if state is None else f"resumes after update {done:,}"
        self.hooks.note(done, most, words)
        self.stored = await asyncio.to_thread(stored_rollouts, self.folder, self.artifact.key)
        self.rollouts.cells[self.cell] += 1
        try:
            while done < most:
                weights = await learner.weights()
                results, missing = await self._played(done, weights)
                if not results:
                    raise AgentError(
                        f"all {missing:,} rollouts of update {done + 1:,} failed, so "
                        "there is nothing to learn from"
                    )
                numbers = await learner.update(results)
                done += 1
                self.curve += [CurvePoint(name, done, value) for name, value in numbers.items()]
                self.hooks.note(done, most, line_of(numbers, missing))
                self.seconds = before + time.monotonic() - began
                if done < most and time.monotonic() - saved >= self.state_every:
                    saved = time.monotonic()
                    await self.hooks.save(await learner.state(), self.seconds, self.curve)
            return await learner.result()
        finally:
            self.rollouts.cells[self.cell] -= 1

    async def _played(self, done: int, weights: Content) -> tuple[list[Mapping[str, Any]], int]:
        """The results of the next update's dialogues, and how many are missing."""
        every = self.recipe.every
        numbers = range(done * every, min((done + 1) * every, self.recipe.dialogues))
        digest = weights.digest()
        tasks = rollouts_of(
            self.artifact.key,
            self.artifact.name,
            self.cell,
            self.artifact.seed,
            self.cases,
            done + 1,
            numbers,
            digest,
        )
        found: dict[str, Mapping[str, Any] | None] = {
            task.id: self.stored[task.id] for task in tasks if task.id in self.stored
        }
        left = [task for task in tasks if task.id not in found]
        if left:
            key = weights_key(self.artifact.key)
            await self.hooks.provide(Prepared(key, digest, self.recipe, weights))
            for outcome in await self.rollouts.play(left, self.queue):
                found[outcome.task.id] = await self._result(outcome)
        results = [found[task.id] for task in tasks]
        whole = [result for result in results if result is not None]
        return whole, len(results) - len(whole)

    async def _result(self, outcome: Outcome) -> Mapping[str, Any] | None:
        if outcome.status == "failed" or outcome.result is not None:
            return outcome.result
        # The worker was lost after it had committed it.
        found = await asyncio.to_thread(stored_rollouts, self.folder, self.artifact.key)
        return found[outcome.task.id]


class Loops:
    """The training loops of a run: where their dialogues are played, and how they are run."""

    def __init__(self, plan: Plan, store: ArtifactStore, state_every: float) -> None:
        self._plan, self._store, self._state_every = plan, store, state_every
        self._stages = 0
        self._places: dict[str, tuple[int, int]] = {}
        """Key of a loop -> its stage of the run, and the cell that plays its dialogues."""
        self.rollouts = Rollouts()

    @property
    def held(self) -> set[int]:
        """The cells of running loops, which will offer more dialogues."""
        return self.rollouts.held

    def assign(self, loop: str, cell: int) -> None:
        """Assigns a loop's dialogues to agents of `cell`, in the current stage."""
        self._places[loop] = self._stages, cell

    def next_stage(self) -> None:
        self._stages += 1

    async def opened(self, loop: str, queue: LeaseQueue) -> int:
        """The cell of a loop, once the engines of its stage may load."""
        stage, cell = self._places[loop]
        while queue.opened <= stage:  # noqa: ASYNC110  (the queue has no clock and no coroutines)
            await asyncio.sleep(_LOOK_EVERY)
        return cell

    async def train(
        self,
        artifact: Artifact,
        cell: int,
        executor: Executor,
        queue: LeaseQueue,
        note: Callable[[int, int, str], None],
    ) -> tuple[Content, float, list[CurvePoint]]:
        """The trained weights, the seconds spent, and the curve. Raises AgentError, FitLost,
        StoreError."""
        key, store = artifact.key, self._store
        assert isinstance(artifact.recipe, LoopRecipe)
        state = await asyncio.to_thread(store.state, key)

        async def save(content: Content, seconds: float, curve: Sequence[CurvePoint]) -> None:
            await asyncio.to_thread(store.save_state, key, content, seconds, curve)

        loop = TrainingLoop(
            artifact,
            cell,
            self._plan.sources[self._plan.cells[cell].source].domain.case_ids("train"),
            self._plan.loaded.out,
            self.rollouts,
            queue,
            RunHooks(lambda weights: executor.provide([weights]), save, note),
            self._state_every,
        )
        start = Stored(store.folder, artifact.inputs["start"])
        learner = LearnerProcess()
        try:
            spec = LearnerSpec(artifact.recipe, artifact.seed, start)
            return await loop.run(learner, spec, state), loop.seconds, loop.curve
        finally:
            await learner.close()


class Background:
    """Coroutines that run concurrently until one fails or all are cancelled."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(lambda _: self._news.set())

    async def until_one_fails(self) -> None:
        """Waits, and raises the first error."""
        try:
            while self._running:
                await self._news.wait()
                self._news.clear()
                for task in [task for task in self._running if task.done()]:
                    self._running.discard(task)
                    task.result()
        finally:
            left = set(self._running)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)


def line_of(numbers: Mapping[str, float], missing: int) -> str:
    """A line for the screen with what an update measured; of shares (`strategy: NAME`) the
    largest ones."""
    shown = [f"{name} {value:.3f}" for name, value in numbers.items() if ":" not in name]
    shown += [f"{missing:,} missing"] if missing else []
    shares: dict[str, list[tuple[str, float]]] = {}
    for series, value in numbers.items():
        kind, colon, name = series.partition(": ")
        if colon and value > 0:
            shares.setdefault(kind, []).append((name, value))
    for kind, found in shares.items():
        largest = sorted(found, key=lambda pair: -pair[1])[:_SHARES]
        shown.append(f"{kind} " + ", ".join(f"{name} {value:.2f}" for name, value in largest))
    return ", ".join(shown)


def stored_rollouts(folder: Folder, loop: str) -> dict[str, Mapping[str, Any] | None]:
    """The settled rollouts of a loop: id -> result, or None if it failed and would fail again.

    The earliest done attempt counts. Raises PartDamaged and StoreError.
    """
    ranked: dict[str, tuple[Any, Mapping[str, Any] | None]] = {}
    for name in parts.live(folder, "rollouts"):
        for row in read_columns(folder, name, _COLUMNS).to_pylist():
            failed = row["status"] == "failed"
            if row["loop"] != loop or (failed and row["blame"] == "infrastructure"):
                continue
            rank = (failed, row["driver_epoch"], row["ended"])
            if row["rollout_id"] in ranked and ranked[row["rollout_id"]][0] <= rank:
                continue
            result = {"steps": json.loads(row["steps"]), "success": row["success"]}
            ranked[row["rollout_id"]] = rank, None if failed else result
    return {rollout: result for rollout, (_, result) in ranked.items()}
