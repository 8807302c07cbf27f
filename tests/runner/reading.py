"""Reads a sweep folder the independent way: pandas over the raw Parquet."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq


def raw(folder: Path, table: str) -> pd.DataFrame:
    """Every row of `table`, as it was written."""
    parts = sorted((folder / table).glob("*.parquet"))
    return pd.concat(
        [pq.read_table(p).to_pandas(maps_as_pydicts="strict") for p in parts], ignore_index=True
    )


def outcomes(folder: Path) -> dict[str, tuple]:
    """Episode id -> what it came out as, transcript included; each done exactly once."""
    episodes = raw(folder, "episodes")
    done = episodes[episodes.status == "done"]
    assert not done.episode_id.duplicated().any()
    columns = [
        "episode_id",
        "transcript_hash",
        "stop_reason",
        "success_turn",
        "accepted_item",
        "agent_tokens",
        "user_tokens",
        "calls",
    ]
    rows = done[columns].astype(object).where(done[columns].notna(), None)
    return {row[0]: tuple(row[1:]) for row in rows.itertuples(index=False)}


def words(folder: Path) -> dict[tuple, tuple]:
    """(episode, turn) -> all that was said, shown and recorded in it."""
    turns = raw(folder, "turns").merge(raw(folder, "episodes")[["attempt_id", "episode_id"]])
    return {
        (t.episode_id, t.turn): (
            t.agent_text,
            t.user_text,
            t.action,
            tuple(t.shown),
            t.extra,
            t.user_decision,
            t.user_extra,
        )
        for t in turns.itertuples()
    }


def prompts(folder: Path) -> dict[tuple, tuple]:
    """Every call by its place in its episode -> seed, prompt and reply."""
    calls = raw(folder, "calls").merge(raw(folder, "episodes")[["attempt_id", "episode_id"]])
    return {
        (c.episode_id, c.turn, c.role, c.step, c.draw, c.reask): (
            c.seed,
            c.prompt,
            c.reply,
            c.request_key,
        )
        for c in calls.itertuples()
    }


def log(out: Path) -> list[dict[str, Any]]:
    """All that the models of the backend `latency` were asked, in the order of their answers."""
    lines = [
        json.loads(line)
        for path in (out / "logs").glob("latency-*.jsonl")
        for line in path.read_text().splitlines()
    ]
    return sorted(lines, key=lambda line: line["answered"])


def requests(out: Path) -> Counter[str]:
    """Request -> how often the backend `latency` was asked."""
    return Counter(line["request"] for line in log(out))
