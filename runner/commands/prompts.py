"""`crsweep render`: prompts as models would see them, without calling a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from agents.core.ask import CallRecord
from runner.commands.selection import cell_of
from runner.driver.loading import load_plan
from runner.rehearsal.dialogues import (
    rehearse,
    rehearse_preparing,
)
from runner.rehearsal.judging import rehearse_judges
from runner.rehearsal.stand_ins import stand_in_calls
from sweeps.schema import CellConfig


def show_prompts(
    sweep: Path, overrides: Sequence[str], *, cell: int | None, every: bool, console: Console
) -> None:
    """Prints the prompts of one rehearsed dialogue per cell and of the judges that read it.

    Shows the first prompt of each step, or all of them.
    """
    plan = load_plan(sweep, overrides)
    cells = range(len(plan.cells)) if cell is None else [cell_of(plan, cell)]
    seen: set[tuple[str, str, str]] = set()
    for found in rehearse_preparing(plan, cells):
        agent = plan.cells[found.cell].config.agent.name
        for row in stand_in_calls(plan, found):
            key = (agent, row["role"], row["step"])
            if key in seen and not every:
                continue
            seen.add(key)
            console.rule(escape(f"{agent} · {row['role']} · {row['step']} · {found.title}"))
            for message in json.loads(row["prompt"]):
                console.print(message["content"], markup=False, soft_wrap=True)
            console.print(f"-> {row['reply']}", style="dim", markup=False)
    attempts = []
    for attempt in rehearse(plan, cells, 1):
        attempts.append(attempt)
        config = plan.cells[attempt.task.cell].config
        _print(
            [(_speaker(config, r.call.role), r) for r in attempt.journal.records],
            seen, every, console,
        )  # fmt: skip
        if attempt.error is not None:
            raise attempt.error
    for judged in rehearse_judges(plan, attempts):
        title = plan.judges[judged.task.spec.judge].title
        _print([(title, record) for record in judged.log.records], seen, every, console)
    if not seen:
        console.print("no prompts: nothing in this sweep asks a model")


def _print(
    records: Sequence[tuple[str, CallRecord]],
    seen: set[tuple[str, str, str]],
    every: bool,
    console: Console,
) -> None:
    """Prints calls of speakers: those of steps not printed yet, or all of them."""
    for speaker, record in records:
        call = record.call
        key = (speaker, call.role, call.step.name)
        if key in seen and not every:
            continue
        seen.add(key)
        console.rule(escape(f"{speaker} · {call.role} · {call.step.name} · turn {call.turn}"))
        for message in call.messages:
            console.print(message.content, markup=False, soft_wrap=True)
        if record.completion is not None:
            console.print(f"-> {record.completion.text}", style="dim", markup=False)


def _speaker(config: CellConfig, role: str) -> str:
    """The plug-in that plays `role`."""
    if role.startswith("critic") and config.critic is not None:
        return config.critic.name
    return config.simulator.name if role.startswith("user") else config.agent.name
