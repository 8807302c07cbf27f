"""`crsweep status`: what a sweep folder contains, and what failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote, split

from rich.console import Console
from rich.markup import escape

from agents.core.plural import many
from analysis.replies import cut_off_lines, uncounted
from analysis.results import Results
from analysis.sql.tokens import COUNTED, UNCOUNTED
from runner.core.formatting import duration
from runner.core.locations import size_line, status_line
from runner.driver.budget import budget_in
from runner.driver.failures import failure_lines, view_line
from runner.placement.describe import engine_lines
from sweeps.manifest import RunEntry
from sweeps.storage import parts
from sweeps.storage.records import JUDGEMENT, SCHEMAS
from workers.results import lease

_RUNS = ("run", "submit")
"""Commands that run episodes."""


def show_failures(
    results: Results, command: str, console: Console, judging: str | None = None
) -> None:
    """Prints failures in the plan by class and blame, and how many replies were truncated.

    `command` runs the sweep, and `judging` judges it (by default the same command).
    """
    failed = [
        *failure_lines(results, command),
        *failure_lines(results, judging or command, JUDGEMENT),
    ]
    how = [view_line(results)] if failed else []
    for line in (*failed, *how, *cut_off_lines(results)):
        console.print(line, markup=False, soft_wrap=True)


def show_status(folder: str, console: Console) -> None:
    """Prints progress, driver, failures and sizes of a sweep folder."""
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
    for line in _judge_lines(results):
        console.print(line, markup=False, soft_wrap=True)
    held = lease.holder(results.folder)
    console.print(f"running: {escape(lease.holding(held))}" if held else "not running")
    spent = results.query(
        "SELECT coalesce(sum(greatest(agent_tokens, 0)), 0), "
        "coalesce(sum(greatest(user_tokens, 0)), 0), "
        "coalesce(sum(greatest(probe_tokens, 0)), 0), "
        "coalesce(sum(greatest(critic_tokens, 0)), 0), coalesce(sum(calls), 0), count(*), "
        "coalesce(max(ended) - min(started), 0) FROM attempts"
    ).fetchone()
    assert spent is not None
    agent, user, probe, critic, calls, attempts, seconds = spent
    watched = f", critic {critic:,}" if critic else ""
    unknown = uncounted(results)
    console.print(
        f"{many(attempts, 'attempt')}, {many(calls, 'call')}; "
        f"tokens{' (at least)' * bool(unknown)}: "
        f"agent {agent:,}, user {user:,}, probes {probe:,}{watched}; "
        f"elapsed: {duration(seconds)}",
        soft_wrap=True,
    )
    if unknown:
        console.print(f"{many(unknown, 'reply')} without token counts", soft_wrap=True)
    if manifest.artifacts:
        keys = [found.key for found in manifest.artifacts]
        console.print(status_line(manifest.config, keys), markup=False, soft_wrap=True)
    for title, reason in manifest.runs[-1].unprepared.items() if manifest.runs else ():
        console.print(f"{title} cannot be prepared: {reason}", markup=False, soft_wrap=True)
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
    command = _command_of(manifest.runs, *_RUNS)
    needs = () if budget is None else budget.needs()
    judging = _command_of(manifest.runs, *_RUNS, "judge") or "crsweep run SWEEP"
    show_failures(
        results,
        " ".join([command or "crsweep run SWEEP", *needs]),
        console,
        " ".join([judging, *needs]),
    )
    if failed and command is None:
        console.print("SWEEP is the sweep file with its overrides; they are not recorded here")
    files = [name for table in SCHEMAS for name in parts.live(results.folder, table)]
    size = sum(results.folder.size(name) for name in files) / 2**20
    console.print(f"{len(files):,} Parquet files, {size:,.1f} MiB; epoch {manifest.driver_epoch}")
    console.print(size_line(results.folder, manifest.config), markup=False, soft_wrap=True)


def _judge_lines(results: Results) -> Iterator[str]:
    """Lines about the verdicts of each judge of the plan, and the total cost of judging, including
    earlier judges and failed attempts."""
    ((done,),) = results.query("SELECT count(*) FROM episodes WHERE status = 'done'").fetchall()
    for judge, status, rows, dialogues in results.query(
        "SELECT judge, status, count(*), count(DISTINCT episode_id) FROM judgements "
        "WHERE annotator IS NULL GROUP BY judge, status ORDER BY judge, status"
    ).fetchall():
        words = f"judge {judge}: {many(rows, 'judgement')} {status}"
        yield f"{words}, on {dialogues:,} of {many(done, 'finished dialogue')}"
    used = results.query(
        f"SELECT starts_with(role, 'judge'), count(*), sum({COUNTED}), "
        f"count(*) FILTER (WHERE {UNCOUNTED}) FROM calls c SEMI JOIN "
        "(SELECT judging_id FROM all_judgements WHERE annotator IS NULL) j "
        "ON j.judging_id = c.attempt_id GROUP BY ALL ORDER BY 1 DESC"
    ).fetchall()
    whose = {True: "judges", False: "replies made for pairs"}
    for judges, calls, tokens, unknown in used:
        least = " (at least)" * bool(unknown)
        yield f"{whose[judges]}: {many(calls, 'call')}; tokens{least}: {int(tokens or 0):,}"


def _command_of(runs: Sequence[RunEntry], *verbs: str) -> str | None:
    """The latest recorded command with one of these verbs, ready to be typed here; None if there is
    none."""
    for entry in reversed(runs):
        if not {*verbs}.isdisjoint(split(entry.command)):
            there = "" if Path(entry.typed_in) == Path.cwd() else f"cd {quote(entry.typed_in)} && "
            return f"{there}{entry.command}"
    return None
