"""One shard of a run's cache: what its sweep has journalled, and what all sweeps have sealed."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from agents.core.errors import StoreError
from workers.cache import journal, segments
from workers.cache.entries import Damage, checksum
from workers.cache.journal import Entry, Journal
from workers.cache.segments import SegmentRow, SegmentTable

log = logging.getLogger(__name__)

_BATCH = 1000  # entries that are recovered at once


@dataclass(frozen=True)
class Places:
    """Where a run keeps completed calls. Crosses processes.

    `folder` is the sweep's. `shared` is the cache's; None if nothing of it is read. `seals` means
    that this run adds to it.
    """

    folder: Path
    shared: Path | None
    seals: bool
    epoch: int
    shards: int

    def shard_of(self, key: bytes) -> int:
        return key[0] % self.shards


class CallStore:
    """Finds and keeps the entries of one shard. The constructor raises StoreError too.

    `write` and `seal` block, and only one thread may call them; `find` may run at the same time.
    `index` must not run at the same time as `seal` or `find`.
    """

    def __init__(self, places: Places, shard: int) -> None:
        self._places, self._shard = places, shard
        self._unread: set[Path] = set()
        self._damaged: set[bytes] = set()
        self._paid_again = 0
        self._sealed = segments.open_all(places.shared, self._unread) if places.shared else []
        self._index = SegmentTable(None)
        self._retired: list[SegmentTable] = []
        self.recovered = 0
        """Entries that were only in journals when it started."""
        for path in journal.files(places.folder):
            self._recover(path)
        # Among two entries for one key the later counts, so journals are read in this order.
        name = f"{places.epoch:06d}-{time.time_ns():020d}-{shard:03d}{journal.SUFFIX}"
        self._journal = Journal(places.folder / journal.FOLDER / name)

    def _recover(self, path: Path) -> None:
        all_of_it = journal.read(path, self._unread)
        mine = (e for e in all_of_it if self._places.shard_of(e[0]) == self._shard)
        while some := list(islice(mine, _BATCH)):
            sealed = self._find_sealed([key for key, _ in some])
            new = [entry for entry in some if sealed.get(entry[0]) != entry[1]]
            self.recovered += len(new)
            self.index(new)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The known entries with those keys."""
        try:
            found = self._index.find(keys)
        except sqlite3.Error as error:
            raise StoreError(f"the index of the call cache cannot be read: {error}") from error
        return found | self._find_sealed([key for key in keys if key not in found])

    def _find_sealed(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for table in list(self._sealed):
            left = [key for key in keys if key not in found]
            if not left:
                break
            try:
                found.update(table.find(left))
                self._damaged |= table.damaged
            except sqlite3.Error as error:
                log.warning("%s is damaged and no longer read: %s", table.path, error)
                self._sealed.remove(table)
                if table.path is not None:
                    self._unread.add(table.path)
        return found

    def write(self, entries: Sequence[Entry]) -> None:
        """Writes entries; they are durable when it returns. Raises StoreError."""
        self._journal.append(entries)
        self._paid_again += sum(key in self._damaged for key, _ in entries)

    def index(self, entries: Sequence[Entry]) -> None:
        """Makes written entries visible to `find`. Raises StoreError."""
        try:
            self._index.add(_rows(entries))
        except sqlite3.Error as error:
            raise StoreError(f"the index of the call cache cannot be written: {error}") from error

    def seal(self) -> None:
        """Adds what is new to the shared cache. Raises StoreError."""
        shared = self._places.shared
        if shared is None or not self._places.seals:
            return
        if (path := segments.write(shared, self._index.rows())) is not None:
            self._sealed.insert(0, SegmentTable(path, sealed=True))
            # Not closed yet: a lookup may be running.
            self._retired.append(self._index)
            self._index = SegmentTable(None)

    def damage(self) -> Damage:
        """The damage it has met so far."""
        return Damage(self._paid_again, frozenset(map(str, self._unread)))

    def close(self) -> None:
        for table in (self._index, *self._retired, *self._sealed):
            table.close()
        self._journal.close()


def _rows(entries: Sequence[Entry]) -> Iterator[SegmentRow]:
    now = int(time.time())
    for key, data in entries:
        yield SegmentRow(key, data, checksum(key, data), now)


def tidy(places: Places, *, complete: bool) -> None:
    """Cleans up after a run whose owners have sealed. Journals stay until the sweep is complete.

    They are stored with the sweep, because the shared cache may be on the disk of a machine that is
    lost.
    """
    if places.seals and places.shared is not None:
        segments.merge(places.shared)
    if complete:
        for path in journal.files(places.folder):
            path.unlink(missing_ok=True)


def settle(places: Places) -> None:
    """Cleans up a finished sweep, in case its run was killed at the very end."""
    if journal.files(places.folder):
        store = CallStore(replace(places, shards=1), 0)
        store.seal()
        store.close()
        tidy(places, complete=True)
