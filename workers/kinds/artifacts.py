"""Makes model-written artifacts."""

from __future__ import annotations

import time
from collections.abc import Sequence

from agents.core.artifacts import CallsRecipe, Content, FirstWords, RolloutsRecipe
from agents.core.ask import Ask, CallLog
from agents.core.errors import AgentError, UserError, blaming
from agents.core.items import Item, VisibleCase
from simulators.core.cases import Case, HiddenCase
from simulators.core.user import User, UserContext
from sweeps.artifacts import role_of
from sweeps.speakers import AGENTS, USERS
from sweeps.tasks import Task
from workers.core.attempts import OnProgress, error_of
from workers.kinds.rollouts import ArtifactAttempt, Written, collect_rollouts
from workers.resources import Resources, speaker_of
from workers.results.rows import rows_of_calls


class ArtifactHandler:
    """Makes artifacts in one process."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def run(self, task: Task, log: CallLog, on_progress: OnProgress) -> ArtifactAttempt:
        """One attempt at an artifact."""
        resources = self._resources
        cell = resources.job.cells[task.cell]
        seed = task.spec.seed
        tops = cell.needs if cell.profiles is None else (cell.profiles,)
        needs = [need for top in tops for need in top.whole()]
        need = next(need for need in needs if need.key_at(seed) == task.id)
        inputs = {each.name: resources.artifact(each.key_at(seed)).content for each in need.inputs}
        recipe = need.recipe.given(inputs)
        if isinstance(recipe, RolloutsRecipe):
            used = [resources.artifact(each.key_at(seed)) for each in need.inputs]
            return await collect_rollouts(resources, task, recipe, used, log, on_progress)
        assert isinstance(recipe, CallsRecipe)
        return await self.write(recipe, task, log, on_progress)

    async def write(
        self, recipe: CallsRecipe, task: Task, log: CallLog, on_progress: OnProgress
    ) -> ArtifactAttempt:
        """The same, with a recipe that has its inputs."""
        resources, seed = self._resources, task.spec.seed
        cell = resources.job.cells[task.cell]
        prompts = recipe.prompts or speaker_of(cell.config.agent, AGENTS, "agent").prompts
        blame = UserError if role_of(recipe).startswith("user") else AgentError

        if recipe.by_user:
            recipe = recipe.with_user(self._first_words(task, log))
        ask = Ask(role_of(recipe), task.id, seed, prompts, resources.models_of(task.cell), log)
        content: list[Content] = []

        async def build() -> None:
            domain = resources.domain(cell.source)
            with blaming(blame):
                building = recipe.over(domain).build(domain.catalogue, ask, on_progress)
                content.append(await building)

        started = time.monotonic()
        error = await error_of(task, log, build())
        if error is not None:
            return ArtifactAttempt(task, error, None)
        rows = rows_of_calls(task.attempt_id(resources.job.epoch), log)
        written = Written(content[0], rows, time.monotonic() - started)
        return ArtifactAttempt(task, None, written)

    def _first_words(self, task: Task, log: CallLog) -> FirstWords:
        """The cell's simulated user, with users of the training data."""
        resources = self._resources
        cell = resources.job.cells[task.cell]
        speaker = speaker_of(cell.config.simulator, USERS, "simulator")
        catalogue = resources.domain(cell.source).catalogue
        models = resources.models_of(task.cell)

        async def first_words(example: int, history: Sequence[Item], target: Item) -> str:
            # Each has its own scope and log, so its seeds do not depend on which others run.
            scope, own = f"{task.id}.{example}", CallLog(watch=log.watch)
            case = Case(VisibleCase(scope, tuple(history)), HiddenCase((target,)))
            user: User = speaker.cls(speaker.options, UserContext(catalogue, case))
            ask = Ask("user", scope, task.spec.seed, speaker.prompts, models, own)
            try:
                return (await user.open(ask)).text
            finally:
                log.records.extend(own.records)
                log.used.update(own.used)

        return first_words
