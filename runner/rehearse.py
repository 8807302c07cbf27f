"""Rehearsals: a few dialogues of a plan with the `rules` backend, to see prompts and count calls.

Nothing is stored, no engine starts. `plan` estimates from them, `render` prints their prompts,
`doctor` finds broken prompts by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.core.artifacts import FitRecipe
from agents.core.ask import is_probe
from runner.artifacts import state_of, store_of
from runner.progress import duration
from runner.stand_ins import Spoken, StandIn, expected, rules_runner, stand_ins
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
    """What the dialogues left may cost: means of rehearsed ones times their number."""

    spoken: Spoken
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
        Spoken(
            len(records) * scale,
            sum(c.input_tokens or 0 for c in done) * scale,
            sum(c.output_tokens or 0 for c in done) * scale,
        ),
        probe_calls=sum(is_probe(r.call.role) for r in records) * scale,
        rehearsed=len(attempts),
    )


def artifact_data(plan: Plan, needed: Collection[str]) -> list[dict[str, Any]]:
    """Every artifact of a plan as JSON types, with what may be told of making it.

    `needed` are the keys of those that a run would make if they are not ready. `calls` and tokens
    are expected ones, from a rehearsal with the rules backend; `earlier` are fits of the same
    recipe and data under other seeds, with the seconds that they took.
    """
    store = store_of(plan.loaded.header.artifacts)
    states = {key: state_of(store, key) for key in plan.artifacts}
    to_make = [key for key, state in states.items() if state != "ready" and key in needed]
    asked = asyncio.run(expected(plan, to_make))
    found = []
    for key, artifact in plan.artifacts.items():
        domain, recipe = plan.sources[plan.cells[artifact.cells[0]].source].domain, artifact.recipe
        one: dict[str, Any] = {
            "key": key,
            "title": artifact.title,
            "kind": recipe.kind,
            "seed": artifact.seed,
            "cells": list(artifact.cells),
            "state": states[key],
            "needed": key in needed,
            "interactions": domain.statistics()["interactions"],
        }
        if isinstance(recipe, FitRecipe):
            earlier = store.alike(recipe.kind, recipe.identity(), domain.fingerprint())
            one["size"] = recipe.size
            one["earlier"] = [
                {"seed": about.seed, "seconds": about.seconds}
                for about in earlier
                if about.key != key
            ]
        found.append(one | (asked[key]._asdict() if key in asked else {}))
    return found


def asked_to_prepare(artifacts: Sequence[Mapping[str, Any]]) -> Spoken:
    """What models are expected to be asked for all that is to be made."""
    counts = [[found.get(name, 0) for name in Spoken._fields] for found in artifacts]
    return Spoken(*map(sum, zip(*counts, strict=True))) if counts else Spoken(0, 0, 0)


def artifact_lines(artifacts: Sequence[Mapping[str, Any]]) -> list[str]:
    """For `plan`, a line an artifact: what it is, and what it takes to make it."""
    return [f"{found['kind']}: {found['title']}: {_work(found)}" for found in artifacts]


def _work(found: Mapping[str, Any]) -> str:
    if found["state"] == "ready":
        return "ready"
    if not found["needed"]:
        return f"{found['state']}, but no episode that is left needs it"
    if found["kind"] != "fit":
        spoken = Spoken(*(found[name] for name in Spoken._fields)).words()
        return f"{found['state']}, about {spoken} (from a rehearsal with the rules backend)"
    size = f" in {found['size']}" if found["size"] else ""
    return (
        f"{found['state']}, from a domain of {found['interactions']:,} interactions{size}; "
        f"{_time_of(found['earlier'])}"
    )


def _time_of(earlier: Sequence[Mapping[str, Any]]) -> str:
    """What earlier fits of the same recipe and data took: nothing else tells how long one takes."""
    if not earlier:
        return "time unknown, as none like it was made before"
    if len(earlier) == 1:
        return f"under seed {earlier[0]['seed']} it took {duration(earlier[0]['seconds'])}"
    seconds = [found["seconds"] for found in earlier]
    return (
        f"under {len(earlier)} other seeds it took {duration(min(seconds))} to "
        f"{duration(max(seconds))}"
    )
