"""Makes artifacts from dialogues with training users: the entries of a memory."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from agents.core.artifacts import Content, RolloutsRecipe
from agents.core.ask import CallLog, together
from agents.core.errors import AgentError
from agents.core.seeds import Seeds
from sweeps.episodes import episode_task
from sweeps.identity import sample_order
from sweeps.tasks import Task
from workers.artifacts.store import Prepared
from workers.core.attempts import Attempt, OnProgress, Row, error_of
from workers.kinds.episodes import EpisodeHandler
from workers.resources import Resources
from workers.results.rows import rows_of_calls


class Written(NamedTuple):
    """A model-written artifact, with the rows of its calls. Crosses processes."""

    content: Content
    calls: list[Row]
    seconds: float


@dataclass(frozen=True, slots=True)
class ArtifactAttempt(Attempt):
    """One attempt at an artifact."""

    written: Written | None

    @property
    def result(self) -> Written | None:
        return self.written


async def collect_rollouts(
    resources: Resources,
    task: Task,
    recipe: RolloutsRecipe,
    used: Sequence[Prepared],
    log: CallLog,
    on_progress: OnProgress,
) -> ArtifactAttempt:
    """One attempt at collecting `recipe.size` entries. `used` are the agent's other artifacts."""
    content: list[Content] = []
    training = _training(resources, task, recipe)
    training.provide(used)

    async def play() -> None:
        content.append(await _entries(training, task, recipe, log, on_progress))

    started = time.monotonic()
    error = await error_of(task, log, play())
    if error is not None:
        return ArtifactAttempt(task, error, None)
    rows = rows_of_calls(task.attempt_id(resources.job.epoch), log)
    return ArtifactAttempt(task, None, Written(content[0], rows, time.monotonic() - started))


class Rehearsed(NamedTuple):
    """A few rollouts."""

    logs: list[CallLog]
    """One per dialogue."""
    entries: int
    """The entries that they left."""
    available: int
    """The number of training users."""


async def rehearse_rollouts(
    resources: Resources, task: Task, recipe: RolloutsRecipe, used: Sequence[Prepared]
) -> Rehearsed:
    """The first batch that `collect_rollouts` plays."""
    training = _training(resources, task, recipe)
    training.provide(used)
    order = _order(training, task)
    now = order[: recipe.memory.batch]
    logs = [CallLog() for _ in now]
    lessons = await _played(EpisodeHandler(training), task, now, logs)
    return Rehearsed(logs, len(lessons), len(order))


def _training(resources: Resources, task: Task, recipe: RolloutsRecipe) -> Resources:
    """The resources of one cell, for dialogues with training users and without the memory."""
    job = resources.job
    cell = job.cells[task.cell]
    options = recipe.options(cell.config.agent.options)
    agent = type(cell.config.agent).model_validate({"name": cell.config.agent.name, **options})
    played = replace(
        cell,
        source=0,
        config=cell.config.model_copy(update={"agent": agent}),
        needs=tuple(need for need in cell.needs if not isinstance(need.recipe, RolloutsRecipe)),
        memory=recipe.memory,
    )
    source = replace(job.sources[cell.source], split="train")
    return resources.for_job(replace(job, cells=(played,), sources=(source,), probe=False))


async def _entries(
    resources: Resources,
    task: Task,
    recipe: RolloutsRecipe,
    log: CallLog,
    on_progress: OnProgress,
) -> Content:
    """The entries. Raises AgentError if the training users leave too few."""
    size, batch = recipe.size, recipe.memory.batch
    order = _order(resources, task)
    player = EpisodeHandler(resources)
    found: list[Any] = []
    played = 0
    while len(found) < size and played < len(order):
        now = order[played : played + batch]
        logs = [CallLog() for _ in now]
        try:
            found += await _played(player, task, now, logs)
        finally:
            log.records.extend(record for own in logs for record in own.records)
        played += len(now)
        on_progress(min(size, len(found)), size)
    if len(found) < size:
        raise AgentError(
            f"{played:,} training users left {len(found):,} entries, expected {size:,}; lower the "
            "size of the memory, or take more training users"
        )
    return Content({"entries": found[:size], "users": played})


def _order(resources: Resources, task: Task) -> list[str]:
    """The training users, in playing order."""
    cases = resources.domain(0).case_ids("train")
    return [cases[position] for position in sample_order(cases, task.spec.seed)]


async def _played(
    player: EpisodeHandler, task: Task, cases: Sequence[str], logs: Sequence[CallLog]
) -> list[Any]:
    """The entries left by dialogues with these users, all played at once.

    Raises infrastructure errors; a dialogue that the agent or the user failed leaves nothing.
    """
    seeds = Seeds(task.spec.seed, task.spec.seed, 0)
    tasks = [episode_task(f"rollout-{case}", 0, seeds, case) for case in cases]
    attempts = await together(player.play(each, own) for each, own in zip(tasks, logs, strict=True))
    for attempt in attempts:
        if attempt.error is not None and attempt.error.blame == "infrastructure":
            raise attempt.error
    return [json.loads(lesson) for attempt in attempts for lesson in attempt.lessons]
