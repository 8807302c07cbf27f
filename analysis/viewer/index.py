"""The episodes of a sweep in memory, a narrow row each, and numbered snapshots of them.

- A row is visible in the snapshots `since <= number < until`. What is committed later gets a later
  number, and an attempt that another one replaces ends there: paging in one snapshot shows each of
  its episodes once, whatever is committed, retried or compacted meanwhile.
- `place` is the order of the plan: position of the case, then cell and seeds. In one snapshot no
  two rows share it.
- Only new parts are read. Of a compacted file that is made of known parts, only the footer is.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from agents.core.errors import UsageError
from analysis import sql
from analysis.results import Results, sweep_at
from analysis.viewer.stored import StoredTable
from sweeps.manifest import Manifest
from sweeps.storage import parts
from sweeps.storage.folder import Folder

MEMORY = "640MB"
"""Of the index: a million episodes need 250 MB, and a sort of them nearly as much again."""

_AT_ONCE = 32  # parts that are read before their rows are added
_SETS = 16  # results of free conditions that are kept
_EPISODE_COLUMNS = (
    "episode_id attempt_id cell_id case_id seed seed_training seed_order status blame error_class "
    "stop_reason success success_turn turns agent_tokens user_tokens transcript_hash started ended "
    "bundle_id driver_epoch"
)
_JUDGEMENT_COLUMNS = (
    "judgement_id task_id judging_id episode_id transcript_hash other_episode_id "
    "other_transcript_hash turn item judge judge_digest dimension sample order status value "
    "annotator ended bundle_id driver_epoch"
)
_COLUMNS = {"episodes": _EPISODE_COLUMNS.split(), "judgements": _JUDGEMENT_COLUMNS.split()}
_UNLESS = {
    "episodes": "ANTI JOIN listed k ON k.attempt_id = g.attempt_id",
    "judgements": "ANTI JOIN all_judgements k ON k.judgement_id = hash(g.judgement_id) "
    "AND k.judging_id = g.judging_id",
}


class Snapshot(NamedTuple):
    number: int
    taken: float
    """Seconds since the epoch."""


class Index:
    """Episodes and verdicts of one plan. Thread-safe: `refresh` writes, cursors read."""

    def __init__(self, folder: Folder, first: int = 1) -> None:
        """Reads the plan; call `refresh` before anything else. Snapshots count from `first`."""
        self.folder = folder
        self.first = first
        results = Results(*sweep_at(folder), plan_only=True)  # the parts are read below
        self.manifest = results.manifest
        self.axes = results.axes
        self.planned = results.planned
        self.stored = {name: StoredTable(folder, name) for name in ("turns", "calls", *_COLUMNS)}
        self.snapshots: list[Snapshot] = []
        self._lock = threading.RLock()
        self._known: dict[str, set[str]] = {table: set() for table in _COLUMNS}
        self._sets: OrderedDict[tuple[Any, ...], str] = OrderedDict()
        self._made = 0
        self._db = duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": ""})
        self._db.execute("SET enable_progress_bar = false")
        self._db.execute("SET python_enable_replacements = false")
        for table, query in {
            "plan_cells": "SELECT cell, cell_id, source_id FROM plan_cells",
            "plan_repetitions": "SELECT * FROM plan_repetitions",
            "plan_judges": "SELECT * FROM plan_judges",
            "plan_pairs": "SELECT * FROM plan_pairs",
            "places": "SELECT source_id, case_id, position::BIGINT AS position FROM cases",
            "place_groups": _groups(results),
        }.items():
            self._db.register("given", results.arrow(query))
            self._db.execute(f"CREATE TABLE {table} AS SELECT * FROM given")
            self._db.unregister("given")
        results.db.close()
        self._db.execute(sql.read("viewer_tables"))
        self._db.execute(f"CREATE VIEW judgements AS {sql.read('judgements')}")

    @property
    def newest(self) -> Snapshot:
        return self.snapshots[-1]

    def has(self, number: int) -> bool:
        return self.first <= number <= self.newest.number

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for one thread. Close it."""
        return self._db.cursor()

    def rows(self, text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows of a query of ours, by column."""
        with self.cursor() as db:
            found = db.execute(text, list(parameters))
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def refresh(self) -> Snapshot:
        """Reads what was committed since; a new snapshot if that is anything.

        PartDamaged, PartForeign, StoreError.
        """
        with self._lock:
            number = self.first + len(self.snapshots)
            episodes = self._read_new("episodes", number)
            verdicts = self._read_new("judgements", number)
            if episodes:
                self._db.execute(sql.read("viewer_supersede").format(number=number))
            if episodes or verdicts or not self.snapshots:
                self.snapshots.append(Snapshot(number, time.time()))
            return self.newest

    def chosen(self, key: tuple[Any, ...]) -> str | None:
        """The table that `choose` made for `key`, if it is still kept."""
        with self._lock:
            if key in self._sets:
                self._sets.move_to_end(key)
            return self._sets.get(key)

    def choose(self, key: tuple[Any, ...], attempts: np.ndarray) -> str:
        """Keeps hashes of attempt ids, DuckDB's, as a table with the column `attempt`."""
        with self._lock:
            self._made += 1
            name = f"chosen_{self._made}"
            with self._db.cursor() as db:
                db.register("given", pa.table({"attempt": pa.array(attempts, pa.uint64())}))
                db.execute(f"CREATE TABLE {name} AS SELECT DISTINCT attempt FROM given")
            self._sets[key] = name
            if len(self._sets) > _SETS:
                self._db.execute(f"DROP TABLE {self._sets.popitem(last=False)[1]}")
            return name

    def plan_differs(self, manifest: Manifest) -> bool:
        """Whether a later run has changed the plan of the folder."""
        return _plan_of(manifest) != _plan_of(self.manifest)

    def bundle_of(self, bundle: str) -> str | None:
        """`bundle`, or None if no part has its name, so that rows of it may be anywhere."""
        return bundle if self.stored["episodes"].knows(bundle) else None

    def close(self) -> None:
        self._db.close()

    def _read_new(self, table: str, number: int) -> bool:
        """Adds the rows of parts that are not known yet; whether there were any."""
        stored, known, found = self.stored[table], self._known[table], False
        while True:
            new = [name for name in stored.live() if not stored.bundles(name) <= known]
            if not new:
                return found
            for start in range(0, len(new), _AT_ONCE):
                group = new[start : start + _AT_ONCE]
                try:
                    rows = parts.concatenated(stored.read(name, _COLUMNS[table]) for name in group)
                except FileNotFoundError:  # compacted meanwhile
                    break
                bundles = frozenset().union(*map(stored.bundles, group))
                mixed = not bundles.isdisjoint(known)
                self._add(table, rows, number, _UNLESS[table] if mixed else "")
                known |= bundles
                found |= len(rows) > 0

    def _add(self, table: str, rows: pa.Table, number: int, unless: str) -> None:
        with self._db.cursor() as db:
            db.register("given", rows)
            text = sql.read(f"viewer_add_{table}").format(number=number, unless=unless)
            try:
                db.execute(text)
            except duckdb.OutOfMemoryException:
                raise UsageError(
                    f"the viewer keeps the list of episodes in {MEMORY}, which this sweep exceeds"
                ) from None


def _groups(results: Results) -> str:
    """The groups of users that cases are in; folders before version 4 record none."""
    columns = {row[0] for row in results.query("DESCRIBE cases").fetchall()}
    groups = "groups" if "groups" in columns else "NULL::VARCHAR[]"
    return (
        f'SELECT source_id, position::BIGINT AS position, unnest({groups})::VARCHAR AS "group" '
        "FROM cases"
    )


def _plan_of(manifest: Manifest) -> Mapping[str, Any]:
    return manifest.model_dump(include={"cells", "sources", "judges", "cases_file", "name"})
