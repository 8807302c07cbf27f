"""Runs judgements: a judge reads a stored dialogue, or a pair, and gives verdicts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from agents.core.ask import Ask, CallLog
from agents.core.dialogue import AgentTurn, Dialogue, usable_agent_turn
from agents.core.errors import AgentError, CrsweepError, EngineRefused, blaming
from simulators.core.judge import (
    JUDGES,
    DialogueJudge,
    Judge,
    Order,
    PairJudge,
    RecordedDialogue,
    RecordedTurn,
    Verdict,
)
from sweeps import identity
from sweeps.judgements import JudgementSpec, Prefix, StoredDialogue
from sweeps.judges import PlannedJudge
from sweeps.tasks import Task
from workers.core.attempts import Check, Row, StoredAttempt, Tables, error_of
from workers.kinds.episodes import EpisodeHandler
from workers.resources import LoadedSpeaker, Resources, speaker_of
from workers.results.bundles import Unstorable
from workers.results.rows import rows_of_calls, storable_calls

_ORDERS: tuple[Order, ...] = ("ab", "ba")


@dataclass(frozen=True, slots=True)
class JudgementAttempt(StoredAttempt):
    """One attempt at a judgement. A failed one has no verdicts."""

    attempt_id: str
    judge: PlannedJudge
    verdicts: list[Verdict]
    reply: AgentTurn | None
    """For a pair of replies: the one generated for it."""
    log: CallLog
    started: float
    ended: float

    def rows(self) -> Tables:
        verdicts = self.verdicts if self.error is None else [None]
        return {
            "calls": rows_of_calls(self.attempt_id, self.log),
            "judgements": [self._row(verdict) for verdict in verdicts],
        }

    def storable(self, check: Check) -> JudgementAttempt:
        """Fails the whole judgement if a call or verdict cannot be stored."""
        log, error = storable_calls(self.attempt_id, self.log, check)
        found = replace(self, log=log, error=self.error or error)
        try:
            check("judgements", found.rows()["judgements"])
        except Unstorable as cause:
            refused = EngineRefused(f"a verdict cannot be stored: {cause}")
            return replace(found, error=refused, reply=None)
        return found

    def _row(self, verdict: Verdict | None) -> Row:
        spec: JudgementSpec = self.task.spec
        other, error = spec.second, self.error
        subject = verdict.subject if verdict is not None else None
        item = subject.item.id if subject is not None and subject.item is not None else None
        turn = subject.turn if subject is not None else None
        named = [turn, item, verdict.dimension, verdict.order] if verdict is not None else []
        return {
            "judgement_id": identity.digest([self.task.id, *named]),
            "task_id": self.task.id,
            "judging_id": self.attempt_id,
            "episode_id": spec.first.episode_id,
            "attempt_id": spec.first.attempt_id,
            "transcript_hash": spec.first.transcript_hash,
            "other_episode_id": None if other is None else other.episode_id,
            "other_attempt_id": None if other is None else other.attempt_id,
            "other_transcript_hash": None if other is None else other.transcript_hash,
            "prefix": None if spec.prefix is None else spec.prefix.owner,
            "other_reply": None if self.reply is None else _reply_json(self.reply),
            "turn": turn,
            "item": item,
            "judge": self.judge.title,
            "judge_digest": self.judge.digest,
            "dimension": None if verdict is None else verdict.dimension,
            "sample": spec.sample,
            "order": (verdict.order or None) if verdict is not None else None,
            "status": "failed" if verdict is None else verdict.status,
            "value": None if verdict is None else verdict.value,
            "reason": None if verdict is None else verdict.reason,
            "blame": error.blame if error else None,
            "error_class": type(error).__name__ if error else None,
            "error": error.message if error else None,
            "annotator": None,
            "calls": len(self.log.records),
            "started": self.started,
            "ended": self.ended,
        }


def _reply_json(reply: AgentTurn) -> str:
    shown = [item.id for item in reply.shown]
    return identity.canonical({"text": reply.text, "action": reply.action, "shown": shown})


@dataclass
class _Work:
    """The results of a judgement so far."""

    verdicts: list[Verdict] = field(default_factory=list)
    reply: AgentTurn | None = None


class JudgementHandler:
    """Runs judgements in one process."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._episodes = EpisodeHandler(resources)
        self._judges: dict[int, tuple[Judge, LoadedSpeaker]] = {}

    async def run(self, task: Task, log: CallLog, on_progress: Any = None) -> JudgementAttempt:
        """One attempt at a judgement."""
        work, started, job = _Work(), time.time(), self._resources.job
        error: CrsweepError | None = await error_of(task, log, self._judge(task, log, work))
        return JudgementAttempt(
            task,
            error,
            task.attempt_id(job.epoch),
            job.judges[task.spec.judge],
            work.verdicts,
            work.reply,
            log,
            started,
            time.time(),
        )

    async def _judge(self, task: Task, log: CallLog, work: _Work) -> None:
        spec: JudgementSpec = task.spec
        judge, speaker = self._judge_at(spec.judge)
        first = self._recorded(spec.first)
        if isinstance(judge, DialogueJudge):
            ask = self._ask(task, speaker, [first], log)
            work.verdicts = await judge.judge(first, ask)
            return
        assert isinstance(judge, PairJudge)
        assert spec.second is not None
        second = self._recorded(spec.second)
        if spec.prefix is not None:
            first, second, work.reply = await self._replies(spec, spec.prefix, first, second, log)
        ask = self._ask(task, speaker, [first, second], log)
        for order in _ORDERS:
            work.verdicts += await judge.compare(first, second, order, ask)

    async def _replies(
        self,
        spec: JudgementSpec,
        prefix: Prefix,
        first: RecordedDialogue,
        second: RecordedDialogue,
        log: CallLog,
    ) -> tuple[RecordedDialogue, RecordedDialogue, AgentTurn]:
        """Both sides of a pair, with the same context and each with its own reply; the other side's
        is generated now.

        The replying agent is a new instance: it knows only the text of the dialogue that it
        continues.
        """
        assert spec.second is not None
        a_owns = prefix.owner == "a"
        owner, other = (first, spec.second) if a_owns else (second, spec.first)
        log.turn = prefix.turn
        source = self._resources.job.cells[other.cell].source
        split = self._resources.job.sources[source].split
        case = self._resources.domain(source).case(split, other.case_id)
        agent, ask = self._episodes.agent(other.cell, case, other.seeds, log)
        dialogue = Dialogue(owner.before(prefix.turn), agent.options.history_turns)
        with blaming(AgentError):
            answer = await agent.respond(dialogue, ask)
            made = usable_agent_turn(answer, agent.context.shown_items)
        stored = owner.turns[prefix.turn - 1]
        said = RecordedTurn(prefix.turn, made.text, made.action, made.shown, None, None, None)
        before = owner.turns[: prefix.turn - 1]
        said_then = stored._replace(user_text=None, user_decision=None, accepted=None)
        own, new = (replace(owner, turns=(*before, reply)) for reply in (said_then, said))
        return (own, new, made) if a_owns else (new, own, made)

    def _judge_at(self, index: int) -> tuple[Judge, LoadedSpeaker]:
        if index not in self._judges:
            speaker = speaker_of(self._resources.job.judges[index].ref, JUDGES, "judge")
            self._judges[index] = speaker.cls(speaker.options), speaker
        return self._judges[index]

    def _ask(
        self, task: Task, speaker: LoadedSpeaker, read: list[RecordedDialogue], log: CallLog
    ) -> Ask:
        spec: JudgementSpec = task.spec
        scope = ".".join(dialogue.transcript_hash for dialogue in read)
        role = self._resources.job.judges[spec.judge].role
        models = self._resources.models_of(task.cell)
        return Ask(role, scope, spec.sample, speaker.prompts, models, log)

    def _recorded(self, dialogue: StoredDialogue) -> RecordedDialogue:
        source = self._resources.job.cells[dialogue.cell].source
        return dialogue.recorded(self._resources.domain(source).catalogue)
