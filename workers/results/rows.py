"""Converts what happened in an attempt into rows of the stored tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from agents.core.ask import CallLog, CallRecord, blame_of, is_probe
from agents.core.calls import EmbedCall
from agents.core.errors import (
    AgentError,
    Blame,
    CriticError,
    CrsweepError,
    EngineRefused,
    UserError,
)
from agents.core.items import Item
from simulators.core.cases import Case
from simulators.core.dialogue import Transcript
from sweeps.cells import Cell
from workers.core.attempts import Check, Row, StoredAttempt, Tables
from workers.results.bundles import Unstorable

_BLAMED: dict[Blame, type[CrsweepError]] = {
    "agent": AgentError,
    "user": UserError,
    "critic": CriticError,
}
_OF_USER = frozenset({"user_text", "user_decision", "accepted_item", "user_leaves", "feedback"})
_OF_USER |= {"user_extra"}
_OF_CRITIC = frozenset({"critic_score", "critic_extra"})

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class EpisodeAttempt(StoredAttempt):
    """One attempt at an episode."""

    attempt_id: str
    cell: Cell
    source_id: str
    transcript: Transcript
    journal: CallLog
    case: Case
    started: float
    ended: float
    artifacts: Mapping[str, str] = field(default_factory=dict)
    """Name -> digest of the content of the artifacts that its agent used."""
    lessons: Sequence[str] = ()
    """What an agent with memory has learned."""
    depth: int = 0
    """How many items of a ranking are stored at least. One of the whole catalogue would fill the
    disk; the rank of the target, which metrics read, is stored separately."""

    @property
    def result(self) -> Sequence[str]:
        return self.lessons

    def rows(self) -> Tables:
        return {
            "calls": call_rows(self),
            "turns": turn_rows(self),
            "episodes": [episode_row(self)],
        }

    def storable(self, check: Check) -> EpisodeAttempt:
        """Blames the role of a call, or the side of a turn, for a value that cannot be stored."""
        log, error = storable_calls(self.attempt_id, self.journal, check)
        error = self.error or error
        transcript = self.transcript
        try:
            check("turns", turn_rows(self))
        except Unstorable as cause:
            blamed = UserError if cause.column in _OF_USER else AgentError
            if cause.column in _OF_CRITIC:
                blamed = CriticError
            error = error or blamed(f"a turn cannot be stored: {cause}")
            transcript = Transcript()
        if log is not self.journal or transcript is not self.transcript:
            return replace(self, journal=log, transcript=transcript, error=error)
        return self


def episode_row(attempt: EpisodeAttempt) -> Row:
    """The row of `episodes`: the commit of the attempt."""
    task, transcript, journal = attempt.task, attempt.transcript, attempt.journal
    cell, seeds = attempt.cell, task.spec.seeds
    error, accepted = attempt.error, attempt.transcript.accepted
    return {
        "episode_id": task.id,
        "attempt_id": attempt.attempt_id,
        "cell_id": cell.cell_id,
        "source_id": attempt.source_id,
        "case_id": task.spec.case_id,
        "seed": seeds.sampling,
        "seed_training": seeds.training,
        "seed_order": seeds.order,
        "axes": list(cell.axes.items()),
        "status": attempt.status,
        "blame": error.blame if error else None,
        "error_class": type(error).__name__ if error else None,
        "error": error.message if error else None,
        "stop_reason": "failed" if error else transcript.stop_reason,
        "success": error is None and transcript.success_turn is not None,
        "success_rule": cell.config.success.name,
        "success_turn": None if error else transcript.success_turn,
        "accepted_item": accepted.accepted.id if accepted and accepted.accepted else None,
        "targets": _ids(attempt.case.hidden.targets),
        "turns": len(transcript.turns),
        "max_turns": cell.config.limits.max_turns,
        "shown_items": cell.config.limits.shown_items,
        "agent_tokens": journal.tokens(lambda r: r.startswith("agent") and not is_probe(r)),
        "user_tokens": journal.tokens(lambda r: r.startswith("user")),
        "probe_tokens": journal.tokens(is_probe),
        "critic_tokens": journal.tokens(lambda r: r.startswith("critic")),
        "calls": len(journal.records),
        "transcript_hash": transcript_hash(transcript),
        "artifacts": list(attempt.artifacts.items()),
        "started": attempt.started,
        "ended": attempt.ended,
    }


def turn_rows(attempt: EpisodeAttempt) -> list[Row]:
    """The rows of `turns`, the opening as turn 0."""
    opening = attempt.transcript.opening
    if opening is None:
        return []
    rows: list[Row] = [
        {
            "attempt_id": attempt.attempt_id,
            "turn": 0,
            "action": None,
            "strategy": None,
            "shown": [],
            "ranking": None,
            "ranked": None,
            "target_rank": None,
            "candidates": None,
            "agent_text": None,
            "user_text": opening.text,
            "user_decision": None,
            "accepted_item": None,
            "user_leaves": False,
            "feedback": "{}",
            "extra": "{}",
            "user_extra": _json(opening.extra),
            "critic_score": None,
            "critic_extra": None,
        }
    ]
    targets = {target.id for target in attempt.case.hidden.targets}
    depth = max(attempt.depth, attempt.cell.config.limits.shown_items)
    for number, (agent, user, critic) in enumerate(attempt.transcript.turns, start=1):
        rows.append(
            {
                "attempt_id": attempt.attempt_id,
                "turn": number,
                "action": agent.action,
                "strategy": agent.strategy,
                "shown": _ids(agent.shown),
                "ranking": None if agent.ranking is None else _ids(agent.ranking[:depth]),
                "ranked": None if agent.ranking is None else len(agent.ranking),
                "target_rank": _target_rank(agent.ranking or (), targets),
                "candidates": None if agent.candidates is None else _ids(agent.candidates),
                "agent_text": agent.text,
                "user_text": user.text,
                "user_decision": user.decision,
                "accepted_item": user.accepted.id if user.accepted else None,
                "user_leaves": user.leaves,
                "feedback": _json(user.feedback),
                "extra": _json(agent.extra),
                "user_extra": _json(user.extra),
                "critic_score": None if critic is None else critic.score,
                "critic_extra": None if critic is None else _json(critic.extra),
            }
        )
    return rows


def call_rows(attempt: EpisodeAttempt) -> list[Row]:
    """The rows of `calls`, in the order in which the calls ended."""
    return rows_of_calls(attempt.attempt_id, attempt.journal)


def rows_of_calls(attempt_id: str, journal: CallLog) -> list[Row]:
    """The rows of `calls` of an attempt at any task."""
    return [row_of_call(attempt_id, record) for record in journal.records]


def storable_calls(
    attempt_id: str, log: CallLog, check: Check
) -> tuple[CallLog, CrsweepError | None]:
    """The calls that can be stored, and the role to blame for the others. `log` itself if all can
    be."""
    records: list[CallRecord] = []
    error: CrsweepError | None = None
    for record in log.records:
        try:
            check("calls", [row_of_call(attempt_id, record)])
            records.append(record)
        except Unstorable as cause:
            kind = _BLAMED.get(blame_of(record.call.role), EngineRefused)
            error = error or kind(f"a call cannot be stored: {cause}")
    return (log if error is None else replace(log, records=records)), error


def row_of_call(attempt_id: str, record: CallRecord) -> Row:
    """The row of `calls` of one call."""
    call, done, error = record.call, record.completion, record.error
    return {
        "attempt_id": attempt_id,
        "turn": call.turn,
        "role": call.role,
        "step": call.step.name,
        "draw": call.draw,
        "reask": call.reask,
        "model": record.model.name,
        "request_key": call.key(record.model).hex(),
        "seed": call.seed,
        "input_tokens": done.input_tokens if done else None,
        "output_tokens": done.output_tokens if done else None,
        "thinking_tokens": done.thinking_tokens if done else None,
        "finish_reason": done.finish_reason if done else None,
        "valid": record.valid,
        "cached": done.cached if done else False,
        "retries": done.retries if done else error.retries if error else 0,
        "error_class": type(error).__name__ if error else None,
        "error": error.message if error else None,
        "started": record.started,
        "seconds": record.seconds,
        "prompt": call.messages_json,
        "reply": done.text if done and not isinstance(call, EmbedCall) else None,
        "thinking": done.thinking if done else None,
        "fingerprint": done.fingerprint if done else None,
    }


def transcript_hash(transcript: Transcript) -> str:
    """Hex BLAKE2b-128 of what was said, shown and decided, without probes, times and tokens."""
    words: list[Any] = [transcript.opening.text if transcript.opening else None]
    for agent, user, _ in transcript.turns:
        words.append([agent.text, agent.action, _ids(agent.shown), user.text, user.decision])
    text = _encode([words, transcript.stop_reason])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _target_rank(ranking: Sequence[Item], targets: Set[str]) -> int | None:
    """The rank, from 1, of the first target; None if there is none."""
    return next((n for n, item in enumerate(ranking, start=1) if item.id in targets), None)


def _ids(items: Sequence[Item]) -> list[str]:
    return [item.id for item in items]


def _json(value: Mapping[str, Any]) -> str:
    if not value:
        return "{}"
    return _encode(value)
