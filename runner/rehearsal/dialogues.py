"""Rehearsals: a few dialogues of a plan with the `rules` backend, to see prompts and count calls.

Nothing is stored, no engine starts. `plan` estimates from them, `render` prints their prompts,
`doctor` finds broken prompts by them.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.core.artifacts import FitRecipe, LoopRecipe
from agents.core.ask import CallLog, is_probe
from agents.core.plural import many
from runner.core.formatting import duration
from runner.core.locations import artifact_state, store_of
from runner.rehearsal.stand_ins import (
    CallEstimate,
    RolloutEstimate,
    StandIn,
    expected,
    expected_rollouts,
    rules_resources,
    stand_ins,
    with_cases,
)
from sweeps.episodes import episode_task
from sweeps.plan import Plan
from workers.kinds.episodes import EpisodeHandler
from workers.results.rows import EpisodeAttempt


def rehearse_preparing(plan: Plan, cells: Sequence[int]) -> list[StandIn]:
    """What dialogues of `cells` need prepared, stand-ins where it is not ready."""

    async def find() -> list[StandIn]:
        first = [index for index in cells if plan.cells[index].profiles is not None]
        return [*await stand_ins(plan, first), *await stand_ins(await with_cases(plan), cells)]

    return asyncio.run(find())


def rehearse(plan: Plan, cells: Sequence[int], cases: int) -> list[EpisodeAttempt]:
    """Up to `cases` dialogues of each cell (positions in the plan), with the first seed."""
    plan = asyncio.run(with_cases(plan))
    resources = rules_resources(plan, probe=plan.probe)
    player = EpisodeHandler(resources)

    async def play() -> list[EpisodeAttempt]:
        resources.provide([found.prepared for found in await stand_ins(plan, cells)])
        attempts = []
        for index in cells:
            cell = plan.cells[index]
            source = plan.sources[cell.source]
            for position in range(min(cases, len(source))):
                case_id = source.case_id(position)
                task = episode_task("rehearsal", index, cell.seeds[0], case_id)
                attempts.append(await player.play(task, CallLog()))
        return attempts

    return asyncio.run(play())


@dataclass(frozen=True)
class CostEstimate:
    """What the dialogues left may cost: means of rehearsed ones times their number."""

    spoken: CallEstimate
    probe_calls: float
    attempts: Sequence[EpisodeAttempt]
    """The rehearsed dialogues."""

    @property
    def rehearsed(self) -> int:
        return len(self.attempts)


def _mean_of(plan: Plan, attempts: Sequence[EpisodeAttempt], index: int) -> CallEstimate | None:
    """What a dialogue of a cell asks of models: the mean of the rehearsed ones with its agent on
    its data set. None if there is none."""
    cell = plan.cells[index]
    alike = [
        attempt
        for attempt in attempts
        for other in (plan.cells[attempt.task.cell],)
        if (other.config.agent, other.source) == (cell.config.agent, cell.source)
    ]
    if not alike:
        return None
    return CallEstimate(
        *(sum(counts) / len(alike) for counts in zip(*map(_spoken_in, alike), strict=True))
    )


def _spoken_in(attempt: EpisodeAttempt) -> CallEstimate:
    done = [r.completion for r in attempt.journal.records if r.completion is not None]
    return CallEstimate(
        len(attempt.journal.records),
        sum(c.input_tokens or 0 for c in done),
        sum(c.output_tokens or 0 for c in done),
    )


def estimate_cost(plan: Plan, left: int, *, most: int = 24, cases: int = 3) -> CostEstimate:
    """Rehearses a cell of every agent on every data set, where there are more, `most` drawn ones.

    A stride over the grid would not do: it can meet the same agents again and again.
    """
    cells_of: dict[tuple[str, int], list[int]] = {}
    for index, cell in enumerate(plan.cells):
        key = cell.config.agent.model_dump_json(), cell.source
        if cell.profiles is None:  # else how many cases there are is unknown
            cells_of.setdefault(key, []).append(index)
    groups = list(cells_of.values())
    if len(groups) > most:
        groups = random.Random(0).sample(groups, most)
    episodes = [len(plan.sources[cell.source]) * len(cell.seeds) for cell in plan.cells]
    episodes_of_group = {group[0]: sum(episodes[index] for index in group) for group in groups}
    attempts = rehearse(plan, list(episodes_of_group), cases)
    played = Counter(attempt.task.cell for attempt in attempts)
    spoken, probes = CallEstimate(0, 0, 0), 0.0
    for attempt in attempts:
        records = attempt.journal.records
        if attempt.error is not None and not records:
            raise attempt.error  # it fails before its first call: there is nothing to estimate
        cell = attempt.task.cell
        share = left * episodes_of_group[cell] / sum(episodes_of_group.values()) / played[cell]
        both = zip(spoken, _spoken_in(attempt), strict=True)
        spoken = CallEstimate(*(before + share * count for before, count in both))
        probes += share * sum(is_probe(r.call.role) for r in records)
    return CostEstimate(spoken, probes, attempts)


def artifact_data(
    plan: Plan, needed: Collection[str], attempts: Sequence[EpisodeAttempt]
) -> list[dict[str, Any]]:
    """Every artifact of a plan as JSON types, with what is known of its cost.

    `needed` are the keys of those that a run would make if they are not ready. `calls` and tokens
    are expected ones, from a rehearsal with the rules backend; `earlier` are fits of the same
    recipe and data under other seeds, with the seconds that they took. What is collected by
    dialogues has the fields of `RolloutEstimate`. A dialogue of a training loop is expected to ask
    for as much as the rehearsed `attempts` of its agent.
    """
    store = store_of(plan.loaded.header.artifacts)
    states = {key: artifact_state(store, key) for key in plan.artifacts}
    to_make = [key for key, state in states.items() if state != "ready" and key in needed]
    asked = asyncio.run(expected(plan, to_make))
    collected = asyncio.run(expected_rollouts(plan, to_make))
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
        }
        if recipe.of_domain:
            one["interactions"] = domain.statistics().get("interactions", 0)
        if isinstance(recipe, FitRecipe):
            data = recipe.data_of(domain.fingerprint())
            earlier = store.alike(recipe.kind, recipe.identity(), data)
            one["size"] = recipe.size
            one["earlier"] = [
                {"seed": about.seed, "seconds": about.seconds}
                for about in earlier
                if about.key != key
            ]
        if isinstance(recipe, LoopRecipe):
            one |= {"updates": recipe.updates, "dialogues": recipe.dialogues}
            each = _mean_of(plan, attempts, artifact.cells[0])
            if each is not None and one["needed"] and states[key] != "ready":
                one |= CallEstimate(*(count * recipe.dialogues for count in each))._asdict()
        if key in collected:
            *counts, spoken = collected[key]
            one |= dict(zip(RolloutEstimate._fields, counts, strict=False)) | spoken._asdict()
        found.append(one | (asked[key]._asdict() if key in asked else {}))
    return found


def asked_to_prepare(artifacts: Sequence[Mapping[str, Any]]) -> CallEstimate:
    """What models are expected to be asked for all that will be made."""
    counts = [[found.get(name, 0) for name in CallEstimate._fields] for found in artifacts]
    return CallEstimate(*map(sum, zip(*counts, strict=True))) if counts else CallEstimate(0, 0, 0)


def artifact_lines(artifacts: Sequence[Mapping[str, Any]]) -> list[str]:
    """For `plan`, a line an artifact: what it is, and what it takes to make it."""
    return [f"{found['kind']}: {found['title']}: {_work(found)}" for found in artifacts]


def _work(found: Mapping[str, Any]) -> str:
    if found["state"] == "ready":
        return "ready"
    if not found["needed"]:
        return f"{found['state']}, but no episode that is left needs it"
    if found["kind"] == "rollouts":
        return f"{found['state']}, by {_dialogues_of(found)}"
    if found["kind"] == "loop":
        work = (
            f"{found['state']}, by {many(found['updates'], 'update')} and "
            f"{many(found['dialogues'], 'dialogue')} with training users"
        )
        if "calls" not in found:
            return f"{work}; each costs about as much as an episode; they are not in the estimate"
        return f"{work}, about {_calls_in(found).words()} (as rehearsed episodes)"
    if found["kind"] != "fit":
        spoken = _calls_in(found).words()
        return f"{found['state']}, about {spoken} (from a rehearsal with the rules backend)"
    size = f", in {found['size']}" if found["size"] else ""
    data = (
        f", from a domain of {found['interactions']:,} interactions"
        if "interactions" in found
        else ""
    )
    return f"{found['state']}{data}{size}; {_time_of(found['earlier'])}"


def _dialogues_of(found: Mapping[str, Any]) -> str:
    if "dialogues" not in found:
        return "dialogues with training users, who are unknown until their profiles are written"
    entries = f"{found['left_entries']:,} of {found['rehearsed']:,} dialogues left an entry"
    return (
        f"about {many(found['dialogues'], 'dialogue')} with training users, "
        f"{_calls_in(found).words()} (from a rehearsal with the rules backend, in which {entries})"
    )


def _calls_in(found: Mapping[str, Any]) -> CallEstimate:
    return CallEstimate(*(found[name] for name in CallEstimate._fields))


def _time_of(earlier: Sequence[Mapping[str, Any]]) -> str:
    """What earlier fits of the same recipe and data took: the only estimate of its time."""
    if not earlier:
        return "time unknown: there is no earlier fit to estimate from"
    if len(earlier) == 1:
        return f"under seed {earlier[0]['seed']} it took {duration(earlier[0]['seconds'])}"
    seconds = [found["seconds"] for found in earlier]
    return (
        f"under {len(earlier)} other seeds it took {duration(min(seconds))} to "
        f"{duration(max(seconds))}"
    )
