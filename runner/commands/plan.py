"""`crsweep plan`: what a sweep would run, and what it would cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.core.plural import many
from analysis.tables import sheets
from runner.core.dataset_summary import remark_lines, statistics_lines
from runner.driver.budget import Budget, budget_of
from runner.driver.judging import judging_plan
from runner.driver.loading import load_plan
from runner.driver.manifest import recipe_line
from runner.driver.work import remaining, settled_episodes
from runner.placement.cluster import gpu_memories, nodes_of
from runner.placement.describe import describe, placement_data
from runner.placement.groups import needs_of, notes_of, run_plan, without_engines
from runner.rehearsal.dialogues import (
    artifact_data,
    artifact_lines,
    asked_to_prepare,
    estimate_cost,
)
from runner.rehearsal.judging import JudgeEstimate, estimate_judges
from runner.rehearsal.stand_ins import CallEstimate
from sweeps import manifest as manifests
from sweeps.plan import Plan

_CELLS_SHOWN = 40  # cells that are printed; --json has all of them


def show_plan(
    sweep: Path,
    overrides: Sequence[str],
    *,
    gpus: Sequence[int],
    as_json: bool,
    console: Console,
) -> None:
    """Prints cells, episodes, progress, placement, and an estimate of the remaining cost.

    `gpus` describes a hypothetical cluster: the number of GPUs of each node.
    """
    plan = load_plan(sweep, overrides)
    left, cells, needed = remaining(plan, settled_episodes(plan.loaded.out))
    nodes, cpu = nodes_of(plan, gpus)
    engines = run_plan(plan, nodes, cpu=cpu, cells=cells) if nodes else without_engines(plan)
    guess = estimate_cost(plan, left)
    budget = budget_of(plan)
    artifacts = artifact_data(plan, [*needed, *plan.pending], guess.attempts)
    preparing = asked_to_prepare(artifacts)
    judges = estimate_judges(plan, guess.attempts)
    judging = judging_plan(plan, plan.judges)
    stage = run_plan(judging, nodes, cpu=cpu) if nodes and plan.judges else without_engines(judging)
    together = CallEstimate(*map(sum, zip(guess.spoken, preparing, strict=True)))
    if as_json:
        expected = {
            **_rounded(together),
            "probe_calls": round(guess.probe_calls),
            "rehearsed_dialogues": guess.rehearsed,
            "prepare": _rounded(preparing),
        }
        data = {
            **_plan_data(plan, left),
            "estimate": expected,
            "caps": _caps_data(budget),
            "artifacts": artifacts,
            "judges": [_judge_data(one) for one in judges],
            "judging_placement": placement_data(stage),
            "placement": placement_data(engines),
        }
        print(json.dumps(data, indent=1))
        return
    _print_cells(plan, console)
    console.print(
        f"{many(len(plan.cells), 'cell')}, {many(plan.episodes, 'episode')}: "
        f"{plan.episodes - left:,} done, {left:,} to run"
    )
    waiting = sum(cell.profiles is not None for cell in plan.cells)
    if waiting:
        console.print(
            f"{many(waiting, 'cell')}: cases pending until a model has written the users' "
            "profiles (`crsweep prepare` or `run`)",
            soft_wrap=True,
        )
    again = recipe_line(manifests.read(plan.loaded.out))
    for line in [*([again] if again else []), *statistics_lines(plan), *remark_lines(plan)]:
        console.print(line, markup=False, soft_wrap=True)
    # A local run has no placement: its engines start in this process.
    notes = [] if nodes else notes_of(needs_of(plan, cpu=not gpu_memories()))
    for line in [*artifact_lines(artifacts), *describe(engines, nodes, cpu=cpu), *notes]:
        console.print(line, markup=False, soft_wrap=True)
    if left:
        console.print(
            f"about {together.words()} (estimated from {many(guess.rehearsed, 'dialogue')} "
            "with the rules backend)",
            soft_wrap=True,
        )
        if preparing.calls:
            console.print(f"of which preparation: about {preparing.words()}", soft_wrap=True)
    for one in judges:
        console.print(one.line(), markup=False, soft_wrap=True)
    if judges and stage.needs.specs:
        console.print("to judge:")
        for line in describe(stage, nodes, cpu=cpu):
            console.print(f"  {line}", markup=False, soft_wrap=True)
    caps = budget.line()
    if caps is not None:
        console.print(caps, markup=False, soft_wrap=True)


def _print_cells(plan: Plan, console: Console) -> None:
    table = Table(*map(escape, plan.axes), "seeds", "cases", "domain", box=None, pad_edge=False)
    for cell in plan.cells[:_CELLS_SHOWN]:
        source = plan.sources[cell.source]
        table.add_row(
            *(escape(cell.axes[axis]) for axis in plan.axes),
            str(len(cell.seeds)),
            "pending" if source.is_pending else f"{len(source):,}",
            escape(f"{source.domain_ref.name} {source.split}"),
        )
    sheets.print_whole(table, console)
    if len(plan.cells) > _CELLS_SHOWN:
        console.print(f"... and {len(plan.cells) - _CELLS_SHOWN:,} more cells (see --json)")


def _caps_data(budget: Budget) -> dict[str, dict[str, float]]:
    return {name: {"used": used, "cap": cap} for name, (used, cap) in budget.used().items()}


def _judge_data(one: JudgeEstimate) -> dict[str, Any]:
    return {
        "judge": one.title,
        "model": one.model,
        "pairs" if one.pairs else "dialogues": one.subjects,
        **_rounded(one.spoken),
    }


def _rounded(spoken: CallEstimate) -> dict[str, int]:
    return {name: round(count) for name, count in spoken._asdict().items()}


def _plan_data(plan: Plan, left: int) -> dict[str, Any]:
    return {
        "name": plan.loaded.header.name,
        "out": str(plan.loaded.out),
        "episodes": plan.episodes,
        "left": left,
        "cells": [
            {
                "cell_id": cell.cell_id,
                "axes": cell.axes,
                "seeds": [seeds._asdict() for seeds in cell.seeds],
                "cases": len(plan.sources[cell.source]),
                "pending": cell.profiles is not None,
                "domain": plan.sources[cell.source].domain_ref.name,
                "models": cell.roles,
            }
            for cell in plan.cells
        ],
    }
