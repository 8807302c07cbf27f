"""The versioned Arrow schemas of everything that crsweep stores.

- Each kind of task has at most one commit table (`COMMITS`): an attempt whose rows are there is
  committed. A row of `episodes` is the commit of an episode: its calls and turns are written
  before.
- Readers join on `attempt_id`; the earliest `done` attempt of an episode wins.
- JSON columns have canonical JSON text. Times are seconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

SCHEMA_VERSION = 5
READABLE = frozenset({2, 3, 4, 5})
"""Versions that can be read; a column that an older file lacks reads as null."""

_NAME = pa.dictionary(pa.int32(), pa.string())  # few distinct values: stored once a file

WRITTEN_BY = [  # the last columns of every table
    pa.field("bundle_id", _NAME, nullable=False),
    pa.field("driver_epoch", pa.int32(), nullable=False),
]

CASES = pa.schema(
    [
        pa.field("source_id", _NAME, nullable=False),  # domain + split + sample seed
        pa.field("position", pa.int32(), nullable=False),  # in the seeded permutation, from 0
        pa.field("case_id", pa.string(), nullable=False),
        pa.field("targets", pa.list_(pa.string()), nullable=False),
        pa.field("history_length", pa.int32(), nullable=False),
        # The groups that it stands for in tables. Null before version 4.
        pa.field("groups", pa.list_(pa.string())),
        *WRITTEN_BY,
    ]
)

CALLS = pa.schema(
    [
        pa.field("attempt_id", pa.string(), nullable=False),
        pa.field("turn", pa.int16(), nullable=False),  # 0 is the user's opening
        pa.field("role", _NAME, nullable=False),
        pa.field("step", _NAME, nullable=False),
        pa.field("draw", pa.int16(), nullable=False),
        pa.field("reask", pa.int16(), nullable=False),
        pa.field("model", _NAME, nullable=False),  # its name in the sweep file
        pa.field("request_key", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("input_tokens", pa.int32()),  # null where the backend counts none
        pa.field("output_tokens", pa.int32()),
        pa.field("thinking_tokens", pa.int32()),
        pa.field("finish_reason", _NAME),  # null for a call that failed
        pa.field("valid", pa.bool_(), nullable=False),
        pa.field("cached", pa.bool_(), nullable=False),
        pa.field("retries", pa.int16(), nullable=False),
        pa.field("error_class", _NAME),
        pa.field("error", pa.string()),
        pa.field("started", pa.float64(), nullable=False),
        pa.field("seconds", pa.float32(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),  # JSON: the messages; texts to embed
        pa.field("reply", pa.string()),  # null for a call that failed or only embedded
        pa.field("thinking", pa.string()),  # what a reasoning model wrote before its reply
        pa.field("fingerprint", _NAME),  # of what served it; null where the server did not say
        *WRITTEN_BY,
    ]
)

TURNS = pa.schema(
    [
        pa.field("attempt_id", pa.string(), nullable=False),
        pa.field("turn", pa.int16(), nullable=False),  # 0 is the user's opening: no agent columns
        pa.field("action", _NAME),
        pa.field("strategy", _NAME),
        pa.field("shown", pa.list_(pa.string()), nullable=False),
        # Cut off at the depth that the sweep's metrics and the shown items need; null: not known.
        pa.field("ranking", pa.list_(pa.string())),
        pa.field("ranked", pa.int32()),  # items in the whole ranking; null in older folders
        pa.field("target_rank", pa.int32()),  # from 1, of the first target in the whole ranking
        pa.field("candidates", pa.list_(pa.string())),  # null: the agent has no tool
        pa.field("agent_text", pa.string()),
        pa.field("user_text", pa.string(), nullable=False),
        pa.field("user_decision", _NAME),
        pa.field("accepted_item", pa.string()),
        pa.field("user_leaves", pa.bool_(), nullable=False),
        pa.field("feedback", pa.string(), nullable=False),  # JSON: item id -> word
        pa.field("extra", pa.string(), nullable=False),  # JSON: the agent's own record
        pa.field("user_extra", pa.string(), nullable=False),  # JSON: the simulator's own record
        # From 0 to 1; null without a critic, where its verdict is missing, and before version 5.
        pa.field("critic_score", pa.float64()),
        pa.field("critic_extra", pa.string()),  # JSON: the critic's own record; null without one
        *WRITTEN_BY,
    ]
)

EPISODES = pa.schema(
    [
        pa.field("episode_id", pa.string(), nullable=False),
        pa.field("attempt_id", pa.string(), nullable=False),
        pa.field("cell_id", _NAME, nullable=False),
        pa.field("source_id", _NAME, nullable=False),
        pa.field("case_id", _NAME, nullable=False),
        pa.field("seed", pa.int64(), nullable=False),  # sampling
        pa.field("seed_training", pa.int64(), nullable=False),
        pa.field("seed_order", pa.int64(), nullable=False),
        pa.field("axes", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("status", _NAME, nullable=False),  # done, failed
        pa.field("blame", _NAME),  # agent, user, critic, infrastructure
        pa.field("error_class", _NAME),
        pa.field("error", pa.string()),
        pa.field("stop_reason", _NAME, nullable=False),  # what ended the dialogue
        pa.field("success", pa.bool_(), nullable=False),
        pa.field("success_rule", _NAME, nullable=False),
        pa.field("success_turn", pa.int16()),  # 1-based; null without success
        pa.field("accepted_item", pa.string()),
        pa.field("targets", pa.list_(pa.string()), nullable=False),
        pa.field("turns", pa.int16(), nullable=False),  # completed turns
        pa.field("max_turns", pa.int16(), nullable=False),
        pa.field("shown_items", pa.int16(), nullable=False),
        pa.field("agent_tokens", pa.int64(), nullable=False),  # input + output, probes left out
        pa.field("user_tokens", pa.int64(), nullable=False),
        pa.field("probe_tokens", pa.int64(), nullable=False),
        pa.field("critic_tokens", pa.int64()),  # null before version 5
        pa.field("calls", pa.int32(), nullable=False),
        pa.field("transcript_hash", pa.string(), nullable=False),  # words, items and decisions
        # What its agent needed prepared: name -> digest of the content. Null before version 3.
        pa.field("artifacts", pa.map_(pa.string(), pa.string())),
        pa.field("started", pa.float64(), nullable=False),
        pa.field("ended", pa.float64(), nullable=False),
        *WRITTEN_BY,
    ]
)

JUDGEMENTS = pa.schema(
    [
        pa.field("judgement_id", pa.string(), nullable=False),
        pa.field("task_id", pa.string(), nullable=False),  # several judgements are one task
        pa.field("judging_id", pa.string(), nullable=False),  # its attempt: `attempt_id` in calls
        pa.field("episode_id", pa.string(), nullable=False),  # what is judged
        pa.field("attempt_id", pa.string(), nullable=False),
        pa.field("transcript_hash", pa.string(), nullable=False),  # as in its row of episodes
        pa.field("other_episode_id", pa.string()),  # of a pair: the opponent of the first
        pa.field("other_attempt_id", pa.string()),
        pa.field("other_transcript_hash", pa.string()),
        pa.field("prefix", _NAME),  # of a pair of replies: whose dialogue they continue, a or b
        pa.field("other_reply", pa.string()),  # JSON: text and items of the reply that was made
        pa.field("turn", pa.int16()),  # null: the whole dialogue; also of a failed task
        pa.field("item", pa.string()),
        # Its label; of people's, the plug-in, or `user_decision` (`annotate export --decisions`).
        pa.field("judge", _NAME, nullable=False),
        pa.field("judge_digest", _NAME, nullable=False),  # of judge and model; `people`
        pa.field("dimension", _NAME),  # null: of a failed task
        pa.field("sample", pa.int16(), nullable=False),
        pa.field("order", _NAME),  # of a pair: ab or ba, which side was presented first
        pa.field("status", _NAME, nullable=False),  # valid, unparsed, failed
        # Of a pair: 1 the first wins, 0 it loses, 0.5 a tie. Of a decision of people: 0 reject,
        # 1 accept recommendation, 2 accept persuasion.
        pa.field("value", pa.float64()),
        pa.field("reason", pa.string()),
        pa.field("blame", _NAME),
        pa.field("error_class", _NAME),
        pa.field("error", pa.string()),
        pa.field("annotator", _NAME),  # null: a model
        pa.field("calls", pa.int32(), nullable=False),  # of the whole task
        pa.field("started", pa.float64(), nullable=False),
        pa.field("ended", pa.float64(), nullable=False),
        *WRITTEN_BY,
    ]
)

CURVES = pa.schema(
    [
        pa.field("artifact_key", _NAME, nullable=False),  # what is made, and how
        pa.field("digest", _NAME, nullable=False),  # of what came out
        pa.field("series", _NAME, nullable=False),  # what was measured
        pa.field("step", pa.int64(), nullable=False),  # of the training: epoch, round or update
        pa.field("value", pa.float64(), nullable=False),
        *WRITTEN_BY,
    ]
)

ROLLOUTS = pa.schema(
    [
        pa.field("rollout_id", pa.string(), nullable=False),
        pa.field("attempt_id", pa.string(), nullable=False),
        pa.field("loop", _NAME, nullable=False),  # the key of the artifact that is trained
        pa.field("round", pa.int32(), nullable=False),  # the update that learns from it, from 1
        pa.field("weights", _NAME, nullable=False),  # digest of those that it was played with
        pa.field("cell_id", _NAME, nullable=False),  # whose agent and user it is played by
        pa.field("case_id", _NAME, nullable=False),
        pa.field("seed", pa.int64(), nullable=False),  # sampling
        pa.field("status", _NAME, nullable=False),  # done, failed
        pa.field("blame", _NAME),  # agent, user, critic, infrastructure
        pa.field("error_class", _NAME),
        pa.field("error", pa.string()),
        pa.field("stop_reason", _NAME, nullable=False),
        pa.field("success", pa.bool_(), nullable=False),
        pa.field("success_turn", pa.int16()),
        pa.field("turns", pa.int16(), nullable=False),  # completed turns
        pa.field("calls", pa.int32(), nullable=False),
        pa.field("steps", pa.string(), nullable=False),  # JSON: state, label, reward of each turn
        pa.field("started", pa.float64(), nullable=False),
        pa.field("ended", pa.float64(), nullable=False),
        *WRITTEN_BY,
    ]
)

SCHEMAS: dict[str, pa.Schema] = {
    "cases": CASES,
    "calls": CALLS,
    "turns": TURNS,
    "episodes": EPISODES,
    "judgements": JUDGEMENTS,
    "curves": CURVES,
    "rollouts": ROLLOUTS,
}


class RequiredRows(NamedTuple):
    """Rows of another table without which a committed attempt is incomplete."""

    table: str
    columns: tuple[str, ...]
    """Columns of the commit table that determine their number."""
    rows: Callable[[Mapping[str, Any]], int]
    """The number of rows, computed from these columns."""


class Commit(NamedTuple):
    """Where attempts at tasks of one kind are committed.

    The table has the columns `status` and `blame`: an attempt whose status is not `failed` settles
    its task, and so does a failure that would repeat. An attempt may have several rows, all written
    in one bundle.
    """

    table: str
    task: str
    """The column with the id of the task."""
    needs: tuple[RequiredRows, ...]
    """In the order in which they are written, all before the commit."""
    attempt: str = "attempt_id"
    """The column with the id of the attempt, which its calls have as their `attempt_id`."""


EPISODE = "episode"
"""The kind of task that plays one dialogue."""

JUDGEMENT = "judgement"
"""The kind of task in which one judge reads one dialogue or pair."""

ROLLOUT = "rollout"
"""The kind of task that plays one dialogue of a training loop."""

_DIALOGUE = (
    RequiredRows("calls", ("calls",), lambda row: row["calls"]),
    # A done episode has an opening, turn 0.
    RequiredRows("turns", ("turns", "status"), lambda r: r["turns"] + (r["status"] == "done")),
)

COMMITS: dict[str, Commit] = {
    EPISODE: Commit("episodes", "episode_id", _DIALOGUE),
    ROLLOUT: Commit("rollouts", "rollout_id", _DIALOGUE),
    JUDGEMENT: Commit(
        "judgements",
        "task_id",
        (RequiredRows("calls", ("calls",), lambda row: row["calls"]),),
        attempt="judging_id",
    ),
}
"""Kind of task -> its commit table. Other kinds commit nothing to the folder."""


def tables() -> tuple[str, ...]:
    """The tables that workers write, in writing order: commits last."""
    needed = [need.table for commit in COMMITS.values() for need in commit.needs]
    return tuple(dict.fromkeys([*needed, *(commit.table for commit in COMMITS.values())]))


def attempt_column(table: str) -> str:
    """The column of `table` with the id of the attempt that wrote the row."""
    return next((c.attempt for c in COMMITS.values() if c.table == table), "attempt_id")


def metadata(extra: dict[str, str] | None = None) -> dict[bytes, bytes]:
    """Footer entries of every file: the schema version, and the writer's additions."""
    entries = {"crsweep.schema_version": str(SCHEMA_VERSION), **(extra or {})}
    return {key.encode(): value.encode() for key, value in entries.items()}
