"""Rows of one table of a sweep folder, read part by part while a run may write and compact it.

Rows are found by the bundle that they were written in: a compacted file names the bundles that it
was made of, so that a row is found whatever file it has moved to.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweeps.storage import parts
from sweeps.storage.folder import Folder
from sweeps.storage.records import SCHEMAS

_TRIES = 20
"""Listings of a folder whose parts are gone each time they are opened."""


class StoredTable:
    """The parts of one table. Thread-safe."""

    def __init__(self, folder: Folder, table: str) -> None:
        self.folder, self.table = folder, table
        self._lock = threading.Lock()
        self._listed: list[str] | None = None
        self._live: list[str] = []
        self._replaced: dict[str, list[str]] = {}  # compacted file -> what it was made of
        self._bundles: dict[str, frozenset[str]] = {}  # part -> bundles, also of parts now gone
        self._part_of: dict[str, str] = {}  # bundle -> part

    def live(self) -> list[str]:
        """The parts that count now. PartDamaged, PartForeign, StoreError."""
        return self._current()[0]

    def _current(self) -> tuple[list[str], Mapping[str, str]]:
        """The parts that count, and bundle -> part."""
        with self._lock:
            listed = self.folder.names(self.table)
            if listed != self._listed:
                while True:
                    live = parts.live(self.folder, self.table, known=self._replaced)
                    try:
                        for name in live:
                            self._note(name)
                        break
                    except FileNotFoundError:
                        listed = self.folder.names(self.table)
                self._live, self._listed = live, listed
                self._part_of = {b: name for name in live for b in self._bundles[name]}
            return self._live, self._part_of

    def _note(self, name: str) -> None:
        if name not in self._bundles:
            own = name.partition("/")[2]
            of = self._replaced[own] if parts.is_compacted(name) else [own]
            # It names compacted files too that it was made of, and no row was written in those.
            self._bundles[name] = frozenset(
                n.removesuffix(parts.SUFFIX) for n in of if not n.startswith(parts.COMPACT)
            )

    def bundles(self, name: str) -> frozenset[str]:
        """The bundles that a part of `live` may have rows of."""
        return self._bundles[name]

    def knows(self, bundle: str) -> bool:
        return bundle in self._current()[1]

    def read(self, name: str, columns: Sequence[str]) -> pa.Table:
        """Columns of a part, null where an older file lacks them. FileNotFoundError."""
        with parts.reading(self.folder, name) as file:
            there = set(file.schema_arrow.names)
            rows = file.read(columns=[c for c in columns if c in there])
        schema = SCHEMAS[self.table]
        arrays = [
            rows[c] if c in there else pa.nulls(len(rows), schema.field(c).type) for c in columns
        ]
        return pa.table(arrays, names=list(columns))

    def find(
        self,
        column: str,
        value: str,
        bundle: str | None,
        *,
        without: Sequence[str] = (),
        turn: int | None = None,
    ) -> list[dict[str, Any]]:
        """Rows where `column` is `value`, of one turn if given, in stored order.

        They are looked for where `bundle` is now, or everywhere if it is None.
        """
        for _ in range(_TRIES):
            live, part_of = self._current()
            names = live if bundle is None else [part_of[bundle]] if bundle in part_of else []
            try:
                return [
                    row for name in names for row in self._found(name, column, value, without, turn)
                ]
            except FileNotFoundError:
                with self._lock:
                    self._listed = None
        raise FileNotFoundError(
            f"{self.folder}/{self.table}: parts keep disappearing while they are read"
        )

    def _found(
        self, name: str, column: str, value: str, without: Sequence[str], turn: int | None
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        with parts.reading(self.folder, name) as file:
            wanted = [c for c in file.schema_arrow.names if c not in without]
            keys = [column] if turn is None else [column, "turn"]
            for group in range(file.num_row_groups):
                if not _may_hold(file, group, column, value):
                    continue
                key = file.read_row_group(group, columns=keys)
                mask = pc.equal(key[column], value)  # type: ignore[attr-defined]
                if turn is not None:
                    mask = pc.and_(mask, pc.equal(key["turn"], turn))  # type: ignore[attr-defined]
                if pc.any(mask).as_py():  # type: ignore[attr-defined]
                    found += file.read_row_group(group, columns=wanted).filter(mask).to_pylist()
        return [{**dict.fromkeys(SCHEMAS[self.table].names), **row} for row in found]


def _may_hold(file: pq.ParquetFile, group: int, column: str, value: str) -> bool:
    """Whether the row group may have `value`, as far as its statistics say."""
    place = file.schema_arrow.get_field_index(column)
    chunk = file.metadata.row_group(group).column(place)
    if chunk.path_in_schema != column or not chunk.is_stats_set:
        return True
    low, high = chunk.statistics.min, chunk.statistics.max
    return not isinstance(low, str) or low <= value <= high
