"""Runs episodes: builds both sides, plays the dialogue, and records what happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agents.core import plugins
from agents.core.agent import Agent, AgentContext
from agents.core.ask import Ask, CallLog
from agents.core.errors import AgentError, CriticError, UserError, blaming
from agents.core.memory import MEMORY
from agents.core.seeds import Seeds
from simulators.core.cases import Case
from simulators.core.critic import CRITICS, Critic
from simulators.core.dialogue import (
    DialogueLimits,
    SuccessRule,
    Transcript,
    Watcher,
    run_dialogue,
)
from simulators.core.user import User, UserContext
from sweeps.artifacts import PROFILES
from sweeps.cells import SUCCESS
from sweeps.speakers import AGENTS, USERS
from sweeps.streams import Remembered
from sweeps.tasks import Task
from workers.core.attempts import OnProgress, error_of
from workers.resources import LoadedSpeaker, Resources, speaker_of
from workers.results.lessons import learned
from workers.results.rows import EpisodeAttempt

Players = tuple[Agent, User, Critic | None]
Wrap = Callable[[Agent, User, Critic | None], Players]


@dataclass(frozen=True)
class _Scene:
    """What all episodes of one cell share."""

    agent: LoadedSpeaker
    user: LoadedSpeaker
    critic: LoadedSpeaker | None
    is_success: SuccessRule
    limits: DialogueLimits


class EpisodeHandler:
    """Plays episodes in one process."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._scenes: dict[int, _Scene] = {}

    async def run(
        self, task: Task, log: CallLog, on_progress: OnProgress | None = None
    ) -> EpisodeAttempt:
        """One attempt at an episode."""
        return await self.play(task, log)

    async def play(
        self,
        task: Task,
        log: CallLog,
        wrap: Wrap | None = None,
        artifacts: Mapping[str, str] | None = None,
    ) -> EpisodeAttempt:
        """Plays one episode.

        `wrap` may wrap the two sides and the critic, to show what they say. `artifacts`, name ->
        key, replace those of the cell.
        """
        job = self._resources.job
        cell = job.cells[task.cell]
        source = job.sources[cell.source]
        case = self._resources.domain(cell.source).case(source.split, task.spec.case_id)
        keys = {**cell.artifacts(task.spec.seeds), **(artifacts or {})}
        digests = {name: self._resources.artifact(key).digest for name, key in keys.items()}
        if source.written is not None:
            digests[PROFILES] = source.written.digest
        if task.spec.memory is not None:
            digests[MEMORY] = task.spec.memory.digest
        transcript, started = Transcript(), time.time()
        lessons: list[str] = []
        playing = self._play(task, case, transcript, log, wrap, lessons, keys)
        error = await error_of(task, log, playing)
        return EpisodeAttempt(
            task,
            error,
            task.attempt_id(job.epoch),
            cell,
            source.source_id,
            transcript,
            log,
            case,
            started,
            time.time(),
            digests,
            lessons,
            job.depth,
        )

    async def _play(
        self,
        task: Task,
        case: Case,
        transcript: Transcript,
        log: CallLog,
        wrap: Wrap | None,
        lessons: list[str],
        keys: Mapping[str, str],
    ) -> None:
        """Plays into `transcript`; what an agent with memory learns goes into `lessons`."""
        resources, scene = self._resources, self._scene(task.cell)
        cell = resources.job.cells[task.cell]
        catalogue = resources.domain(cell.source).catalogue
        case_id, seeds, memory = task.spec.case_id, task.spec.seeds, task.spec.memory
        agent, ask_agent = self.agent(task.cell, case, seeds, log, memory, keys)
        with blaming(UserError):
            user: User = scene.user.cls(scene.user.options, UserContext(catalogue, case))
        critic: Critic | None = None
        if scene.critic is not None:
            with blaming(CriticError):
                critic = scene.critic.cls(scene.critic.options, catalogue.noun)
        if wrap is not None:
            agent, user, critic = wrap(agent, user, critic)
        models = resources.models_of(task.cell)

        def ask(role: str, speaker: LoadedSpeaker) -> Ask:
            return Ask(role, case_id, seeds.sampling, speaker.prompts, models, log)

        watcher = None
        if critic is not None and scene.critic is not None:
            watcher = Watcher(critic, ask("critic", scene.critic))
        await run_dialogue(
            agent,
            user,
            ask_agent,
            ask("user", scene.user),
            hidden=case.hidden,
            limits=scene.limits,
            is_success=scene.is_success,
            probe=resources.job.probe,
            transcript=transcript,
            watcher=watcher,
        )
        if cell.memory is not None:
            with blaming(AgentError):
                lessons += learned(cell.memory, transcript)

    def agent(
        self,
        cell: int,
        case: Case,
        seeds: Seeds,
        log: CallLog,
        memory: Remembered | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> tuple[Agent, Ask]:
        """A new agent of the cell at this position for a dialogue with `case`, and its `Ask`.

        `keys` are the keys of its artifacts, if they differ from the cell's.
        """
        resources, speaker = self._resources, self._scene(cell).agent
        config = resources.job.cells[cell]
        catalogue = resources.domain(config.source).catalogue
        context = AgentContext(
            catalogue,
            case.visible,
            config.config.limits.shown_items,
            resources.load(keys or config.artifacts(seeds), catalogue)
            | ({} if memory is None else {MEMORY: memory.read()}),
        )

        with blaming(AgentError):
            agent: Agent = speaker.cls(speaker.options, context)
        scope, models = case.visible.case_id, resources.models_of(cell)
        return agent, Ask("agent", scope, seeds.sampling, speaker.prompts, models, log)

    def _scene(self, index: int) -> _Scene:
        if index not in self._scenes:
            config = self._resources.job.cells[index].config
            self._scenes[index] = _Scene(
                speaker_of(config.agent, AGENTS, "agent"),
                speaker_of(config.simulator, USERS, "simulator"),
                None if config.critic is None else speaker_of(config.critic, CRITICS, "critic"),
                plugins.load(SUCCESS, config.success.name, "success rule"),
                DialogueLimits(config.limits.max_turns, config.limits.episode_tokens),
            )
        return self._scenes[index]
