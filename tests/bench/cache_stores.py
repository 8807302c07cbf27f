"""Embedded stores on which the call cache could be built: hits per second, ms per durable put.

    python -m tests.bench.cache_stores [--entries 100000] [--puts 20000] [--folder DIR]

SQLite (WAL, synchronous=FULL), LMDB (its own flush with each commit) and RocksDB (a synchronous
write of its log), each in the calling process and on the disk of `--folder`, with one query per
lookup and 64 puts per transaction or batch. Entries and their decoding are those of
`tests.bench.cache`. Medians of 5 rounds. Prints one line of JSON per store, with the cache's
limits.

LMDB and RocksDB are not dependencies of crsweep: `pip install lmdb rocksdict`. A store that cannot
be imported is skipped, with a message.
"""

from __future__ import annotations

import argparse
import hashlib
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Protocol

from agents.core.calls import Completion
from tests.bench.ending import AtLeast, AtMost, ending
from workers.cache.entries import KEY, decode, encode

AT_ONCE = 64
HITS_LIMIT = 20_000.0  # a second, at least
PUT_LIMIT = 1.0  # ms, at most
RUNS = 5  # the median counts
STEP = 7919  # a prime: lookups go all over a store
_LARGEST = 1 << 34  # bytes that an LMDB file may grow to

Pair = tuple[bytes, bytes]


class Store(Protocol):
    def put(self, pairs: Sequence[Pair]) -> None:
        """Durable when it returns."""

    def get(self, key: bytes) -> bytes: ...
    def close(self) -> None: ...


class SQLite:
    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "peer.sqlite", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            "CREATE TABLE calls (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
        )

    def put(self, pairs: Sequence[Pair]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO calls VALUES (?, ?)", pairs)
        self._db.execute("COMMIT")

    def get(self, key: bytes) -> bytes:
        return self._db.execute("SELECT value FROM calls WHERE key = ?", (key,)).fetchone()[0]

    def close(self) -> None:
        self._db.close()


class LMDB:
    def __init__(self, folder: Path) -> None:
        import lmdb  # pyright: ignore[reportMissingImports]

        self._db = lmdb.open(str(folder / "peer.lmdb"), map_size=_LARGEST)

    def put(self, pairs: Sequence[Pair]) -> None:
        with self._db.begin(write=True) as transaction:
            for key, value in pairs:
                transaction.put(key, value)

    def get(self, key: bytes) -> bytes:
        with self._db.begin() as transaction:
            return transaction.get(key)

    def close(self) -> None:
        self._db.close()


class RocksDB:
    def __init__(self, folder: Path) -> None:
        import rocksdict  # pyright: ignore[reportMissingImports]

        self._batch = lambda: rocksdict.WriteBatch(raw_mode=True)
        self._db = rocksdict.Rdict(str(folder / "peer.rocksdb"), rocksdict.Options(raw_mode=True))
        self._durable = rocksdict.WriteOptions()
        self._durable.sync = True

    def put(self, pairs: Sequence[Pair]) -> None:
        batch = self._batch()
        for key, value in pairs:
            batch.put(key, value)
        self._db.write(batch, self._durable)

    def get(self, key: bytes) -> bytes:
        return self._db[key]

    def close(self) -> None:
        self._db.close()


STORES: dict[str, Callable[[Path], Store]] = {"sqlite": SQLite, "lmdb": LMDB, "rocksdb": RocksDB}


def key_of(number: int) -> bytes:
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=KEY).digest()


def reply_of(number: int) -> Completion:
    """600 characters, the length of a reply with reasons."""
    return Completion(f"{number:08d} {'some words of a reply ' * 27}"[:600], "stop", 900, 150)


def rounds_of(entries: int, puts: int) -> list[range]:
    """The new keys of each round of puts."""
    return [range(entries + n * puts, entries + (n + 1) * puts) for n in range(RUNS)]


def measure(stores: Mapping[str, Store], entries: int, puts: int) -> dict[str, tuple[float, float]]:
    """For each store: hits per second among `entries`, and ms per durable put, 64 per transaction.

    The stores take turns in every round, so other load on the machine affects all of them.
    """

    def insert(store: Store, numbers: range) -> None:
        store.put([(key_of(n), encode(reply_of(n))) for n in numbers])

    def look_up(store: Store, count: int) -> float:
        started = time.perf_counter()
        for n in range(count):
            decode(store.get(key_of(n * STEP % entries)))
        return count / (time.perf_counter() - started)

    for store in stores.values():
        for start in range(0, entries, 10_000):
            insert(store, range(start, min(start + 10_000, entries)))
        look_up(store, entries // 10)  # it is in the memory now
    rates, times = defaultdict(list), defaultdict(list)
    for new in rounds_of(entries, puts):
        for name, store in stores.items():
            rates[name].append(look_up(store, entries))
            started = time.perf_counter()
            for start in range(0, puts, AT_ONCE):
                insert(store, new[start : start + AT_ONCE])
            times[name].append((time.perf_counter() - started) / puts * 1000)
    return {name: (median(rates[name]), median(times[name])) for name in stores}


def measured(hits: float, put: float) -> dict[str, AtLeast | AtMost]:
    return {
        "hits_per_s": AtLeast(round(hits), HITS_LIMIT),
        "put_ms": AtMost(round(put, 4), PUT_LIMIT),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--puts", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="bench-stores-") as folder:
        stores = {}
        for name, make in STORES.items():
            try:
                stores[name] = make(Path(folder))
            except ModuleNotFoundError as error:
                print(f"{name} is left out: {error}; see --help", file=sys.stderr)
        found = measure(stores, given.entries, given.puts)
        for store in stores.values():
            store.close()
    for name, (hits, put) in found.items():
        print(
            ending(
                "cache_stores", measured(hits, put),
                store=name, entries=given.entries, at_once=AT_ONCE,
            )
        )  # fmt: skip


if __name__ == "__main__":
    main()
