"""The call cache: hits per second, and the time to store a call.

    python -m tests.bench.cache [--entries 100000] [--puts 20000] [--folder DIR]

One client makes 64 calls at once to an owner in a separate process. Hits are spread over a sealed
segment of `--entries` calls. A put ends when it is durable in the journal, which is in `--folder`
(by default the current directory, because a RAM disk would be too fast). The peer is plain SQLite
in WAL mode with synchronous=FULL, in the same process and on the same disk, with a query per lookup
and a transaction per 64 puts. Medians of 5 rounds. Limits: at least 20,000 hits/s, at most 1 ms per
put.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from agents.core.calls import Completion
from tests.bench.cache_stores import (
    AT_ONCE,
    RUNS,
    STEP,
    SQLite,
    key_of,
    measure,
    measured,
    reply_of,
    rounds_of,
)
from tests.bench.ending import ending
from workers.cache import segments
from workers.cache.actor import WorkerConnection
from workers.cache.client import CallCache, over_network
from workers.cache.entries import checksum, encode
from workers.cache.owner import CallOwner
from workers.cache.segments import SegmentRow
from workers.cache.store import CallStore, Places
from workers.processes.channel import Address, Server


def serve(places: Places, pipe: Connection) -> None:
    """An owner in a separate process."""

    async def go() -> None:
        owner = CallOwner(CallStore(places, 0))
        server = await Server.start("127.0.0.1", lambda channel: WorkerConnection(channel, owner))
        pipe.send(tuple(server.address))
        await asyncio.Event().wait()

    asyncio.run(go())


async def at_once(cache: CallCache, keys: list[int], made: list[int]) -> float:
    """Seconds for calls of all `keys`, 64 at once. Misses are recorded in `made`."""
    left = iter(keys)

    async def slot() -> None:
        for number in left:

            async def make(number: int = number) -> Completion:
                made.append(number)
                return reply_of(number)

            reply = await cache.reply(key_of(number), None, make)
            assert reply.text.startswith(f"{number:08d}")

    started = time.perf_counter()
    await asyncio.gather(*(slot() for _ in range(AT_ONCE)))
    return time.perf_counter() - started


async def ours(address: Address, entries: int, puts: int) -> tuple[float, float]:
    """Hits per second, and ms per put."""

    async def find() -> Address:
        return address

    cache = CallCache([over_network(find)])
    made: list[int] = []
    spread = [n * STEP % entries for n in range(entries)]
    await at_once(cache, spread[: entries // 10], made)  # the file is in the memory now
    rates = [entries / await at_once(cache, spread, made) for _ in range(RUNS)]
    assert not made, "a lookup was no hit"
    new = rounds_of(entries, puts)
    times = [await at_once(cache, list(each), made) / puts * 1000 for each in new]
    assert sorted(made) == list(range(entries, entries + RUNS * puts))
    cache.close()
    return statistics.median(rates), statistics.median(times)


def rows(entries: int) -> list[SegmentRow]:
    found = []
    for number in range(entries):
        key, data = key_of(number), encode(reply_of(number))
        found.append(SegmentRow(key, data, checksum(key, data), 0))
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--puts", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="bench-cache-") as name:
        folder = Path(name)
        segments.write(folder / "shared", rows(given.entries))
        places = Places(folder / "sweep", folder / "shared", True, 1, 1)
        mine, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=serve, args=(places, theirs), daemon=True)
        process.start()
        try:
            hits, put = asyncio.run(ours(Address(*mine.recv()), given.entries, given.puts))
        finally:
            process.kill()
            process.join()
        peer = SQLite(folder)
        peer_hits, peer_put = measure({"sqlite": peer}, given.entries, given.puts)["sqlite"]
        peer.close()
    print(
        ending(
            "cache",
            measured(hits, put),
            entries=given.entries,
            at_once=AT_ONCE,
            sqlite={"hits_per_s": round(peer_hits), "put_ms": round(peer_put, 4)},
            hits_by_sqlite=round(hits / peer_hits, 2),
            put_ms_by_sqlite=round(put / peer_put, 2),
        )
    )


if __name__ == "__main__":
    main()
