"""What the reading commands print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.core.errors import UsageError
from agents.core.paths import expand_user
from analysis import published
from analysis.replies import cut_off_lines, uncounted
from analysis.results import Results
from analysis.statistics.compare import compare_all
from analysis.tables import doubts, render
from analysis.tables.labels import brief, with_short_labels
from analysis.tables.table import make_table
from analysis.tables.vs_published import table_beside
from runner.artifacts import status_line
from runner.commands.play import play
from runner.commands.transcript import Page, View
from runner.dataset_summary import remark_lines, statistics_lines
from runner.driver.artifacts import needed
from runner.driver.budget import Budget, budget_in, budget_of
from runner.driver.failures import failure_lines
from runner.driver.manifest import recipe_line
from runner.driver.progress import duration
from runner.driver.run import check_metrics, prepare, settled_episodes
from runner.locations import size_line
from runner.placement.cluster import gpu_memories, nodes_of
from runner.placement.groups import (
    describe,
    engine_lines,
    needs_of,
    notes_of,
    placement_data,
    run_plan,
    without_engines,
)
from runner.rehearsal.dialogues import (
    artifact_data,
    artifact_lines,
    asked_to_prepare,
    estimate,
    rehearse,
    rehearse_preparing,
)
from runner.rehearsal.stand_ins import Spoken, calls_of
from sweeps import manifest as manifests
from sweeps.manifest import RunEntry
from sweeps.plan import Plan
from sweeps.storage import parts
from sweeps.storage.records import SCHEMAS
from workers.results import lease

_CELLS_SHOWN = 40  # of a plan, on the screen; --json has all


def show_plan(
    sweep: Path,
    overrides: Sequence[str],
    *,
    gpus: Sequence[int],
    as_json: bool,
    console: Console,
) -> None:
    """Cells, episodes, what is done, where models go, and an estimate of the rest.

    `gpus` are those of an imagined cluster, a number a node.
    """
    plan = prepare(sweep, overrides)
    done = settled_episodes(plan.loaded.out)
    nodes, cpu = nodes_of(plan, gpus)
    engines = run_plan(plan, nodes, cpu=cpu, done=done) if nodes else without_engines(plan)
    left = plan.episodes if not done else sum(1 for _ in plan.refs(done))
    guess = estimate(plan, left, probe=check_metrics(plan.loaded))
    budget = budget_of(plan)
    artifacts = artifact_data(plan, needed(plan, plan.refs(done)) if done else plan.artifacts)
    preparing = asked_to_prepare(artifacts)
    together = Spoken(*map(sum, zip(guess.spoken, preparing, strict=True)))
    if as_json:
        expected = {
            **_rounded(together),
            "probe_calls": round(guess.probe_calls),
            "rehearsed_dialogues": guess.rehearsed,
            "prepare": _rounded(preparing),
        }
        data = {**_plan_data(plan, left), "estimate": expected, "caps": _caps_data(budget)}
        data["artifacts"] = artifacts
        print(json.dumps({**data, "placement": placement_data(engines)}, indent=1))
        return
    table = Table(*map(escape, plan.axes), "seeds", "cases", "domain", box=None, pad_edge=False)
    for cell in plan.cells[:_CELLS_SHOWN]:
        source = plan.sources[cell.source]
        table.add_row(
            *(escape(cell.axes[axis]) for axis in plan.axes),
            str(len(cell.seeds)),
            f"{len(source):,}",
            escape(f"{source.domain_ref.name} {source.split}"),
        )
    render.print_whole(table, console)
    if len(plan.cells) > _CELLS_SHOWN:
        console.print(f"... and {len(plan.cells) - _CELLS_SHOWN:,} more cells (see --json)")
    console.print(
        f"{len(plan.cells):,} cells, {plan.episodes:,} episodes: "
        f"{plan.episodes - left:,} done, {left:,} to run"
    )
    again = recipe_line(manifests.read(plan.loaded.out))
    for line in [*([again] if again else []), *statistics_lines(plan), *remark_lines(plan)]:
        console.print(line, markup=False, soft_wrap=True)
    # Of a local run nothing is placed: its engines start in its own process, on this machine.
    notes = [] if nodes else notes_of(needs_of(plan, cpu=not gpu_memories()))
    for line in [*artifact_lines(artifacts), *describe(engines, nodes, cpu=cpu), *notes]:
        console.print(line, markup=False, soft_wrap=True)
    if left:
        console.print(
            f"about {together.words()} (estimated from {guess.rehearsed} dialogues with the rules "
            "backend)",
            soft_wrap=True,
        )
        if preparing.calls:
            console.print(f"of these, to prepare: about {preparing.words()}", soft_wrap=True)
    caps = budget.line()
    if caps is not None:
        console.print(caps, markup=False, soft_wrap=True)


def _caps_data(budget: Budget) -> dict[str, dict[str, float]]:
    return {name: {"used": used, "cap": cap} for name, (used, cap) in budget.used().items()}


def _rounded(spoken: Spoken) -> dict[str, int]:
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
                "domain": plan.sources[cell.source].domain_ref.name,
                "models": cell.roles,
            }
            for cell in plan.cells
        ],
    }


def show_prompts(
    sweep: Path, overrides: Sequence[str], *, cell: int | None, every: bool, console: Console
) -> None:
    """The prompts of one rehearsed dialogue a cell: the first of each step, or all of them."""
    plan = prepare(sweep, overrides)
    cells = range(len(plan.cells)) if cell is None else [_index(cell, len(plan.cells), "cell")]
    seen: set[tuple[str, str, str]] = set()
    for found in rehearse_preparing(plan, cells):
        agent = plan.cells[found.cell].config.agent.name
        for row in calls_of(plan, found):
            key = (agent, row["role"], row["step"])
            if key in seen and not every:
                continue
            seen.add(key)
            console.rule(escape(f"{agent} · {row['role']} · {row['step']} · {found.title}"))
            for message in json.loads(row["prompt"]):
                console.print(message["content"], markup=False, soft_wrap=True)
            console.print(f"-> {row['reply']}", style="dim", markup=False)
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
    calls: bool,
    markdown: str | None,
    console: Console,
) -> None:
    """One dialogue with the sweep's own models, on the screen and into a Markdown page.

    `calls` shows every model call. `markdown` is the page's file, or "-" for a page instead of
    the screen.
    """
    if person is not None and markdown == "-":
        raise UsageError("--me needs the screen: give --markdown a file")
    page = None if markdown is None or markdown == "-" else Page(expand_user(Path(markdown)))
    plan = prepare(sweep, overrides)
    chosen = plan.cells[_index(cell, len(plan.cells), "cell")]
    _index(case, len(plan.sources[chosen.source]), "case")
    view = View(None if markdown == "-" else console)
    try:
        attempt = play(plan, cell=cell, position=case, person=person, calls=calls, view=view)
    except KeyboardInterrupt:
        console.print("\nthe dialogue was interrupted")
        return
    if page is not None:
        page.write(view.markdown())
    elif markdown is not None:
        print(view.markdown(), end="")
    if attempt.error is not None:
        raise attempt.error


def _index(number: int, count: int, what: str) -> int:
    if not 0 <= number < count:
        raise UsageError(f"--{what} {number}: there are {count}, counted from 0")
    return number


def show_table(
    results: Results,
    *,
    metrics: Sequence[str],
    format: str,
    everything: bool,
    console: Console,
    beside: str | None = None,
) -> None:
    """The table of a sweep folder, `beside` a published one; in CSV the notes go to stderr."""
    if beside is not None:
        table = table_beside(results, published.read(beside), metrics, complete_only=not everything)
    else:
        metrics = metrics or results.manifest.metrics
        table = make_table(results, metrics, complete_only=not everything)
    if format == "csv":
        print(render.as_csv(table), end="")
        for note in table.notes:
            print(note, file=sys.stderr)
        return
    table = with_short_labels(table)
    if format == "text":
        render.print_text(table, console)
    else:
        print(render.markdown(table) if format == "markdown" else render.latex(table))


def show_failures(results: Results, command: str, console: Console) -> None:
    """What failed in the plan, by class and blame, and how many replies were cut off; `command`
    runs the sweep."""
    for line in [*failure_lines(results, command), *cut_off_lines(results)]:
        console.print(line, markup=False, soft_wrap=True)


def show_comparison(folder: str, *, axis: str, metric: str, console: Console) -> None:
    """Every pair of values of an axis, with interval and test."""
    results = Results.open(folder)
    pairs = compare_all(results, metric, axis)
    labels = brief(label for pair in pairs for label in (pair.first, pair.second))
    for found in pairs:
        correlation = "n/a" if found.correlation is None else f"{found.correlation:.2f}"
        holm = f", Holm {found.p_holm:.4f}" if found.p_holm != found.p else ""
        console.print(
            f"{found.metric}: {found.axis} {labels.short[found.first]} - "
            f"{labels.short[found.second]} = "
            f"{found.difference:+.3f}, 95 % interval [{found.low:+.3f}, {found.high:+.3f}] "
            f"(bootstrap over {found.cases} cases), p = {found.p:.4f}{holm} (sign flips over "
            f"cases), correlation over cases {correlation}",
            markup=False,
            soft_wrap=True,
        )
    notes = [*(f"left out above: {options}" for options in labels.left_out), *doubts.notes(results)]
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)


def show_status(folder: str, console: Console) -> None:
    """Progress, driver, failures and sizes of a sweep folder."""
    results = Results.open(folder)
    manifest = results.manifest
    planned = sum(results.planned.values())
    count = results.query(
        "SELECT count(*) FILTER (status = 'done'), count(*) FILTER (status <> 'done') FROM episodes"
    ).fetchone()
    assert count is not None
    done, failed = count
    console.print(
        f"{escape(manifest.name)}: {done:,} of {planned:,} episodes done, {failed:,} failed, "
        f"{planned - done - failed:,} not run"
    )
    held = lease.holder(results.folder)
    console.print(f"running: {escape(lease.holding(held))}" if held else "not running")
    spent = results.query(
        "SELECT coalesce(sum(greatest(agent_tokens, 0)), 0), "
        "coalesce(sum(greatest(user_tokens, 0)), 0), "
        "coalesce(sum(greatest(probe_tokens, 0)), 0), coalesce(sum(calls), 0), count(*), "
        "coalesce(max(ended) - min(started), 0) FROM attempts"
    ).fetchone()
    assert spent is not None
    agent, user, probe, calls, attempts, seconds = spent
    unknown = uncounted(results)
    console.print(
        f"{attempts:,} attempts, {calls:,} calls; tokens{' (at least)' * bool(unknown)}: "
        f"agent {agent:,}, user {user:,}, probes {probe:,}; from first to last {duration(seconds)}",
        soft_wrap=True,
    )
    if unknown:
        console.print(f"{unknown:,} replies have no token counts", soft_wrap=True)
    if manifest.artifacts:
        keys = [found.key for found in manifest.artifacts]
        console.print(status_line(manifest.config, keys), markup=False, soft_wrap=True)
    for line in engine_lines(manifest.engines):
        console.print(line, markup=False, soft_wrap=True)
    budget = budget_in(results)
    caps = None if budget is None else budget.line()
    if caps is not None:
        console.print(caps, markup=False, soft_wrap=True)
    if manifest.runs and manifest.runs[-1].stopped:
        console.print(
            f"the last run was stopped: {manifest.runs[-1].stopped}", markup=False, soft_wrap=True
        )
    command = _command_of(manifest.runs)
    needs = () if budget is None else budget.needs()
    show_failures(results, " ".join([command or "crsweep run SWEEP", *needs]), console)
    if failed and command is None:
        console.print("SWEEP is the sweep file with its overrides; they are not recorded here")
    files = [name for table in SCHEMAS for name in parts.live(results.folder, table)]
    size = sum(results.folder.size(name) for name in files) / 2**20
    console.print(f"{len(files):,} Parquet files, {size:,.1f} MiB; epoch {manifest.driver_epoch}")
    console.print(size_line(results.folder, manifest.config), markup=False, soft_wrap=True)


def _command_of(runs: Sequence[RunEntry]) -> str | None:
    """What runs the sweep of a folder, to be typed here; None before any driver noted it."""
    for entry in reversed(runs):
        if entry.command:
            there = "" if Path(entry.typed_in) == Path.cwd() else f"cd {quote(entry.typed_in)} && "
            return f"{there}{entry.command}"
    return None
