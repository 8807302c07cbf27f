"""The part of the cache that sweeps share: sealed SQLite files in one folder.

- A segment is written to a temporary file, flushed, and renamed; after that it never changes. So
  any number of processes and machines can read it, on any file system, without locks.
- If there are many segments, they are merged. The merged one exists before those it replaces are
  removed; two merges at the same time only make an extra copy.
- Every entry has a checksum. A damaged entry or file is a miss, with a warning; a file that cannot
  be read (yet, or by this version) is never removed.
"""

from __future__ import annotations

import heapq
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from agents.core.errors import StoreError
from sweeps.storage.folder import flush
from workers.cache.entries import FORMAT, checksum, decode

log = logging.getLogger(__name__)

SUFFIX = ".segment"
MOST = 8  # segments that a lookup may have to search; more are merged
_BATCH = 500  # keys of one query
_STALE_SECONDS = 24 * 3600.0  # without a change: its writer is gone
_TABLE = (
    "CREATE TABLE calls (key BLOB PRIMARY KEY, value BLOB NOT NULL, sum BLOB NOT NULL, "
    "stored INTEGER NOT NULL) WITHOUT ROWID"
)


class SegmentRow(NamedTuple):
    """One stored entry. `stored` is in Unix seconds."""

    key: bytes
    value: bytes
    sum: bytes
    stored: int

    @property
    def whole(self) -> bool:
        return isinstance(self.value, bytes) and checksum(self.key, self.value) == self.sum


class SegmentTable:
    """Entries in one SQLite file: a segment, sealed or in progress, or (without `path`) an index of
    unsealed entries.

    An index has no name on disk, so nothing of it outlives its process.
    """

    def __init__(self, path: Path | None, *, sealed: bool = False) -> None:
        self.path = path
        self.damaged: set[bytes] = set()
        """Keys whose entries were found to be damaged."""
        uri = (
            f"{path.absolute().as_uri()}{'?mode=ro&immutable=1' if sealed else ''}" if path else ""
        )
        self._db = sqlite3.connect(
            uri, uri=bool(path), check_same_thread=False, isolation_level=None
        )
        self._db.text_factory = bytes  # missing only because of damage
        try:
            self._open(sealed)
        except sqlite3.Error:
            self._db.close()
            raise

    def _open(self, sealed: bool) -> None:
        if not sealed:
            # It is flushed as a whole when sealed, and rebuilt from journals otherwise.
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -32000"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            self._db.execute(_TABLE)
            self._db.execute("BEGIN")
        elif (found := self._one("PRAGMA user_version")) != FORMAT:
            raise sqlite3.DatabaseError(f"entries of format {found}, not {FORMAT}")

    def add(self, rows: Iterable[SegmentRow]) -> int:
        """Adds entries, replacing existing ones. Returns how many."""
        return self._db.executemany(
            "INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?)", rows
        ).rowcount

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The intact entries with those keys."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _BATCH):
            some = keys[start : start + _BATCH]
            marks = ",".join("?" * len(some))
            for key, value, expected in self._read(
                f"SELECT key, value, sum FROM calls WHERE key IN ({marks})", some
            ):
                if not isinstance(key, bytes):  # SQLite found it by its place
                    log.warning("%s: an entry without its key is damaged", self.path)
                elif SegmentRow(key, value, expected, 0).whole:
                    found[key] = value
                else:
                    self.damaged.add(key)
                    log.warning("%s: the entry %s is damaged", self.path, key.hex())
        return found

    def rows(self) -> Iterator[SegmentRow]:
        """All entries, ordered by key. Raises sqlite3.Error if the file is damaged."""
        for row in self._read("SELECT key, value, sum, stored FROM calls ORDER BY key"):
            if tuple(map(type, row)) != (bytes, bytes, bytes, int):
                raise sqlite3.DatabaseError("a row of another kind")
            yield SegmentRow(*row)

    def count(self, before: float) -> tuple[int, int]:
        """How many entries were stored before that time, and how many there are in total."""
        query = "SELECT count(*) FILTER (WHERE stored < ?), count(*) FROM calls"
        old, among = next(self._read(query, (before,)))
        return old, among

    def fault(self) -> str:
        """What SQLite finds wrong with the file; empty if nothing."""
        found = self._one("PRAGMA integrity_check(1)").decode()
        return "" if found == "ok" else found

    def _one(self, query: str, given: Sequence[Any] = ()) -> Any:
        return next(self._read(query, given))[0]

    def _read(self, query: str, given: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(query, given)
        except UnicodeDecodeError:  # from SQLite's message, if damage has hit a name
            raise sqlite3.DatabaseError("malformed database schema") from None

    def commit(self) -> None:
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


def paths(folder: Path) -> list[Path]:
    """The segments in a folder, the newest first."""
    found = [p for p in folder.glob(f"*{SUFFIX}") if not p.name.startswith(".")]
    return sorted(found, key=lambda p: p.name, reverse=True)


def open_all(folder: Path, unread: set[Path] | None = None) -> list[SegmentTable]:
    """The readable segments, the newest first; others are logged and added to `unread`."""
    while True:
        wanted = paths(folder)
        found, gone = _open(wanted)
        if not gone:
            if unread is not None:
                unread.update(set(wanted) - {table.path for table in found})
            return found
        for table in found:  # another driver has just merged it into a new segment
            table.close()


def _open(wanted: Sequence[Path]) -> tuple[list[SegmentTable], bool]:
    """The readable segments, and whether one of them is gone."""
    found, gone = [], False
    for path in wanted:
        try:
            found.append(SegmentTable(path, sealed=True))
        except sqlite3.Error as error:
            gone = gone or not path.exists()
            log.warning("%s is not a segment of the call cache: %s", path, error)
    return found, gone


def write(folder: Path, rows: Iterable[SegmentRow]) -> Path | None:
    """Seals `rows`, ideally ordered by key, as a new segment; None if there are none."""
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}{SUFFIX}"
    aside = folder / f".{name}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(SegmentTable(aside)) as table:
            count = table.add(rows)
            table.commit()
        if count <= 0:
            aside.unlink()
            return None
        flush(aside)
        aside.rename(folder / name)
        flush(folder)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):  # where nothing can be written, nothing was left
            aside.unlink(missing_ok=True)
        raise StoreError(f"cannot write {aside}: {error}") from error
    return folder / name


def merge(folder: Path) -> None:
    """Merges the smaller segments if there are more than a lookup should search."""
    found = paths(folder)
    if len(found) > MOST:
        # The largest ones stay, because rewriting them for every small one would cost most and gain
        # least.
        found.sort(key=_bytes, reverse=True)
        _rewrite(folder, found[MOST // 2 :], lambda row: row.whole)


def prune(folder: Path, before: float) -> int:
    """Drops what was stored before that time, and leftovers of dead writers. Returns how many
    entries.

    Segments with only old entries are removed first, so that a full disk has room for the rest.
    Raises StoreError.
    """
    dropped = 0

    def stays(row: SegmentRow) -> bool:
        nonlocal dropped
        dropped += row.stored < before
        return row.stored >= before and row.whole

    aged: list[Path] = []
    found, _ = _open(paths(folder))
    try:
        for left in folder.glob(f".*{SUFFIX}.tmp"):
            with suppress(FileNotFoundError):  # it was renamed in the meantime
                if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                    left.unlink()
        for table in found:
            old, among = _older(table, before)
            assert table.path is not None
            if old and old == among:
                table.path.unlink(missing_ok=True)
                dropped += old
            elif old:
                aged.append(table.path)
    except OSError as error:
        raise StoreError(f"cannot remove {error.filename}: {error.strerror or error}") from error
    finally:
        for table in found:
            table.close()
    _rewrite(folder, aged, stays)
    return dropped


def _older(table: SegmentTable, before: float) -> tuple[int, int]:
    """How many entries were stored before that time, and among how many; nothing if it
    is damaged."""
    try:
        return table.count(before)
    except sqlite3.Error as error:
        log.warning("%s is damaged, and stays as it is: %s", table.path, error)
        return 0, 0


def _rewrite(folder: Path, old: Sequence[Path], stays: Callable[[SegmentRow], bool]) -> None:
    """Writes the entries of `old` that stay into one new segment, then removes `old`.

    Among entries with the same key, the newest is kept. A file that cannot be read to its end
    stays, because lookups find more in it than a full scan. Raises StoreError.
    """
    tables, _ = _open(sorted(old, key=lambda path: path.name, reverse=True))
    read: list[Path] = []

    def rows(table: SegmentTable) -> Iterator[SegmentRow]:
        try:
            yield from table.rows()
        except sqlite3.Error as error:
            log.warning("%s is damaged, and stays as it is: %s", table.path, error)
        else:
            assert table.path is not None
            read.append(table.path)

    def newest() -> Iterator[SegmentRow]:
        last = None
        for row in heapq.merge(*map(rows, tables), key=lambda row: row.key):
            if row.key != last and stays(row):  # tables are ordered with the newest first
                yield row
                last = row.key

    try:
        write(folder, newest())
    finally:
        for table in tables:
            table.close()
    try:
        for path in read:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot remove {error.filename}: {error.strerror or error}") from error


class Health(NamedTuple):
    """What `verify` found in one segment."""

    path: Path
    entries: int
    damaged: int
    fault: str
    """Why the file as a whole cannot be read, if it cannot."""


def verify(folder: Path) -> Iterator[Health]:
    """Reads every entry of every segment."""
    for path in paths(folder):
        entries = damaged = 0
        try:
            with closing(SegmentTable(path, sealed=True)) as table:
                for row in table.rows():
                    entries += 1
                    damaged += not _readable(row)
                fault = table.fault()
        except sqlite3.Error as error:
            fault = str(error)
        yield Health(path, entries, damaged, fault)


def _readable(row: SegmentRow) -> bool:
    try:
        decode(row.value)
    except ValueError:
        return False
    return row.whole


def size(folder: Path) -> tuple[int, int]:
    """Number and bytes of the segments in a folder."""
    found = [_bytes(path) for path in paths(folder)]
    return len(found), sum(found)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another driver has merged it
        return 0
