"""What the reading commands print."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.core.errors import UsageError
from runner import folder as sweep_folder
from runner.play import play
from runner.progress import duration
from runner.rehearse import Estimate, estimate, rehearse
from runner.run import check_metrics, prepare
from sweeps.plan import Plan
from workers import lease
from workers.store import committed

_CELLS_SHOWN = 40  # of a plan, on the screen; --json has all


def show_plan(
    sweep: Path, overrides: Sequence[str], *, as_json: bool, console: Console
) -> None:
    """Cells, episodes, what is done, and an estimate of the rest."""
    plan = prepare(sweep, overrides)
    done = committed(plan.loaded.out)
    left = plan.episodes if not done else sum(1 for _ in plan.refs(done))
    guess = estimate(plan, left, probe=check_metrics(plan.loaded))
    if as_json:
        print(json.dumps(_plan_data(plan, left, guess), indent=1))
        return
    table = Table(*plan.axes, "seeds", "cases", "domain", box=None, pad_edge=False)
    for cell in plan.cells[:_CELLS_SHOWN]:
        source = plan.sources[cell.source]
        table.add_row(
            *(escape(cell.axes[axis]) for axis in plan.axes),
            str(len(cell.seeds)),
            f"{len(source):,}",
            escape(f"{source.domain_ref.name} {source.split}"),
        )
    console.print(table)
    if len(plan.cells) > _CELLS_SHOWN:
        console.print(f"... and {len(plan.cells) - _CELLS_SHOWN:,} more cells (see --json)")
    console.print(
        f"{len(plan.cells):,} cells, {plan.episodes:,} episodes: "
        f"{plan.episodes - left:,} done, {left:,} to run"
    )
    if left:
        console.print(
            f"about {guess.calls:,.0f} calls, {guess.input_tokens:,.0f} input and "
            f"{guess.output_tokens:,.0f} output tokens "
            f"(from {guess.rehearsed} dialogues with the rules backend)",
            soft_wrap=True,
        )


def _plan_data(plan: Plan, left: int, guess: Estimate) -> dict[str, Any]:
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
                "domain": plan.sources[cell.source].domain_ref.name,
                "models": cell.roles,
            }
            for cell in plan.cells
        ],
        "estimate": {
            "calls": round(guess.calls),
            "input_tokens": round(guess.input_tokens),
            "output_tokens": round(guess.output_tokens),
            "probe_calls": round(guess.probe_calls),
            "rehearsed_dialogues": guess.rehearsed,
        },
    }


def show_prompts(
    sweep: Path, overrides: Sequence[str], *, cell: int | None, every: bool, console: Console
) -> None:
    """The prompts of one rehearsed dialogue a cell: the first of each step, or all of them."""
    plan = prepare(sweep, overrides)
    cells = range(len(plan.cells)) if cell is None else [_index(cell, len(plan.cells), "cell")]
    seen: set[tuple[str, str, str]] = set()
    for attempt in rehearse(plan, cells, 1, probe=check_metrics(plan.loaded)):
        config = plan.cells[attempt.ref.cell].config
        for record in attempt.journal.records:
            call = record.call
            speaker = config.simulator.name if call.role.startswith("user") else config.agent.name
            key = (speaker, call.role, call.step.name)
            if key in seen and not every:
                continue
            seen.add(key)
            console.rule(escape(f"{speaker} · {call.role} · {call.step.name} · turn {call.turn}"))
            for message in call.messages:
                console.print(message.content, markup=False, soft_wrap=True)
            if record.completion is not None:
                console.print(f"-> {record.completion.text}", style="dim", markup=False)
        if attempt.error is not None:
            raise attempt.error


def show_dialogue(
    sweep: Path,
    overrides: Sequence[str],
    *,
    cell: int,
    case: int,
    person: Callable[[str], str] | None,
    console: Console,
) -> None:
    """One dialogue with the sweep's own models."""
    plan = prepare(sweep, overrides)
    chosen = plan.cells[_index(cell, len(plan.cells), "cell")]
    _index(case, len(plan.sources[chosen.source]), "case")
    try:
        attempt = play(plan, cell=cell, position=case, person=person, console=console)
    except (EOFError, KeyboardInterrupt):
        console.print("\nthe dialogue was broken off")
        return
    if attempt.error is not None:
        raise attempt.error
    done = attempt.transcript
    success = f"success in turn {done.success_turn}" if done.success_turn else "no success"
    targets = ", ".join(item.title for item in attempt.case.hidden.targets)
    console.print(
        f"{done.stop_reason}, {success}; the target was {targets}", style="dim", markup=False
    )


def _index(number: int, count: int, what: str) -> int:
    if not 0 <= number < count:
        raise UsageError(f"--{what} {number}: there are {count}, counted from 0")
    return number
