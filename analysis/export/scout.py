"""Dialogues as transcripts for Inspect Scout: Parquet files that its database reads.

The columns are those of the transcript database of inspect_scout 0.6 (its page "Database Schema"),
with a column for each axis. `messages` are Inspect's chat messages: the simulated user is `user`,
the recommender `assistant`. Model calls are not exported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agents.core.errors import UsageError
from analysis.results import Results
from analysis.transcripts import BATCH, Transcripts
from sweeps.judgements import StoredDialogue
from sweeps.manifest import CellEntry

VERSION = "0.6"
_PART = 20_000  # transcripts of a file

_COLUMNS: dict[str, pa.DataType] = {
    "transcript_id": pa.string(),
    "source_type": pa.string(),
    "source_id": pa.string(),
    "date": pa.string(),
    "task_set": pa.string(),
    "task_id": pa.string(),
    "task_repeat": pa.int64(),
    "agent": pa.string(),
    "agent_args": pa.string(),
    "model": pa.string(),
    "model_options": pa.string(),
    "score": pa.string(),
    "success": pa.bool_(),
    "message_count": pa.int64(),
    "total_time": pa.float64(),
    "total_tokens": pa.int64(),
    "limit": pa.string(),
    "messages": pa.string(),
    "success_turn": pa.int64(),
    "stop_reason": pa.string(),
    "targets": pa.string(),
}


def write_transcripts(results: Results, folder: Path) -> int:
    """Writes one transcript for each finished dialogue of the plan. Returns how many.

    UsageError if there is none.
    """
    transcripts = Transcripts(results)
    if not len(transcripts):
        raise UsageError(f"{results.folder} has no finished dialogue to export")
    axes = {axis: _column(axis) for axis in results.axes}
    schema = pa.schema([*_COLUMNS.items(), *((name, pa.string()) for name in axes.values())])
    folder.mkdir(parents=True, exist_ok=True)
    writer: pq.ParquetWriter | None = None
    written = 0
    try:
        for batch in transcripts.batches():
            if written % _PART == 0:
                if writer is not None:
                    writer.close()
                writer = pq.ParquetWriter(
                    folder / f"transcripts-{written // _PART:04}.parquet", schema
                )
            assert writer is not None
            rows = list(_rows(results, batch, axes))
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            written += len(batch)
    finally:
        if writer is not None:
            writer.close()
    return written


assert _PART % BATCH == 0  # a file ends with a batch


def _rows(
    results: Results, batch: list[StoredDialogue], axes: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    ids = pa.table({"attempt_id": [d.attempt_id for d in batch]})
    results.db.register("exported", ids)
    facts = {
        row["attempt_id"]: row
        for row in results.arrow(
            "SELECT e.attempt_id, e.success, e.success_turn, e.stop_reason, e.turns, e.started, "
            "e.ended, e.targets, greatest(e.agent_tokens, 0) + greatest(e.user_tokens, 0) "
            "AS tokens FROM episodes e SEMI JOIN exported x ON x.attempt_id = e.attempt_id"
        ).to_pylist()
    }
    cells = results.manifest.cells
    sources = {source.source_id: source for source in results.manifest.sources}
    for dialogue in batch:
        cell, row = cells[dialogue.cell], facts[dialogue.attempt_id]
        source = sources[cell.source_id]
        model = _part(cell, "models").get("agent") or {}
        agent = _part(cell, "agent")
        messages = _messages(dialogue, str(model.get("model") or model.get("backend") or ""))
        yield {
            "transcript_id": dialogue.attempt_id,
            "source_type": "crsweep",
            "source_id": cell.cell_id,
            "date": datetime.fromtimestamp(row["started"], UTC).isoformat(),
            "task_set": f"{source.dataset or source.domain}/{source.split}",
            "task_id": dialogue.case_id,
            "task_repeat": dialogue.seeds.sampling,
            "agent": str(agent.get("name") or cell.axes.get("agent", "")),
            "agent_args": _options(agent, "name"),
            "model": str(model.get("model") or model.get("backend") or ""),
            "model_options": _options(model, "model", "price"),
            "score": json.dumps(int(row["success"])),
            "success": row["success"],
            "message_count": len(messages),
            "total_time": row["ended"] - row["started"],
            "total_tokens": row["tokens"],
            "limit": _LIMITS.get(row["stop_reason"]),
            "messages": json.dumps(messages, ensure_ascii=False),
            "success_turn": row["success_turn"],
            "stop_reason": row["stop_reason"],
            "targets": json.dumps(row["targets"]),
            **{column: cell.axes.get(axis) for axis, column in axes.items()},
        }


_LIMITS = {"max_turns": "turns", "token_budget": "tokens"}


def _messages(dialogue: StoredDialogue, model: str) -> list[dict[str, Any]]:
    found = [_message(dialogue, "user", 0, dialogue.opening)]
    for turn in dialogue.turns:
        said = _message(dialogue, "assistant", turn.number, turn.agent_text)
        metadata = {"action": turn.action, "shown": list(turn.shown)}
        found.append({**said, "source": "generate", "model": model, "metadata": metadata})
        answer = _message(dialogue, "user", turn.number, turn.user_text)
        metadata = {"decision": turn.user_decision, "accepted_item": turn.accepted}
        found.append({**answer, "metadata": metadata})
    return found


def _message(dialogue: StoredDialogue, role: str, turn: int, text: str) -> dict[str, Any]:
    return {"id": f"{dialogue.attempt_id}-{turn}-{role}", "role": role, "content": text}


def _part(cell: CellEntry, name: str) -> dict[str, Any]:
    found = cell.settings.get(name)
    return found if isinstance(found, dict) else {}


def _options(value: Mapping[str, Any], *without: str) -> str:
    given = {k: part for k, part in value.items() if k not in without and part is not None}
    return json.dumps(given, ensure_ascii=False)


def _column(axis: str) -> str:
    """A column for an axis: as it is called, unless that is a column of Scout's."""
    plain = axis.replace(".", "_")
    return f"axis_{plain}" if plain in _COLUMNS else plain
