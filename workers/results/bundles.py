"""The sweep folder as workers write it and drivers resume from it.

1. A bundle is written as parts of `calls`, `turns`, then the commit tables (`episodes`), each
   complete and durable before the next. The rows in a commit table are the commit.
2. A crash before those leaves rows without a committed attempt, which no reader joins.
3. Part names contain epoch, writer and a running number, so no two writers use the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agents.core.errors import StoreError
from sweeps.storage import parts, records
from sweeps.storage.folder import Folder, folder_at
from sweeps.storage.records import COMMITS, EPISODE, SCHEMAS, Commit, metadata
from workers.results import lease

# Errors that would recur are not retried.
WOULD_REPEAT = ("agent", "user", "critic")


class Unstorable(Exception):
    """A value that the column with this name cannot hold."""

    def __init__(self, column: str, cause: Exception) -> None:
        super().__init__(f"{column}: {cause}")
        self.column = column


class BundleWriter:
    """Writes the bundles of one writer in one epoch of a sweep folder."""

    def __init__(self, folder: Folder | Path, epoch: int, writer: str) -> None:
        self._folder = folder_at(folder)
        self._epoch = epoch
        self._writer = writer
        self._number = 0

    def write(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
        """Writes rows of `tables` as one bundle, and returns its id.

        Raises StoreError, also if another driver has taken over the folder: others are running its
        episodes, and of two attempts the earlier one would count. Raises Unstorable, before
        anything is written, if a column cannot hold a value.
        """
        lease.check(self._folder, self._epoch)
        self._number += 1
        bundle = f"{self._epoch:06d}-{self._writer}-{self._number:06d}"
        stamp = {"bundle_id": bundle, "driver_epoch": self._epoch}
        order = [name for name in records.tables() if tables.get(name)]
        whole = {name: table_of(name, tables[name], stamp) for name in order}
        for name, data in whole.items():
            _write_table(self._folder, f"{name}/{bundle}{parts.SUFFIX}", data)
        return bundle


def write_part(
    folder: Folder,
    name: str,
    table: str,
    rows: Sequence[Mapping[str, Any]],
    stamp: Mapping[str, Any],
) -> None:
    """Writes `rows`, each with the columns of `stamp`, as the complete part `name`, or nothing."""
    _write_table(folder, name, table_of(table, rows, stamp))


def _write_table(folder: Folder, name: str, data: pa.Table) -> None:
    try:
        with folder.writing(name) as file:
            pq.write_table(
                data, file, compression="zstd", compression_level=1, write_page_checksum=True
            )
    except OSError as error:
        raise StoreError(f"cannot write {folder}/{name}: {error.strerror or error}") from error


def table_of(table: str, rows: Sequence[Mapping[str, Any]], stamp: Mapping[str, Any]) -> pa.Table:
    """`rows`, each with the columns of `stamp`, in the schema of `table`. Raises Unstorable."""
    schema = SCHEMAS[table]
    names = [name for name in schema.names if name not in stamp]
    # All columns in one pass over the rows; without rows there is nothing to turn round.
    found = zip(*map(itemgetter(*names), rows), strict=True) if rows else [()] * len(names)
    values_of = dict(zip(names, found, strict=True))
    columns = []
    for column in schema:
        if column.name in stamp:
            columns.append(_constant(stamp[column.name], column.type, len(rows)))
        else:
            try:
                values = pa.array(values_of[column.name], type=column.type)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise Unstorable(column.name, error) from error
            if values.null_count and not column.nullable:
                raise Unstorable(column.name, ValueError("a value is missing"))
            columns.append(values)
    return pa.Table.from_arrays(columns, schema=schema.with_metadata(metadata()))


def check_rows(table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises Unstorable if a value of `rows` does not fit its column."""
    table_of(table, rows, {"bundle_id": "", "driver_epoch": 0})


def _constant(value: Any, kind: pa.DataType, length: int) -> pa.Array:
    if pa.types.is_dictionary(kind):
        indices = pa.repeat(pa.scalar(0, kind.index_type), length)
        return pa.DictionaryArray.from_arrays(indices, pa.array([value], kind.value_type))
    return pa.repeat(pa.scalar(value, kind), length)


def committed(folder: Folder | Path, kind: str = EPISODE) -> set[str]:
    """The ids of tasks that need no further attempt: done, or failed in a way that would repeat."""
    while True:
        try:
            return _committed(folder_at(folder), COMMITS[kind])
        except FileNotFoundError:  # a driver has compacted it meanwhile
            continue


def _committed(folder: Folder, commit: Commit) -> set[str]:
    found: set[str] = set()
    for name in parts.live(folder, commit.table):
        parts.footer_of(folder, name)
        rows = read_columns(folder, name, [commit.task, "status", "blame"])
        settled = pc.or_kleene(  # type: ignore[attr-defined]
            pc.not_equal(rows["status"].cast(pa.string()), "failed"),  # type: ignore[attr-defined]
            pc.is_in(rows["blame"].cast(pa.string()), pa.array(WOULD_REPEAT)),  # type: ignore[attr-defined]
        )
        found.update(rows[commit.task].filter(settled).to_pylist())
    return found


def artifacts_used(folder: Folder | Path) -> dict[tuple[str, int, str], set[str]]:
    """(cell id, training seed, name) -> digests of the artifact in committed, done episodes."""
    while True:
        try:
            return _artifacts_used(folder_at(folder))
        except FileNotFoundError:  # a driver has compacted it meanwhile
            continue


def _artifacts_used(folder: Folder) -> dict[tuple[str, int, str], set[str]]:
    found: dict[tuple[str, int, str], set[str]] = {}
    columns = ["cell_id", "seed_training", "status", "artifacts"]
    for name in parts.live(folder, "episodes"):
        rows = read_columns(folder, name, columns)
        if "artifacts" not in rows.column_names:
            continue  # of a version without them
        for row in rows.to_pylist():
            if row["status"] == "done":
                for artifact, digest in row["artifacts"] or ():
                    key = (row["cell_id"], row["seed_training"], artifact)
                    found.setdefault(key, set()).add(digest)
    return found


def committed_by(folder: Folder | Path, epoch: int, writer: str) -> dict[str, str]:
    """Attempt id -> `done` or `failed`, for everything that one (lost) worker has committed."""
    folder = folder_at(folder)
    mine = f"{epoch:06d}-{writer}-"
    found: dict[str, str] = {}
    for commit in COMMITS.values():
        columns = [commit.attempt, "status", "bundle_id"]
        for name in _may_hold(folder, commit.table, mine, epoch):
            for row in read_columns(folder, name, columns).to_pylist():
                if row["bundle_id"].startswith(mine):
                    failed = "failed" in (row["status"], found.get(row[commit.attempt]))
                    found[row[commit.attempt]] = "failed" if failed else "done"
    return found


def _may_hold(folder: Folder, table: str, bundles: str, epoch: int) -> Iterator[str]:
    """Parts of a commit table that may contain bundles with this name."""
    for name in parts.live(folder, table):
        if parts.is_compacted(name):
            # A compacted part is of its driver's epoch or older.
            made = parts.epoch_of(name)
            if made is None or made >= epoch:
                yield name
        elif name.startswith(f"{table}/{bundles}"):
            yield name


def read_columns(folder: Folder, name: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of one part. Raises PartDamaged if they are not what was written."""
    with parts.reading(folder, name) as file:
        rows = file.read(list(columns))
        rows.validate(full=True)  # parts of earlier versions have no checksums
        return rows
