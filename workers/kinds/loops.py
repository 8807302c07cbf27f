"""Plays the dialogues of training loops, with training users and the current weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agents.core.artifacts import LoopRecipe
from agents.core.ask import CallLog
from agents.core.errors import AgentError, InternalError
from agents.core.policy import Decision, DecisionCall
from sweeps.rollouts import weights_key
from sweeps.tasks import Task
from workers.core.attempts import Check, OnProgress, Row, StoredAttempt, Tables
from workers.kinds.episodes import EpisodeHandler
from workers.resources import Resources
from workers.results.rows import EpisodeAttempt, call_rows, turn_rows


@dataclass(frozen=True, slots=True)
class RolloutAttempt(StoredAttempt):
    """One attempt at a dialogue of a loop."""

    played: EpisodeAttempt
    reward: str
    """The reward of a turn: `critic` or `success`."""

    @property
    def result(self) -> Mapping[str, Any] | None:
        return None if self.error is not None else self._result()

    def _result(self) -> Mapping[str, Any]:
        transcript = self.played.transcript
        return {
            "steps": steps_of(self.played, self.reward),
            "success": transcript.success_turn is not None,
        }

    def rows(self) -> Tables:
        return {
            "calls": call_rows(self.played),
            "turns": turn_rows(self.played),
            "rollouts": [self._row()],
        }

    def _row(self) -> Row:
        task, played, error = self.task, self.played, self.error
        transcript, spec = played.transcript, task.spec
        done = error is None
        return {
            "rollout_id": task.id,
            "attempt_id": played.attempt_id,
            "loop": spec.loop,
            "round": spec.update,
            "weights": spec.weights,
            "cell_id": played.cell.cell_id,
            "case_id": spec.case_id,
            "seed": spec.seeds.sampling,
            "status": self.status,
            "blame": None if error is None else error.blame,
            "error_class": None if error is None else type(error).__name__,
            "error": None if error is None else error.message,
            "stop_reason": transcript.stop_reason if done else "failed",
            "success": done and transcript.success_turn is not None,
            "success_turn": transcript.success_turn if done else None,
            "turns": len(transcript.turns),
            "calls": len(played.journal.records),
            "steps": json.dumps(self._result()["steps"] if done else []),
            "started": played.started,
            "ended": played.ended,
        }

    def storable(self, check: Check) -> RolloutAttempt:
        played = self.played.storable(check)
        if played is self.played:
            return self
        return replace(self, played=played, error=played.error)


def steps_of(played: EpisodeAttempt, reward: str) -> list[dict[str, Any]]:
    """The turns of a finished dialogue, as a learner takes them: state, label, reward.

    A turn uses the policy's first decision in it that was not a probe. A turn without a decision is
    left out, and its reward is added to that of the turn before it, which led there.
    """
    found: list[dict[str, Any]] = []
    decisions: dict[int, tuple[str, Decision]] = {}
    for record in played.journal.records:
        if isinstance(record.call, DecisionCall) and record.completion is not None:
            decision = Decision.read(record.completion.text)
            decisions.setdefault(record.call.turn, (record.call.messages[0].content, decision))
    transcript = played.transcript
    for number, turn in enumerate(transcript.turns, start=1):
        if reward == "success":
            value = float(number == transcript.success_turn)
        else:
            value = None if turn.critic is None else turn.critic.score
        if number in decisions:
            state, decision = decisions[number]
            found.append(
                {
                    "state": state,
                    "label": decision.label,
                    "log_probability": decision.log_probability,
                    "reward": value,
                }
            )
        elif found and value is not None:
            found[-1]["reward"] = (found[-1]["reward"] or 0.0) + value
    return found


class RolloutHandler:
    """Plays rollouts in one process."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._players: dict[tuple[int, str], tuple[EpisodeHandler, LoopRecipe]] = {}

    async def run(self, task: Task, log: CallLog, on_progress: OnProgress) -> RolloutAttempt:
        """One attempt at a rollout."""
        spec = task.spec
        player, recipe = self._player(task.cell, spec.name, spec.loop)
        now = self._resources.artifact(weights_key(spec.loop))
        if now.digest != spec.weights:
            raise InternalError(
                f"a rollout needs the weights {spec.weights} and its worker has {now.digest}"
            )
        inner = task._replace(cell=0)
        played = await player.play(inner, log, artifacts={spec.name: weights_key(spec.loop)})
        played = replace(played, task=task)
        error = played.error
        if error is None and not any(isinstance(r.call, DecisionCall) for r in log.records):
            error = AgentError(f"the agent never asked its policy {spec.name!r}")
        return RolloutAttempt(task, error, replace(played, error=error), recipe.reward)

    def _player(self, index: int, name: str, loop: str) -> tuple[EpisodeHandler, LoopRecipe]:
        """Plays the dialogues of a loop; the cell's agent knows its artifact by this name."""
        if (index, loop) not in self._players:
            job = self._resources.job
            cell = job.cells[index]
            recipe = next(need.recipe for need in cell.needs if need.name == name)
            assert isinstance(recipe, LoopRecipe)
            options = recipe.options(cell.config.agent.options)
            agent = type(cell.config.agent).model_validate(
                {"name": cell.config.agent.name, **options}
            )
            config = cell.config.model_copy(update={"agent": agent})
            training = replace(job.sources[cell.source], split="train")
            played = replace(cell, source=0, config=config)
            own = replace(job, cells=(played,), sources=(training,), probe=False)
            self._players[index, loop] = EpisodeHandler(self._resources.for_job(own)), recipe
        return self._players[index, loop]
