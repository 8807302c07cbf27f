"""The other contents of a report: coverage, failures, cost, settings, provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agents.core.plural import many
from analysis.results import Results
from analysis.tables.false_successes import cell_names
from analysis.tables.sheets import UNDEFINED, Sheet, SheetCell, clock
from sweeps.manifest import RunEntry

BLAMES = ("agent", "user", "critic", "infrastructure")
_EXAMPLE = 300  # characters of an error
_VALUES = 6  # distinct values of a setting that are listed


def labels(results: Results) -> list[str]:
    """A name for each cell; the sweep's where there is only one."""
    return [name or results.manifest.name for name in cell_names(results)]


def coverage(results: Results) -> Sheet:
    """By cell: how many planned episodes are done, failed (by blame) or not run."""
    found: dict[int, dict[str, int]] = {}
    rows = results.query(
        "SELECT cell, CASE WHEN status = 'done' THEN 'done' ELSE coalesce(blame, 'unknown') END, "
        "count(*) FROM episodes GROUP BY ALL"
    ).fetchall()
    for cell, kind, count in rows:
        found.setdefault(cell, {})[kind] = count
    blames = [b for b in (*BLAMES, "unknown") if any(b in kinds for kinds in found.values())]
    lines = []
    for cell, (name, entry) in enumerate(zip(labels(results), results.manifest.cells, strict=True)):
        planned, kinds = results.planned[entry.cell_id], found.get(cell, {})
        counts = [planned, kinds.get("done", 0), *(kinds.get(blame, 0) for blame in blames)]
        lines.append([name, *map(_whole, counts), _whole(planned - sum(kinds.values()))])
    heads = ["planned", "done", *(f"failed: {blame}" for blame in blames), "not run"]
    return _sheet(["cell"], heads, lines)


def failures(results: Results) -> Sheet:
    """Failed episodes of the plan by class and blame, with an example each."""
    rows = results.query(
        "SELECT error_class, blame, count(*), count(DISTINCT cell), arg_min(error, attempt_id) "
        "FROM episodes WHERE status = 'failed' GROUP BY ALL ORDER BY 3 DESC, 1, 2"
    ).fetchall()
    lines = [
        [kind or UNDEFINED, blame or UNDEFINED, _whole(count), _whole(cells), _cut(error or "")]
        for kind, blame, count, cells, error in rows
    ]
    return _sheet(["error", "blame"], ["episodes", "cells", "example"], lines)


def cost_by_step(results: Results) -> Sheet:
    """Calls and tokens of the plan's dialogues and judgements, by role and step."""
    rows = results.query(
        "SELECT c.role, c.step, c.model, count(*), sum(greatest(coalesce(c.input_tokens, 0), 0)), "
        "sum(greatest(coalesce(c.output_tokens, 0), 0)), "
        "sum(greatest(coalesce(c.thinking_tokens, 0), 0)), "
        "count(*) FILTER (WHERE c.cached), count(*) FILTER (WHERE NOT c.valid), sum(c.retries), "
        "count(*) FILTER (WHERE c.input_tokens IS NULL AND c.finish_reason IS NOT NULL) "
        "FROM calls c SEMI JOIN (SELECT attempt_id FROM episodes UNION "
        "SELECT judging_id FROM judgements) mine ON mine.attempt_id = c.attempt_id "
        "GROUP BY ALL ORDER BY 1, 2, 3"
    ).fetchall()
    heads = ["calls", "input tokens", "output tokens", "thinking", "from cache", "invalid",
             "retries"]  # fmt: skip
    total = [sum(row[n] for row in rows) for n in range(3, 10)]
    lines = [[*row[:3], *map(_whole, row[3:10])] for row in rows]
    if rows:
        lines.append(["all", "", "", *map(_whole, total)])
    uncounted = sum(row[10] for row in rows)
    notes = [f"{many(uncounted, 'reply')} without token counts"] if uncounted else []
    return _sheet(["role", "step", "model"], heads, lines, notes)


def cost_by_cell(results: Results) -> Sheet:
    """Means over the finished episodes of each cell."""
    rows = results.query(
        "SELECT cell, count(*), avg(greatest(agent_tokens, 0)), avg(greatest(user_tokens, 0)), "
        "avg(greatest(coalesce(critic_tokens, 0), 0)), avg(calls), avg(turns), "
        "avg(ended - started) FROM episodes WHERE status = 'done' GROUP BY cell ORDER BY cell"
    ).fetchall()
    names = labels(results)
    lines = [
        [names[cell], _whole(count), _whole(agent), _whole(user), _whole(critic),
         f"{calls:,.1f}", f"{turns:.2f}", f"{seconds:,.1f}"]
        for cell, count, agent, user, critic, calls, turns, seconds in rows
    ]  # fmt: skip
    heads = ["episodes", "agent tokens", "user tokens", "critic tokens", "calls", "turns",
             "seconds"]  # fmt: skip
    return _sheet(["cell"], heads, lines, ["means per finished episode"] if lines else [])


def spent(results: Results) -> list[tuple[str, str]]:
    """The usage of all runs of the folder: tokens by model, GPU hours, and cost if there are
    prices."""
    runs = results.manifest.runs
    tokens: dict[str, list[int]] = {}
    for run in runs:
        for model, counts in run.tokens.items():
            held = tokens.setdefault(model, [0, 0])
            held[0] += counts[0]
            held[1] += counts[1]
    found = [
        (f"tokens of {model}", f"{given:,} in, {made:,} out")
        for model, (given, made) in sorted(tokens.items())
    ]
    if runs:
        found.append(("GPU hours", f"{gpu_hours(results):,.2f}"))
    costs = [cost for run in runs if (cost := _cost(run)) is not None]
    if costs:
        found.append(("cost by the models' prices", f"{sum(costs):,.2f}"))
    return found


def gpu_hours(results: Results) -> float:
    """GPUs times the hours that engines held them, over all runs."""
    return sum(run.gpu_seconds for run in results.manifest.runs) / 3600


def shared_settings(results: Results) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Settings that all cells share, and those that differ, with their values and cells."""
    flat = [dict(_leaves(cell.settings)) for cell in results.manifest.cells]
    shared, differ = [], []
    for key in dict.fromkeys(key for cell in flat for key in cell):
        counts: dict[str, int] = {}
        for cell in flat:
            text = cell.get(key, UNDEFINED)
            counts[text] = counts.get(text, 0) + 1
        if len(counts) == 1:
            shared.append((key, next(iter(counts))))
            continue
        listed = [f"{text} ({count})" for text, count in list(counts.items())[:_VALUES]]
        more = [f"and {len(counts) - _VALUES} more"] if len(counts) > _VALUES else []
        differ.append((key, "; ".join([*listed, *more])))
    return shared, differ


def provenance(results: Results) -> list[tuple[str, str]]:
    """Where the results come from: code, data, seeds, software and machine."""
    m = results.manifest
    dirty = {True: ", with uncommitted changes", False: "", None: ""}[m.dirty]
    facts = [
        ("sweep", m.name),
        ("started", clock(m.started)),
        ("ended", clock(m.ended) if m.ended else "not yet"),
        ("revision of crsweep", f"{m.revision or 'unknown'}{dirty}"),
        ("schema version", str(m.schema_version)),
        ("seeds", f"{', '.join(map(str, m.seeds))} (they vary: {m.seed_varies})"),
        *(
            (
                f"data: {source.dataset or source.domain}",
                f"{source.split}, {many(source.sample, 'case')}, fingerprint {source.fingerprint}",
            )
            for source in m.sources
        ),
        *((f"version of {name}", version) for name, version in sorted(m.versions.items())),
        *((f"machine: {name}", str(value)) for name, value in sorted(m.host.items())),
        *((f"judge {j.title}", f"{j.name}, digest {j.digest}") for j in m.judges),
        *((f"artifact {a.title}", f"{a.kind}, {a.key}") for a in m.artifacts),
        *((f"run {run.driver_epoch}", _run_words(run)) for run in m.runs),
    ]
    return [(name, text) for name, text in facts if text]


def plugin_versions(results: Results) -> Sheet:
    """Version and hash of every plug-in that was used."""
    lines = [
        [name, str(found.get("version", UNDEFINED)), str(found.get("hash", UNDEFINED))[:16]]
        for name, found in sorted(results.manifest.plugin_sources.items())
    ]
    return _sheet(["plug-in"], ["version", "hash"], lines)


def _run_words(run: RunEntry) -> str:
    stopped = f", stopped: {run.stopped}" if run.stopped else ""
    command = f", {run.command}" if run.command else ""
    return f"{clock(run.started)}{command}{stopped}"


def _cost(run: RunEntry) -> float | None:
    if not run.prices:
        return None
    return sum(
        run.prices[model].of(given, made)
        for model, (given, made) in run.tokens.items()
        if model in run.prices
    )


def _leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Dotted paths of a mapping, and their values as text. What is unset is left out."""
    for key, part in value.items():
        path = f"{above}{key}"
        if isinstance(part, Mapping):
            yield from _leaves(part, f"{path}.")
        elif part is not None:
            yield path, part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _EXAMPLE else f"{text[:_EXAMPLE]}…"


def _whole(count: float | None) -> str:
    return UNDEFINED if count is None else f"{count:,.0f}"


def _sheet(
    heads: list[str], figures: list[str], rows: list[list[str]], notes: list[str] | None = None
) -> Sheet:
    return Sheet(heads, figures, [[SheetCell(text) for text in row] for row in rows], notes or [])
