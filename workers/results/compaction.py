"""Merges many small parts into few: at most one file for every 2,000 attempts of each table.

1. The driver does this under its lease. A compacted file names the parts that it replaces in its
   footer. As soon as it exists, readers skip those; before that, they skip nothing.
2. Only then are the parts deleted. If a driver is killed, the next one deletes what it has left.
3. Rows are neither dropped nor changed, not even uncommitted ones: a stray worker may be about to
   commit them. They keep their order: by epoch, writer and time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agents.core.errors import StoreError
from sweeps.storage import parts, records
from sweeps.storage.folder import Folder
from sweeps.storage.records import SCHEMAS, attempt_column, metadata
from workers.results.bundles import read_columns

ATTEMPTS = 2_000
"""A file with this many is full, and left as it is."""
# Analysis reads all but the calls, for which zstd costs time; calls are nearly all of the bytes.
_COMPRESSION: dict[str, tuple[str, int | None]] = {"calls": ("zstd", 3)}
_COMPRESSION_ELSE = ("lz4", None)
# Columns whose values rarely repeat, so a dictionary would only be one more thing to read.
_DISTINCT = {
    "episode_id",
    "attempt_id",
    "transcript_hash",
    "request_key",
    "agent_text",
    "user_text",
}
_DISTINCT |= {"prompt", "reply", "thinking", "started", "ended", "seconds"}
_GROUP_BYTES = 64 * 2**20  # of one row group before it is compressed: what bounds the memory


class WriteRight(Protocol):
    """The right to write to the folder: a lease."""

    epoch: int

    def held(self) -> AbstractContextManager[Any]: ...


def remove_replaced(folder: Folder) -> int:
    """Deletes the parts that compacted files replace. Returns how many."""
    count = 0
    for table in records.tables():
        for name in parts.replaced(folder, table):
            folder.delete(name)
            count += 1
    return count


def compact(folder: Folder, right: WriteRight) -> int:
    """Merges the parts that are not full, table by table. Returns how many files were written.

    Raises StoreError if the disk or the lease is lost, PartDamaged for an unreadable part; the
    folder then reads as before.
    """
    try:
        remove_replaced(folder)
        return sum(_compact(folder, table, right) for table in records.tables())
    except OSError as error:
        where = error.filename or folder
        raise StoreError(f"cannot compact {where}: {error.strerror or error}") from error


def _compact(folder: Folder, table: str, right: WriteRight) -> int:
    written = 0
    for group in _groups(folder, table):
        if len(group) > 1:
            rewrite(folder, table, group, right)
            written += 1
    return written


def _groups(folder: Folder, table: str) -> Iterator[list[str]]:
    """Parts in order, in groups of 2,000 attempts or slightly more, except the last."""
    group: list[str] = []
    total = 0
    oldest_first = sorted(
        parts.live(folder, table), key=lambda name: (not parts.is_compacted(name), name)
    )
    for name in oldest_first:
        count = _attempts(folder, table, name)
        if count >= ATTEMPTS:
            continue
        group.append(name)
        total += count
        if total >= ATTEMPTS:
            yield group
            group, total = [], 0
    if group:
        yield group


def _attempts(folder: Folder, table: str, name: str) -> int:
    """How many attempts have rows in the part."""
    column = attempt_column(table)
    attempts = read_columns(folder, name, [column])[column]
    return pc.count_distinct(attempts).as_py()  # type: ignore[attr-defined]


def rewrite(
    folder: Folder,
    table: str,
    group: Sequence[str],
    right: WriteRight,
    without: Sequence[str] = (),
) -> None:
    """Replaces parts by one file with their rows, without those of the attempts `without`."""
    replaced: list[str] = []
    for name in group:
        replaced += [name.removeprefix(f"{table}/")]
        replaced += parts.replaced_by(folder, name)
    footer = metadata({parts.REPLACES: json.dumps(replaced)})
    name = f"{table}/{_free_name(folder, table, right.epoch)}"
    schema = SCHEMAS[table].with_metadata(footer)
    compression, level = _COMPRESSION.get(table, _COMPRESSION_ELSE)
    dictionary = [path for path in _leaves(folder, group[0]) if path not in _DISTINCT]
    # Holds the lease until the file exists, because the next driver may merge the same parts.
    with (
        right.held(),
        folder.writing(name) as file,
        pq.ParquetWriter(
            file,
            schema,
            compression=compression,
            compression_level=level,
            use_dictionary=dictionary,  # type: ignore[arg-type]
            write_page_checksum=True,
        ) as writer,
    ):
        for rows in _row_groups(folder, table, group):
            if without:
                attempts = rows[attempt_column(table)]
                known = pc.is_in(attempts, pa.array(without))  # type: ignore[attr-defined]
                rows = rows.filter(pc.invert(known))  # type: ignore[attr-defined]
            if len(rows):
                writer.write_table(rows, row_group_size=len(rows))
    for part in group:
        folder.delete(part)


def _leaves(folder: Folder, name: str) -> list[str]:
    """The column paths used by Parquet: `targets.list.element`."""
    with parts.reading(folder, name) as file:
        columns = file.schema
        return [columns.column(index).path for index in range(len(columns))]


def _row_groups(folder: Folder, table: str, group: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of all parts, in order, in few large pieces, which are faster to read."""
    pending: list[pa.Table] = []
    for name in group:
        with parts.reading(folder, name) as file:
            for index in range(file.num_row_groups):
                rows = file.read_row_group(index)
                rows.validate(full=True)  # damaged data must not get a checksum
                pending.append(_completed(rows, table))
                if sum(rows.nbytes for rows in pending) >= _GROUP_BYTES:
                    yield parts.concatenated(pending)
                    pending = []
    if pending:
        yield parts.concatenated(pending)


def _completed(rows: pa.Table, table: str) -> pa.Table:
    """`rows` of any readable version, converted to the current schema."""
    columns = [
        rows[field.name] if field.name in rows.column_names else pa.nulls(len(rows), field.type)
        for field in SCHEMAS[table]
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMAS[table])


def _free_name(folder: Folder, table: str, epoch: int) -> str:
    """A name that no compacted file of this epoch has, or had before it was set aside."""
    start = f"{parts.COMPACT}{epoch:06d}-"
    taken = [
        int(name.removeprefix(start).partition(".")[0])
        for name in folder.names(table)
        if name.startswith(start)
    ]
    return f"{start}{max(taken, default=0) + 1:06d}{parts.SUFFIX}"
