"""`crsweep status`: what a sweep folder holds, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.markup import escape

from analysis.replies import cut_off_lines, uncounted
from analysis.results import Results
from runner.core.formatting import duration, many
from runner.core.locations import size_line, status_line
from runner.driver.budget import budget_in
from runner.driver.failures import failure_lines
from runner.placement.describe import engine_lines
from sweeps.manifest import RunEntry
from sweeps.storage import parts
from sweeps.storage.records import SCHEMAS
from workers.results import lease


def show_failures(results: Results, command: str, console: Console) -> None:
    """What failed in the plan, by class and blame, and how many replies were cut off; `command`
    runs the sweep."""
    for line in [*failure_lines(results, command), *cut_off_lines(results)]:
        console.print(line, markup=False, soft_wrap=True)


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
    for judge, status, rows in results.query(
        "SELECT judge, status, count(*) FROM judgements WHERE annotator IS NULL GROUP BY ALL "
        "ORDER BY ALL"
    ).fetchall():
        console.print(f"judge {judge}: {many(rows, 'judgement')} {status}", markup=False)
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
        f"{many(attempts, 'attempt')}, {many(calls, 'call')}; "
        f"tokens{' (at least)' * bool(unknown)}: "
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
