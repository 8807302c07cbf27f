"""How workers run each kind of task."""

from __future__ import annotations

from collections.abc import Callable

from agents.core.ask import CallLog
from sweeps.artifacts import ARTIFACT
from sweeps.storage.records import EPISODE, JUDGEMENT, ROLLOUT
from sweeps.tasks import Task
from workers.core.attempts import Attempt, Handler, OnProgress
from workers.kinds.artifacts import ArtifactHandler
from workers.kinds.episodes import EpisodeHandler
from workers.kinds.judging import JudgementHandler
from workers.kinds.loops import RolloutHandler
from workers.resources import Resources

HANDLERS: dict[str, Callable[[Resources], Handler]] = {
    EPISODE: EpisodeHandler,
    ARTIFACT: ArtifactHandler,
    JUDGEMENT: JudgementHandler,
    ROLLOUT: RolloutHandler,
}
"""Kind -> handler of its tasks. Where a kind commits: `sweeps.storage.records.COMMITS`."""


class TaskRunner:
    """Runs tasks of every kind in one process."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._handlers: dict[str, Handler] = {}

    async def run(self, task: Task, log: CallLog, on_progress: OnProgress) -> Attempt:
        """One attempt at a task. Raises StoreError."""
        if task.kind not in self._handlers:
            self._handlers[task.kind] = HANDLERS[task.kind](self.resources)
        return await self._handlers[task.kind].run(task, log, on_progress)
