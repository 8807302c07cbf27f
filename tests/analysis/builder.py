"""Sweep folders made by hand: a manifest and Parquet parts, and all that can go wrong in them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweeps.storage.records import SCHEMA_VERSION, SCHEMAS, metadata

Row = dict[str, Any]
MAX_TURNS = 5
SHOWN = 3
ITEMS = [f"i{n}" for n in range(30)]


@dataclass
class Cell:
    cell_id: str
    axes: dict[str, str]
    source_id: str = "source"
    backends: dict[str, str] = field(default_factory=lambda: {"agent": "vllm", "user": "vllm"})
    settings: dict[str, Any] = field(default_factory=dict)
    fixed_sentences: bool = False


@dataclass
class Built:
    """Rows before they are written. `case_ids` are the case permutation of every source."""

    cells: list[Cell]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    case_ids: list[str] = field(default_factory=lambda: [f"u{n}" for n in range(4)])
    sample: int | None = None  # None: all of them
    groups: dict[str, list[str]] = field(default_factory=dict)  # by case
    rows: dict[str, list[Row]] = field(
        default_factory=lambda: {
            "episodes": [],
            "turns": [],
            "calls": [],
            "judgements": [],
            "curves": [],
        }
    )
    judges: list[Row] = field(default_factory=list)

    def episode(
        self,
        cell: Cell,
        case_id: str,
        seed: int,
        *,
        success_turn: int | None = None,
        turns: Iterable[Row] = (),
        calls: Iterable[Row] = (),
        attempt: int = 0,
        opening: Row | None = None,
        **changes: Any,
    ) -> Row:
        """Adds one attempt; `changes` are columns of its row, `opening` of its turn 0."""
        attempt_id = f"{cell.cell_id}-{case_id}-{seed}-{attempt}"
        row: Row = {
            "episode_id": f"{cell.cell_id}-{case_id}-{seed}",
            "attempt_id": attempt_id,
            "cell_id": cell.cell_id,
            "source_id": cell.source_id,
            "case_id": case_id,
            "seed": seed,
            "seed_training": seed,
            "seed_order": seed,
            "axes": list(cell.axes.items()),
            "status": "done",
            "blame": None,
            "error_class": None,
            "error": None,
            "stop_reason": "accepted" if success_turn else "max_turns",
            "success": success_turn is not None,
            "success_rule": "user_accepts",
            "success_turn": success_turn,
            "accepted_item": None,
            "targets": ["i0"],
            "turns": success_turn or MAX_TURNS,
            "max_turns": MAX_TURNS,
            "shown_items": SHOWN,
            "agent_tokens": 100,
            "user_tokens": 50,
            "probe_tokens": 0,
            "critic_tokens": 0,
            "calls": 2,
            "transcript_hash": f"h-{attempt_id}",
            "artifacts": [],
            "started": 0.0,
            "ended": 1.0 + attempt,
            "bundle_id": "b",
            "driver_epoch": 1,
            **changes,
        }
        self.rows["episodes"].append(row)
        by = {"attempt_id": attempt_id, "bundle_id": "b", "driver_epoch": row["driver_epoch"]}
        self.rows["turns"] += [
            _OPENING | (opening or {}) | by,
            *({**TURN, **turn, **by} for turn in turns),
        ]
        self.rows["calls"] += [{**CALL, **call, **by} for call in calls]
        return row

    def failed(self, cell: Cell, case_id: str, seed: int, blame: str, **changes: Any) -> Row:
        """Adds an attempt that `blame` failed."""
        failure = {
            "status": "failed",
            "blame": blame,
            "error_class": "Timeout" if blame == "infrastructure" else "ReplyInvalid",
            "error": "made up",
            "stop_reason": "failed",
        }
        return self.episode(cell, case_id, seed, **{**failure, **changes})

    def judge(
        self,
        name: str,
        *dimensions: str,
        label: str = "",
        scale: tuple[float, float] = (1, 5),
        **changes: Any,
    ) -> Row:
        """Adds a judge to the plan; `changes` are fields of its entry in the manifest."""
        title = label or name
        named = [{"name": d, "kind": "turn", "low": scale[0], "high": scale[1]} for d in dimensions]
        entry: Row = {
            "title": title,
            "name": name,
            "digest": f"d-{title}",
            "samples": 1,
            "dimensions": named,
            "models": {f"judge.{title}": "strong"},
            **changes,
        }
        self.judges.append(entry)
        return entry

    def verdict(
        self,
        judge: Row,
        episode: Row,
        dimension: str,
        value: float | None,
        *,
        against: Row | None = None,
        **changes: Any,
    ) -> Row:
        """Adds a verdict on an episode, or on a pair; `changes` are columns of its row."""
        sides = [episode["episode_id"], against["episode_id"] if against else None]
        row: Row = {
            **JUDGEMENT,
            "episode_id": episode["episode_id"],
            "attempt_id": episode["attempt_id"],
            "transcript_hash": episode["transcript_hash"],
            "judge": judge["title"],
            "judge_digest": judge["digest"],
            "dimension": dimension,
            "value": value,
            "status": "valid" if value is not None else "unparsed",
            **changes,
        }
        if against is not None:
            row |= {
                "other_episode_id": against["episode_id"],
                "other_attempt_id": against["attempt_id"],
                "other_transcript_hash": against["transcript_hash"],
            }
        # One task for each judge, sample and dialogue or pair.
        task = f"{judge['digest']}-{sides}-{row['sample']}"
        row = {"task_id": task, "judging_id": f"{task}-1"} | row
        named = [row[key] for key in ("task_id", "turn", "item", "dimension", "order")]
        row["judgement_id"] = f"{named}"
        self.rows["judgements"].append(row)
        return row

    def label(
        self,
        annotator: str,
        name: str,
        episode: Row,
        dimension: str,
        value: float,
        **changes: Any,
    ) -> Row:
        """Adds what a person said, as an answer to the questions of the judge `name`."""
        questions = {"title": name, "digest": "people"}
        where = [
            changes.get("turn", 1),
            dimension,
            (changes.get("against") or {}).get("episode_id"),
        ]
        task = f"{annotator}-{name}-{episode['episode_id']}-{where}"
        named = {"annotator": annotator, "task_id": task, "judging_id": f"{task}-1", "calls": 0}
        return self.verdict(questions, episode, dimension, value, **named, **changes)

    def write(self, folder: Path, *, parts: int = 3, **changes: Any) -> Path:
        """Writes manifest and parts; `changes` are fields of the manifest."""
        folder.mkdir(parents=True, exist_ok=True)
        for table, rows in self.rows.items():
            for part in range(parts):
                chosen = rows[part::parts]
                if chosen:
                    _write(folder, table, f"0001-w{part}-{part:06}.parquet", chosen)
        sources = sorted({cell.source_id for cell in self.cells})
        _write(folder, "cases", "0001.parquet", list(self._case_rows(sources)))
        (folder / "manifest.json").write_text(json.dumps(self._manifest(sources) | changes))
        return folder

    def _case_rows(self, sources: Iterable[str]) -> Iterable[Row]:
        for source in sources:
            for position, case_id in enumerate(self.case_ids):
                yield {
                    "source_id": source,
                    "position": position,
                    "case_id": case_id,
                    "targets": ["i0"],
                    "history_length": 5,
                    "groups": self.groups.get(case_id, []),
                    "bundle_id": "b",
                    "driver_epoch": 1,
                }

    def _manifest(self, sources: Iterable[str]) -> dict[str, Any]:
        seeds = [[seed, seed, seed] for seed in self.seeds]
        return {
            "schema_version": SCHEMA_VERSION,
            "oldest_parts": SCHEMA_VERSION,
            "name": "built",
            "driver_epoch": 1,
            "cells": [{**vars(cell), "seeds": seeds} for cell in self.cells],
            "sources": [
                {
                    "source_id": source,
                    "domain": source,
                    "split": "test",
                    "sample": self.sample or len(self.case_ids),
                    "fingerprint": "f",
                }
                for source in sources
            ],
            "seeds": self.seeds,
            "seed_varies": "sampling",
            "judges": self.judges,
            "metrics": ["sr@5"],
            "cases_file": "0001.parquet",
            "plugin_sources": {},
            "versions": {},
            "host": {},
            "revision": None,
            "dirty": None,
            "config": {},
            "started": 0.0,
        }


def _write(folder: Path, table: str, name: str, rows: list[Row]) -> None:
    (folder / table).mkdir(exist_ok=True)
    schema = SCHEMAS[table].with_metadata(metadata())
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / table / name)


TURN: Mapping[str, Any] = {
    "turn": 1,
    "action": "recommend",
    "strategy": None,
    "shown": [],
    "ranking": None,
    "candidates": None,
    "agent_text": "a",
    "user_text": "u",
    "user_decision": "refuse",
    "accepted_item": None,
    "user_leaves": False,
    "feedback": "{}",
    "extra": "{}",
    "user_extra": "{}",
}
_OPENING = {**TURN, "turn": 0, "action": None, "agent_text": None, "user_decision": None}
CALL: Mapping[str, Any] = {
    "turn": 1,
    "role": "agent",
    "step": "decide",
    "draw": 0,
    "reask": 0,
    "model": "strong",
    "request_key": "k",
    "seed": 1,
    "input_tokens": 10,
    "output_tokens": 5,
    "thinking_tokens": None,
    "finish_reason": "stop",
    "valid": True,
    "cached": False,
    "retries": 0,
    "error_class": None,
    "error": None,
    "started": 0.0,
    "seconds": 0.1,
    "prompt": "[]",
    "reply": "{}",
}


JUDGEMENT: Mapping[str, Any] = {
    "other_episode_id": None,
    "other_attempt_id": None,
    "other_transcript_hash": None,
    "prefix": None,
    "other_reply": None,
    "turn": 1,
    "item": None,
    "sample": 0,
    "order": None,
    "reason": "made up",
    "blame": None,
    "error_class": None,
    "error": None,
    "annotator": None,
    "calls": 1,
    "started": 0.0,
    "ended": 1.0,
    "bundle_id": "b",
    "driver_epoch": 1,
}


def recorded(**record: bool) -> str:
    """The column `user_extra`: what a simulated user records of a turn."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"))


def grid_of(*agents: str, backbones: Iterable[str] = ("strong", "weak")) -> list[Cell]:
    """Cells of agents x backbones."""
    return [
        Cell(f"{agent}/{backbone}", {"agent": agent, "roles.agent": backbone})
        for agent in agents
        for backbone in backbones
    ]


def messy(number: int, cases: int = 5) -> Built:
    """A random sweep with every kind of mess: see the comments."""
    random_ = random.Random(number)
    built = Built(
        grid_of("ask", "tool"), case_ids=[f"u{n}" for n in range(cases + 1)], sample=cases
    )
    for cell in built.cells:
        for case_id in built.case_ids:  # the last one is beyond the plan's sample
            for seed in [*built.seeds, 99]:  # 99 is not a seed of the plan any more
                if case_id == "u2" and random_.random() < 0.3:
                    continue  # an incomplete block
                _random_episode(built, random_, cell, case_id, seed)
    _random_episode(built, random_, Cell("gone", {"agent": "gone"}), "u0", 0)  # an earlier plan's
    random_.shuffle(built.rows["episodes"])
    return built


def _random_episode(
    built: Built, random_: random.Random, cell: Cell, case_id: str, seed: int
) -> None:
    """One episode, with earlier failures and a occasional duplicates of a stray worker."""
    attempt = 0
    while random_.random() < 0.15:
        blame = random_.choice(["infrastructure", "agent"])
        built.failed(cell, case_id, seed, blame, attempt=attempt, **_words(random_, cell, None))
        attempt += 1
    fate = random_.random()
    if fate < 0.2:
        blame = random_.choice(["infrastructure", "agent", "user", "critic"])
        built.failed(cell, case_id, seed, blame, attempt=attempt, **_words(random_, cell, None))
        return
    for copy in range(1 + (random_.random() < 0.2)):  # a stray worker: done twice, as two attempts
        success = random_.choice([None, 1, 2, 3, 4, 5])
        built.episode(
            cell,
            case_id,
            seed,
            success_turn=success,
            attempt=attempt + copy,
            driver_epoch=random_.choice([1, 2]),
            ended=float(random_.randrange(5)),
            **_words(random_, cell, success),
        )


def _words(random_: random.Random, cell: Cell, success: int | None) -> dict[str, Any]:
    tool, count = cell.axes["agent"] == "tool", success or random_.randrange(MAX_TURNS + 1)
    turns, calls = [], []
    for turn in range(1, count + 1):
        ranking = random_.sample(ITEMS, random_.randrange(9))
        known = random_.random() < 0.95
        turns.append(
            {
                "turn": turn,
                "action": random_.choice(["ask", "recommend", "recommend", "chat"]),
                "shown": ranking[:SHOWN],
                "ranking": ranking if known else None,
                "candidates": random_.sample(ITEMS, 12) if tool and turn > 1 else None,
                "user_decision": "accept" if turn == success else "refuse",
                # Users of one agent record nothing of themselves.
                "user_extra": "{}"
                if tool
                else recorded(leak=random_.random() < 0.1, disagrees=random_.random() < 0.3),
            }
        )
        for role, step in (("agent", "decide"), ("agent.probe", "decide"), ("user", "reply")):
            calls.append(
                {
                    "turn": turn,
                    "role": role,
                    "step": step,
                    "input_tokens": random_.randrange(1, 50),
                    "output_tokens": random_.randrange(1, 50),
                    "thinking_tokens": random_.choice([None, 3]),
                }
            )
    said = {} if tool else {"user_extra": recorded(leak=random_.random() < 0.1)}
    targets = random_.sample(ITEMS, 2)
    return {"opening": said, "turns": turns, "calls": calls, "targets": targets}
