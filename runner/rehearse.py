"""Rehearsals: a few dialogues of a plan with the `rules` backend, to see prompts and count calls.

Nothing is stored, no engine starts. `plan` estimates from them, `render` prints their prompts,
`doctor` finds broken prompts by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.core.ask import is_probe
from sweeps.plan import Cell, Plan, Ref
from sweeps.schema import ModelSpec
from workers.episodes import EpisodeRunner, job_of
from workers.rows import Attempt

_RULES = ModelSpec(backend="rules")


def rehearse(plan: Plan, cells: Sequence[int], cases: int, *, probe: bool) -> list[Attempt]:
    """Up to `cases` dialogues of each cell (positions in the plan), with the first seed."""
    job = job_of(plan, probe=probe, executor="local", epoch=0, run_id="rehearsal")
    runner = EpisodeRunner(replace(job, cells=tuple(map(_with_rules, job.cells))))

    async def play() -> list[Attempt]:
        attempts = []
        for index in cells:
            cell = plan.cells[index]
            source = plan.sources[cell.source]
            for position in range(min(cases, len(source))):
                ref = Ref("rehearsal", index, cell.seeds[0], source.case_id(position))
                attempts.append(await runner.run(ref))
        return attempts

    return asyncio.run(play())


@dataclass(frozen=True)
class Estimate:
    """What the rest of a sweep may cost: means of rehearsed dialogues times episodes left."""

    calls: float
    input_tokens: float
    output_tokens: float
    probe_calls: float
    rehearsed: int


def estimate(plan: Plan, left: int, *, probe: bool, cells: int = 8, cases: int = 3) -> Estimate:
    """Rehearses at most `cells` cells, spread over the plan."""
    step = max(1, len(plan.cells) // cells)
    attempts = rehearse(plan, range(0, len(plan.cells), step)[:cells], cases, probe=probe)
    records = [record for attempt in attempts for record in attempt.journal.records]
    done = [r.completion for r in records if r.completion is not None]
    scale = left / max(1, len(attempts))
    for attempt in attempts:
        if attempt.error is not None and not attempt.journal.records:
            raise attempt.error  # it fails before its first call: there is nothing to estimate
    return Estimate(
        calls=len(records) * scale,
        input_tokens=sum(c.input_tokens or 0 for c in done) * scale,
        output_tokens=sum(c.output_tokens or 0 for c in done) * scale,
        probe_calls=sum(is_probe(r.call.role) for r in records) * scale,
        rehearsed=len(attempts),
    )


def _with_rules(cell: Cell) -> Cell:
    models = {
        name: spec if spec.backend == _RULES.backend else _RULES
        for name, spec in cell.config.models.items()
    }
    return replace(cell, config=cell.config.model_copy(update={"models": models}))
