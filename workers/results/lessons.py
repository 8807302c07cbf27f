"""What agents with memory learn from dialogues: as they end, or from stored ones."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from agents.core.memory import MEMORY, LearnedTurn, Memory
from simulators.core.dialogue import Transcript
from sweeps.storage import parts
from sweeps.storage.folder import Folder
from sweeps.streams import entry_text
from workers.results.bundles import read_columns


class StoredEpisode(NamedTuple):
    """A committed episode of a stream."""

    attempt_id: str
    memory: str | None
    """The digest of the memory that it was played with."""


def learned(memory: Memory, transcript: Transcript) -> list[str]:
    """The entries of a dialogue that has just ended."""
    turns = [
        LearnedTurn(
            agent.text,
            agent.action,
            agent.strategy,
            tuple(item.id for item in agent.shown),
            json.loads(json.dumps(agent.extra)),
            user.accepted.id if user.accepted else None,
            user.extra.get("over_budget"),
        )
        for agent, user, _ in transcript.turns
    ]
    return [entry_text(entry) for entry in memory.learn(turns)]


def learned_of_stored(
    folder: Folder, memory: Memory, attempt_ids: Collection[str]
) -> dict[str, list[str]]:
    """Attempt -> the entries of a stored dialogue, read in one pass. Raises PartDamaged and
    StoreError."""
    columns = ["attempt_id", "turn", "action", "strategy", "shown", "agent_text", "accepted_item",
               "extra", "user_extra"]  # fmt: skip
    turns: dict[str, list[Mapping[str, Any]]] = {attempt: [] for attempt in attempt_ids}
    for row in _rows(folder, "turns", columns, "attempt_id", turns):
        if row["turn"] > 0:  # 0 is the user's opening
            turns[row["attempt_id"]].append(row)
    found = {}
    for attempt, rows in turns.items():
        rows.sort(key=lambda row: row["turn"])
        found[attempt] = [entry_text(e) for e in memory.learn([_turn(row) for row in rows])]
    return found


def stored_episodes(folder: Folder, ids: Collection[str]) -> dict[str, StoredEpisode | None]:
    """Id -> the attempt that counts for each committed episode; None if it failed.

    The earliest done attempt counts, as in `analysis/sql/superseded.sql`.
    """
    columns = ["episode_id", "attempt_id", "status", "artifacts", "driver_epoch", "ended"]
    found: dict[str, tuple[Any, StoredEpisode | None]] = {}
    for row in _rows(folder, "episodes", columns, "episode_id", ids):
        done = row["status"] == "done"
        rank = (not done, row["driver_epoch"], row["ended"], row["attempt_id"])
        if row["episode_id"] not in found or rank < found[row["episode_id"]][0]:
            digest = dict(row["artifacts"] or ()).get(MEMORY)
            found[row["episode_id"]] = (
                rank,
                StoredEpisode(row["attempt_id"], digest) if done else None,
            )
    return {episode: stored for episode, (_, stored) in found.items()}


def _rows(
    folder: Folder, table: str, columns: Sequence[str], key: str, values: Collection[str]
) -> list[Mapping[str, Any]]:
    """The rows of `table` whose `key` is one of `values`."""
    wanted, found = pa.array(sorted(values), pa.string()), []
    for name in parts.live(folder, table):
        rows = read_columns(folder, name, columns)
        keys = rows[key].cast(pa.string())
        found += rows.filter(pc.is_in(keys, wanted)).to_pylist()  # type: ignore[attr-defined]
    return found


def _turn(row: Mapping[str, Any]) -> LearnedTurn:
    return LearnedTurn(
        row["agent_text"],
        row["action"],
        row["strategy"],
        tuple(row["shown"]),
        json.loads(row["extra"]),
        row["accepted_item"],
        json.loads(row["user_extra"] or "{}").get("over_budget"),
    )
