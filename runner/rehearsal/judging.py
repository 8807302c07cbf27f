"""Judges rehearsed with the `rules` backend on rehearsed dialogues: their prompts and calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from agents.core.ask import CallLog
from runner.rehearsal.stand_ins import CallEstimate, rules_resources, stand_ins, with_cases
from sweeps.judgements import JudgementSpec, Prefix, StoredDialogue, StoredTurn, judgement_task
from sweeps.judges import opponents
from sweeps.plan import Plan
from workers.kinds.judging import JudgementAttempt, JudgementHandler
from workers.results.rows import EpisodeAttempt


class JudgeEstimate(NamedTuple):
    """What one judge may be asked in all."""

    title: str
    model: str
    subjects: int
    """Dialogues, or pairs."""
    pairs: bool
    spoken: CallEstimate

    def line(self) -> str:
        noun = "pairs" if self.pairs else "dialogues"
        return (
            f"judge {self.title} (model {self.model}): {self.subjects:,} {noun}, "
            f"about {self.spoken.words()}"
        )


def rehearse_judges(plan: Plan, attempts: Sequence[EpisodeAttempt]) -> list[JudgementAttempt]:
    """Every judge on every rehearsed dialogue; judges of pairs compare each with itself.

    Raises what a judge fails of.
    """
    if not plan.judges:
        return []
    plan = asyncio.run(with_cases(plan))
    resources = rules_resources(plan, probe=False)
    handler = JudgementHandler(resources)
    read = [_stored(attempt) for attempt in attempts if attempt.error is None]

    async def judge() -> list[JudgementAttempt]:
        cells = sorted({dialogue.cell for dialogue in read})
        resources.provide([found.prepared for found in await stand_ins(plan, cells)])
        found = []
        for index, judge in enumerate(plan.judges):
            for dialogue in read:
                spec = JudgementSpec(index, 0, dialogue)
                if judge.pairs is not None:
                    prefix = Prefix("a", len(dialogue.turns))
                    replies = judge.pairs.of == "response"
                    spec = spec._replace(second=dialogue, prefix=prefix if replies else None)
                task = judgement_task(judge.digest, spec, [], dialogue.cell)
                found.append(await handler.run(task, CallLog()))
        return found

    done = asyncio.run(judge())
    for attempt in done:
        if attempt.error is not None:
            raise attempt.error
    return done


def estimate_judges(plan: Plan, attempts: Sequence[EpisodeAttempt]) -> list[JudgeEstimate]:
    """What each judge may be asked once all dialogues are there: means times numbers."""
    judged = rehearse_judges(plan, attempts)
    found = []
    for index, judge in enumerate(plan.judges):
        mine = [attempt for attempt in judged if attempt.task.spec.judge == index]
        records = [record for attempt in mine for record in attempt.log.records]
        done = [record.completion for record in records if record.completion is not None]
        subjects = _subjects(plan, index)
        share = judge.ref.samples * subjects / len(mine) if mine else 0.0
        spoken = CallEstimate(
            share * len(records),
            share * sum(c.input_tokens or 0 for c in done),
            share * sum(c.output_tokens or 0 for c in done),
        )
        model = plan.cells[0].judges[judge.role]
        found.append(JudgeEstimate(judge.title, model, subjects, judge.pairs is not None, spoken))
    return found


def _subjects(plan: Plan, index: int) -> int:
    """How many dialogues, or pairs, a judge of the plan has once all dialogues are done."""
    choice = plan.judges[index].pairs
    if choice is None:
        return plan.episodes
    count = 0
    for cell, others in opponents(choice, [cell.axes for cell in plan.cells]).items():
        mine = plan.cells[cell]
        for other in others:
            shared = set(mine.seeds) & set(plan.cells[other].seeds)
            count += len(shared) * len(plan.sources[mine.source])
    return count


def _stored(attempt: EpisodeAttempt) -> StoredDialogue:
    """A rehearsed dialogue as it would be read back."""
    assert attempt.transcript.opening is not None
    turns = tuple(
        StoredTurn(
            number,
            agent.text,
            agent.action,
            tuple(item.id for item in agent.shown),
            user.text,
            user.decision,
            user.accepted.id if user.accepted else None,
        )
        for number, (agent, user, _) in enumerate(attempt.transcript.turns, start=1)
    )
    task = attempt.task
    return StoredDialogue(
        task.id,
        attempt.attempt_id,
        "",
        task.cell,
        task.spec.case_id,
        task.spec.seeds,
        attempt.transcript.opening.text,
        turns,
    )
