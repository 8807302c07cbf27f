"""The part of the cache that sweeps share: sealed SQLite files in one folder.

- A segment is written aside, flushed to the disk, and renamed; after that it never changes. So it
  may be read by any number of processes and machines, on any file system, without locks.
- Segments are merged when there are many. A merged one is there before those that it replaces are
  removed, and two that merge at once only make a copy too many.
- Every entry has a checksum. A damaged entry is a miss with a warning, a damaged file likewise.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from agents.core.errors import StoreError
from workers.cache.entries import checksum, decode

log = logging.getLogger(__name__)

SUFFIX = ".segment"
MOST = 8  # segments that a lookup may have to search; more are merged
_BATCH = 500  # keys of one query
_VERSION = 1
_TABLE = (
    "CREATE TABLE calls (key BLOB PRIMARY KEY, value BLOB NOT NULL, sum BLOB NOT NULL, "
    "stored INTEGER NOT NULL) WITHOUT ROWID"
)


class Row(NamedTuple):
    """One entry as it is stored. `stored` is in Unix seconds."""

    key: bytes
    value: bytes
    sum: bytes
    stored: int


class Table:
    """Entries in one SQLite file: a segment, or the index of what is not yet sealed."""

    def __init__(self, path: Path, *, sealed: bool) -> None:
        self.path = path
        uri = f"{path.absolute().as_uri()}{'?mode=ro&immutable=1' if sealed else ''}"
        self._db = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
        if not sealed:
            # Lost with its process, and made again from the journal: nothing is to be flushed.
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -32000"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.execute(f"PRAGMA user_version = {_VERSION}")
            self._db.execute(_TABLE)
            self._db.execute("BEGIN")
        elif self._db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            raise sqlite3.DatabaseError("of another version")

    def add(self, rows: Iterable[Row]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?)", rows)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The entries of those keys that are here and whole."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _BATCH):
            some = keys[start : start + _BATCH]
            marks = ",".join("?" * len(some))
            for key, value, expected in self._db.execute(
                f"SELECT key, value, sum FROM calls WHERE key IN ({marks})", some
            ):
                if checksum(key, value) == expected:
                    found[key] = value
                else:
                    log.warning("%s: the entry %s is damaged", self.path, key.hex())
        return found

    def rows(self) -> Iterator[Row]:
        """All entries, in the order of their keys."""
        for row in self._db.execute("SELECT key, value, sum, stored FROM calls ORDER BY key"):
            yield Row(*row)

    def __len__(self) -> int:
        return self._db.execute("SELECT count(*) FROM calls").fetchone()[0]

    def commit(self) -> None:
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


def paths(folder: Path) -> list[Path]:
    """The segments of a folder, the newest first."""
    found = [p for p in folder.glob(f"*{SUFFIX}") if not p.name.startswith(".")]
    return sorted(found, key=lambda p: p.name, reverse=True)


def open_all(folder: Path) -> list[Table]:
    """The segments that can be read, the newest first; others are told in the log."""
    found = []
    for path in paths(folder):
        try:
            found.append(Table(path, sealed=True))
        except sqlite3.Error as error:
            log.warning("%s is no segment of the call cache: %s", path, error)
    return found


def write(folder: Path, rows: Iterable[Row]) -> Path | None:
    """Seals `rows`, in the order of their keys, as a new segment; None if there are none."""
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}{SUFFIX}"
    aside = folder / f".{name}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        table = Table(aside, sealed=False)
        try:
            table.add(rows)
            count = len(table)
            table.commit()
        finally:
            table.close()
        if count == 0:
            aside.unlink()
            return None
        _flush(aside)
        aside.rename(folder / name)
        _flush(folder)
    except (OSError, sqlite3.Error) as error:
        aside.unlink(missing_ok=True)
        raise StoreError(f"cannot write {aside}: {error}") from error
    return folder / name


def merge(folder: Path) -> None:
    """Merges the smaller segments where there are more than a lookup should search."""
    found = paths(folder)
    if len(found) <= MOST:
        return
    # The largest stay: rewriting them for every small one would cost most and gain least.
    large = sorted(found, key=lambda p: p.stat().st_size, reverse=True)[: MOST // 2]
    rewrite(folder, [path for path in found if path not in large])


def rewrite(folder: Path, old: Sequence[Path], since: float = 0.0) -> int:
    """One new segment of what `old` hold that is whole and not stored before `since`.

    Then `old` are removed. Returns how many entries were left out.
    """
    tables = []
    for path in old:
        try:
            tables.append(Table(path, sealed=True))
        except sqlite3.Error as error:
            log.warning("%s is no segment of the call cache: %s", path, error)
    dropped = 0

    def rows() -> Iterator[Row]:
        nonlocal dropped
        for table in reversed(tables):  # the newest last, so that it replaces older ones
            try:
                for row in table.rows():
                    if row.stored < since or checksum(row.key, row.value) != row.sum:
                        dropped += 1
                    else:
                        yield row
            except sqlite3.Error as error:
                log.warning("%s is damaged: %s", table.path, error)

    try:
        write(folder, rows())
    finally:
        for table in tables:
            table.close()
    for path in old:
        path.unlink(missing_ok=True)
    return dropped


class Health(NamedTuple):
    """What `verify` found in one segment."""

    path: Path
    entries: int
    damaged: int
    fault: str
    """Why the file as a whole cannot be read, if so."""


def verify(folder: Path) -> Iterator[Health]:
    """Reads every entry of every segment."""
    for path in paths(folder):
        entries = damaged = 0
        fault = ""
        try:
            with closing(Table(path, sealed=True)) as table:
                for row in table.rows():
                    entries += 1
                    damaged += not _is_whole(row)
        except sqlite3.Error as error:
            fault = str(error)
        yield Health(path, entries, damaged, fault)


def _is_whole(row: Row) -> bool:
    try:
        decode(row.value)
    except ValueError:
        return False
    return checksum(row.key, row.value) == row.sum


def size(folder: Path) -> tuple[int, int]:
    """Number and bytes of the segments of a folder."""
    found = [p.stat().st_size for p in paths(folder)]
    return len(found), sum(found)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
