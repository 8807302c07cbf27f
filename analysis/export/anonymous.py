"""A copy of a sweep folder without names, machines, paths and texts, for double-blind review.

Everything that people, models and data sets wrote is left out: prompts, replies, messages, reasons,
errors. Ids, decisions, tokens and verdicts are kept, so that the copy gives the same tables,
comparisons and figures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agents.core.errors import UsageError
from analysis.results import Results
from sweeps import manifest as manifests
from sweeps.manifest import CellEntry, Manifest, RunEntry
from sweeps.storage.folder import LocalFolder
from sweeps.storage.records import SCHEMA_VERSION, SCHEMAS, metadata

REMOVED = "(removed)"
_ROWS = 50_000  # of a table in memory at once
_PATH = re.compile(r"^(?:[/~\\]|\.{1,2}/|[A-Za-z]:[\\/]|[a-z][a-z0-9+]*://)|\$\{oc\.env|^[\w.-]+@")
_METRIC = re.compile(r"\w+@[\w.]+")  # sr@5, tokens@agent: as `_PATH` sees it, an e-mail address
_HOST = ("python", "processor", "cpu", "cores", "memory_gib")
_ENGINE = ("label", "gpus", "prompt_tokens", "output_tokens", "prefix_queries", "prefix_hits",
           "deaths", "seconds_down")  # fmt: skip
_ADDRESS = frozenset({"base_url", "path", "out", "ray_address", "env_file", "env_from", "journal",
                      "api_key", "api_key_env", "question"})  # fmt: skip
"""Keys of settings whose values are locations or free text."""

_EMPTY: Mapping[str, Mapping[str, str]] = {
    "calls": {
        "prompt": "'[]'", "reply": "NULL", "thinking": "NULL", "error": "NULL",
        "fingerprint": "NULL",
    },
    "turns": {
        "agent_text": "CASE WHEN agent_text IS NOT NULL THEN '' END", "user_text": "''",
    },
    "episodes": {"error": "NULL"},
    "judgements": {"reason": "NULL", "other_reply": "NULL", "error": "NULL"},
}  # fmt: skip
"""Text columns, with the SQL for what replaces them."""

_RECORDS = ("extra", "user_extra")
"""JSON columns of which only numbers and booleans are kept."""


def write_anonymous(results: Results, folder: Path, name: str) -> list[str]:
    """Writes the copy into an empty `folder`, as a sweep called `name`.

    Returns what a person should check: labels that may contain a name. Raises UsageError if the
    folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    people = _people(results)
    for table in ("cases", "calls", "turns", "judgements", "episodes", "curves"):
        _write_table(results, folder, table, people)
    manifests.write(LocalFolder(folder), _manifest(results.manifest, name))
    return _to_look_at(results)


def _write_table(results: Results, folder: Path, table: str, people: Mapping[str, str]) -> None:
    schema = SCHEMAS[table]
    found = _query(results, table)
    labels: dict[str, int] = {}
    (folder / table).mkdir()
    path = folder / table / f"{table}-000000.parquet"
    with pq.ParquetWriter(path, schema.with_metadata(metadata()), compression="zstd") as writer:
        for batch in found:
            rows = _cleaned(table, pa.Table.from_batches([batch]), people, labels)
            columns = [_as(rows, field) for field in schema]
            writer.write_table(pa.table(columns, schema=schema.with_metadata(metadata())))


def _query(results: Results, table: str) -> Iterator[pa.RecordBatch]:
    """The rows of the plan's cells, without attempts of older plans."""
    attempts = "(SELECT a.attempt_id FROM attempts a SEMI JOIN plan_cells p USING (cell_id))"
    source = {
        "cases": "cases",
        "episodes": "attempts SEMI JOIN plan_cells USING (cell_id)",
        "turns": f"turns SEMI JOIN {attempts} USING (attempt_id)",
        "curves": "all_curves SEMI JOIN plan_artifacts USING (artifact_key)",
        "judgements": f"all_judgements SEMI JOIN {attempts} USING (attempt_id)",
        "calls": f"calls SEMI JOIN ({attempts} UNION SELECT judging_id FROM all_judgements) "
        "USING (attempt_id)",
    }[table]
    known = {row[0] for row in results.query(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    emptied = [
        f"{value} AS {column}" for column, value in _EMPTY.get(table, {}).items() if column in known
    ]
    replaced = f" REPLACE ({', '.join(emptied)})" if emptied else ""
    return results.stream(f"SELECT *{replaced} FROM {source}", _ROWS)


def _cleaned(
    table: str, rows: pa.Table, people: Mapping[str, str], labels: dict[str, int]
) -> pa.Table:
    for column in _RECORDS if table == "turns" else ():
        rows = _changed(rows, column, _bare)
    if table == "episodes":
        at = rows.column_names.index("axes")
        axes = [
            [(axis, _text(label)) for axis, label in row] for row in rows.column(at).to_pylist()
        ]
        rows = rows.set_column(at, "axes", pa.array(axes, SCHEMAS["episodes"].field("axes").type))
    if table == "judgements":
        rows = _unnamed(rows, people, labels)
    return _changed(rows, "bundle_id", lambda _: "anonymous")


def _unnamed(rows: pa.Table, people: Mapping[str, str], labels: dict[str, int]) -> pa.Table:
    """Labels of people, numbered, because their ids are derived from names."""
    who = rows.column("annotator").to_pylist()
    for column in ("task_id", "judging_id", "judgement_id"):
        at = rows.column_names.index(column)
        ids = [
            old if name is None else f"label-{labels.setdefault(old, len(labels))}"
            for name, old in zip(who, rows.column(at).to_pylist(), strict=True)
        ]
        rows = rows.set_column(at, column, pa.array(ids, pa.string()))
    return _changed(rows, "annotator", lambda name: name and people[name])


def _changed(rows: pa.Table, column: str, change: Callable[[Any], Any]) -> pa.Table:
    at = rows.column_names.index(column)
    values = pa.array([change(v) for v in rows.column(at).to_pylist()], pa.string())
    return rows.set_column(at, column, values)


def _as(rows: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    """The column as the schema has it; null where an older folder lacks it."""
    if field.name not in rows.column_names:
        return pa.chunked_array([pa.nulls(len(rows), field.type)])
    column = rows.column(field.name)
    if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(column.type):
        return column.cast(pa.string()).dictionary_encode().cast(field.type)
    return column.cast(field.type)


def _bare(text: str) -> str:
    """The numbers and booleans at the first level of a JSON mapping."""
    try:
        found = json.loads(text)
    except ValueError:
        return "{}"
    if not isinstance(found, dict):
        return "{}"
    kept = {k: v for k, v in found.items() if isinstance(v, (bool, int, float))}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def _people(results: Results) -> dict[str, str]:
    rows = results.query(
        "SELECT DISTINCT annotator FROM all_judgements WHERE annotator IS NOT NULL ORDER BY 1"
    ).fetchall()
    return {name: f"annotator-{n}" for n, (name,) in enumerate(rows, start=1)}


def _manifest(m: Manifest, name: str) -> Manifest:
    return m.model_copy(
        update={
            "name": name,
            "schema_version": SCHEMA_VERSION,
            "oldest_parts": SCHEMA_VERSION,
            "cells": [_cell(cell) for cell in m.cells],
            "cases_file": "cases-000000.parquet",
            "host": {key: m.host[key] for key in _HOST if key in m.host},
            "revision": None,
            "dirty": None,
            "config": _scrubbed(m.config) | {"name": name, "out": REMOVED},
            "engines": [_engine(entry) for entry in m.engines],
            "artifacts": [
                a.model_copy(update={"title": _text(a.title), "name": _text(a.name)})
                for a in m.artifacts
            ],
            "judges": [j.model_copy(update={"options": _scrubbed(j.options)}) for j in m.judges],
            "runs": [_run(run) for run in m.runs],
        }
    )


def _cell(cell: CellEntry) -> CellEntry:
    axes = {axis: _text(label) for axis, label in cell.axes.items()}
    return cell.model_copy(update={"settings": _scrubbed(cell.settings), "axes": axes})


def _engine(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An engine's counts, without error messages, which name paths and hosts."""
    causes = [REMOVED] * len(entry.get("death_causes") or [])
    failed = REMOVED if entry.get("failed") else None
    kept = {key: value for key, value in entry.items() if key in _ENGINE}
    return {**kept, "death_causes": causes, "failed": failed}


def _run(run: RunEntry) -> RunEntry:
    return run.model_copy(update={"command": "", "typed_in": "", "stopped": None})


def _scrubbed(value: Any) -> Any:
    """`value` without paths, addresses and e-mail addresses."""
    if isinstance(value, Mapping):
        return {key: _setting(key, part) for key, part in value.items()}
    if isinstance(value, list):
        return [_scrubbed(part) for part in value]
    return _text(value) if isinstance(value, str) else value


def _setting(key: str, value: Any) -> Any:
    if key in _ADDRESS and isinstance(value, (str, list)):
        return REMOVED
    if key == "metrics" and isinstance(value, list):
        named = (isinstance(name, str) and _METRIC.fullmatch(name) for name in value)
        return [n if kept else _scrubbed(n) for n, kept in zip(value, named, strict=True)]
    return _scrubbed(value)


def _text(value: str) -> str:
    """A label without the paths in its options: `movielens(path=/home/ann/ml)`."""
    if _PATH.search(value):
        return REMOVED
    return re.sub(r"(?<==)(?:[/~]|\$\{oc\.env|[a-z][a-z0-9+]*://)[^,)]*", REMOVED, value)


def _to_look_at(results: Results) -> list[str]:
    """External plug-ins, and models that carry the name of their maker."""
    m = results.manifest
    found = {
        f"plug-in {name}"
        for name in m.plugin_sources
        if name.partition(".")[0] not in ("agents", "simulators", "workers", "analysis")
    }
    for cell in m.cells:
        for model in (cell.settings.get("models") or {}).values():
            if isinstance(model, Mapping) and model.get("model"):
                found.add(f"model {_scrubbed(model)['model']}")
    return sorted(found)
