"""One shard of a run's cache: what its sweep has journalled, and what all sweeps have sealed."""

from __future__ import annotations

import logging
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from workers.cache import journal, segments
from workers.cache.entries import checksum
from workers.cache.journal import Entry, Journal
from workers.cache.segments import Row, Table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Places:
    """Where a run keeps completed calls. Crosses processes.

    `folder` is the sweep's. `shared` is the cache's, None where nothing of it is read. `seals`
    says whether this run adds to it.
    """

    folder: Path
    shared: Path | None
    seals: bool
    epoch: int
    shards: int

    def shard_of(self, key: bytes) -> int:
        return key[0] % self.shards


class CallStore:
    """Finds and keeps the entries of one shard. `add` and `seal` block; one thread at a time."""

    def __init__(self, places: Places, shard: int) -> None:
        self._places, self._shard = places, shard
        self._sealed = segments.open_all(places.shared) if places.shared else []
        self._scratch = tempfile.TemporaryDirectory(prefix="crsweep-calls-")
        self._index = self._new_index()
        self._retired: list[Table] = []
        self.recovered = 0
        """Entries that were in journals when it started."""
        for path in journal.files(places.folder):
            self._index.add(self._recover(path))
        name = f"{places.epoch:06d}-{shard:03d}-{secrets.token_hex(4)}{journal.SUFFIX}"
        self._journal = Journal(places.folder / journal.FOLDER / name)

    def _recover(self, path: Path) -> Iterator[Row]:
        for entry in journal.read(path):
            if self._places.shard_of(entry[0]) == self._shard:
                self.recovered += 1
                yield _row(entry)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The entries of those keys that are known."""
        found = self._index.find(keys)
        for table in list(self._sealed):
            left = [key for key in keys if key not in found]
            if not left:
                break
            try:
                found.update(table.find(left))
            except sqlite3.Error as error:
                log.warning("%s is damaged and read no more: %s", table.path, error)
                self._sealed.remove(table)
        return found

    def add(self, entries: Sequence[Entry]) -> None:
        """Keeps entries; they are durable when it returns. Raises StoreError."""
        self._journal.append(entries)
        self._index.add(_row(entry) for entry in entries)

    def seal(self) -> None:
        """Makes what is new part of the shared cache. Raises StoreError."""
        shared = self._places.shared
        if shared is None or not self._places.seals:
            return
        if (path := segments.write(shared, self._index.rows())) is not None:
            self._sealed.insert(0, Table(path, sealed=True))
            # Not closed yet: somebody may be searching it.
            self._retired.append(self._index)
            self._index = self._new_index()

    def close(self) -> None:
        for table in (self._index, *self._retired, *self._sealed):
            table.close()
        self._journal.close()
        self._scratch.cleanup()

    def _new_index(self) -> Table:
        return Table(Path(self._scratch.name) / f"{secrets.token_hex(4)}.index", sealed=False)


def _row(entry: Entry) -> Row:
    key, data = entry
    return Row(key, data, checksum(key, data), int(time.time()))


def tidy(places: Places, *, complete: bool) -> None:
    """After a run whose owners have sealed: journals go once nobody will need them."""
    if places.seals and places.shared is not None:
        segments.merge(places.shared)
    elif not complete:
        return  # they are the only place where the calls of unfinished dialogues are
    for path in journal.files(places.folder):
        path.unlink(missing_ok=True)


def settle(places: Places) -> None:
    """Does for a finished sweep what a run that was killed at its very end could not."""
    if journal.files(places.folder):
        store = CallStore(replace(places, shards=1), 0)
        store.seal()
        store.close()
        tidy(places, complete=True)
