"""Rehearsals: a few dialogues of a plan with the `rules` backend, to see prompts and count calls.

Nothing is stored, no engine starts. `plan` estimates from them, `render` prints their prompts,
`doctor` finds broken prompts by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.core.ask import is_probe
from runner.artifacts import state_of, store_of
from runner.stand_ins import StandIn, expected_calls, rules_runner, stand_ins
from sweeps.plan import Plan, Ref
from workers.rows import Attempt


def rehearse_preparing(plan: Plan, cells: Sequence[int]) -> list[StandIn]:
    """What dialogues of `cells` need prepared, stand-ins where it is not ready."""
    return asyncio.run(stand_ins(plan, cells))


def rehearse(plan: Plan, cells: Sequence[int], cases: int, *, probe: bool) -> list[Attempt]:
    """Up to `cases` dialogues of each cell (positions in the plan), with the first seed."""
    runner = rules_runner(plan, probe=probe)

    async def play() -> list[Attempt]:
        runner.provide([found.prepared for found in await stand_ins(plan, cells)])
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


def artifact_data(plan: Plan) -> list[dict[str, Any]]:
    """Every artifact of a plan as JSON types, with what it takes to make those that are not ready.

    `calls` are expected ones, from a rehearsal with the rules backend.
    """
    store = store_of(plan.loaded.header.artifacts)
    states = {key: state_of(store, key) for key in plan.artifacts}
    to_make = [key for key, state in states.items() if state != "ready"]
    calls = asyncio.run(expected_calls(plan, to_make))
    found = []
    for key, artifact in plan.artifacts.items():
        domain = plan.sources[plan.cells[artifact.cells[0]].source].domain
        found.append(
            {
                "key": key,
                "title": artifact.title,
                "kind": artifact.recipe.kind,
                "seed": artifact.seed,
                "cells": list(artifact.cells),
                "state": states[key],
                "calls": calls.get(key),
                "interactions": domain.statistics()["interactions"],
            }
        )
    return found


def artifact_lines(artifacts: Sequence[Mapping[str, Any]]) -> list[str]:
    """For `plan`, a line an artifact: what it is, and what it takes to make it."""
    lines = []
    for found in artifacts:
        line = f"{found['kind']}: {found['title']}: {found['state']}"
        if found["state"] != "ready":
            line += (
                f", from a domain of {found['interactions']:,} interactions"
                if found["kind"] == "fit"
                else f", about {found['calls']:,} calls (from a rehearsal with the rules backend)"
            )
        lines.append(line)
    return lines
