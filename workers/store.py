"""The sweep folder as workers write it and drivers resume from it.

1. A bundle is written as parts of `calls`, `turns`, then `episodes`: each aside, flushed to the
   disk, then renamed. The part of `episodes` is the commit: finished means committed.
2. A crash before the last rename leaves rows without an episode, which no reader joins.
3. Part names hold epoch, writer and a running number, so no two writers ever meet.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agents.core.errors import StoreError
from sweeps import parts
from sweeps.records import SCHEMAS, metadata

_ORDER = ("calls", "turns", "episodes")  # the commit last
# What would fail again in the same way is not tried again.
WOULD_REPEAT = ("agent", "user", "critic")


class BundleWriter:
    """Writes the bundles of one writer in one epoch of a sweep folder."""

    def __init__(self, folder: Path, epoch: int, writer: str) -> None:
        self._folder = folder
        self._epoch = epoch
        self._writer = writer
        self._number = 0

    def write(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
        """Writes rows of `tables` as one bundle; its id. Raises StoreError."""
        self._number += 1
        bundle = f"{self._epoch:06d}-{self._writer}-{self._number:06d}"
        stamp = {"bundle_id": bundle, "driver_epoch": self._epoch}
        for name in _ORDER:
            if tables.get(name):
                write_part(self._folder / name / (bundle + parts.SUFFIX), name, tables[name], stamp)
        return bundle


def write_part(
    path: Path, table: str, rows: Sequence[Mapping[str, Any]], stamp: Mapping[str, Any]
) -> None:
    """Writes `rows`, each with the columns of `stamp`, as the whole part `path`, or nothing."""
    schema = SCHEMAS[table]
    columns = []
    for column in schema:
        if column.name in stamp:
            columns.append(_constant(stamp[column.name], column.type, len(rows)))
        else:
            columns.append(pa.array([row[column.name] for row in rows], type=column.type))
    data = pa.Table.from_arrays(columns, schema=schema.with_metadata(metadata()))
    aside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            pq.write_table(data, file, compression="zstd", compression_level=1)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            aside.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _constant(value: Any, kind: pa.DataType, length: int) -> pa.Array:
    if pa.types.is_dictionary(kind):
        indices = pa.repeat(pa.scalar(0, kind.index_type), length)
        return pa.DictionaryArray.from_arrays(indices, pa.array([value], kind.value_type))
    return pa.repeat(pa.scalar(value, kind), length)


def committed(folder: Path) -> set[str]:
    """Ids of the episodes that need no further attempt: done, or failed and sure to repeat."""
    found: set[str] = set()
    columns = ["episode_id", "status", "blame"]
    for path in parts.live(folder, "episodes"):
        parts.footer_of(path)
        rows = pq.read_table(path, columns=columns)
        settled = pc.or_kleene(  # type: ignore[attr-defined]
            pc.equal(rows["status"].cast(pa.string()), "done"),  # type: ignore[attr-defined]
            pc.is_in(rows["blame"].cast(pa.string()), pa.array(WOULD_REPEAT)),  # type: ignore[attr-defined]
        )
        found.update(rows["episode_id"].filter(settled).to_pylist())
    return found


def committed_by(folder: Path, epoch: int, writer: str) -> dict[str, str]:
    """Attempt id -> status of what one writer has committed: what a lost worker left behind."""
    mine = f"{epoch:06d}-{writer}-"
    found: dict[str, str] = {}
    for path in parts.live(folder, "episodes"):
        if path.name.startswith(mine):
            rows = pq.read_table(path, columns=["attempt_id", "status"]).to_pylist()
            found.update((row["attempt_id"], row["status"]) for row in rows)
    return found


def remove_leftovers(folder: Path) -> int:
    """Deletes parts that were still being written when their writer died; how many."""
    found = [p for table in SCHEMAS for p in (folder / table).glob(".*.tmp")]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)
