"""CPU time per call of the worker and the call cache, without that of the test model.

    python -m tests.bench.call --dialogues 1000 --concurrency 256

A worker's pool, an owner of the call cache and the test model, each in a separate process and
connected as in a run, without Ray and without a driver (for its share, see
`tests.bench.many_nodes`). The load is that of `tests.bench.throughput`: cache on, everything stored
durably. Measured is the CPU time of worker and cache, user and system, from the moment that the
pool has warmed up until everything is committed. The figure is its ratio to the CPU time of the
test model, which is measured at the same time and does the same work in every revision;
microseconds alone depend on the machine and its load. The limit of the median of 5 runs is 8.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ray._private.async_compat import get_new_event_loop

from runner.driver.loading import load_plan
from sweeps.tasks import Task
from tests.bench.ending import AtMost, ending
from tests.bench.throughput import load_parser, sweep
from workers.backends import latency
from workers.cache.actor import WorkerConnection
from workers.cache.client import CallCache, over_network
from workers.cache.owner import CallOwner
from workers.cache.store import CallStore, Places
from workers.executors.pool import TaskPool
from workers.job import Job, job_of
from workers.kinds.handlers import TaskRunner
from workers.processes.channel import Address, Server
from workers.resources import Resources
from workers.results.bundles import BundleWriter
from workers.results.lease import FolderLease

LIMIT = 8.0  # times the CPU of the test model
_WARM = 128  # dialogues before the clock starts


def spent() -> float:
    """The CPU seconds that this process has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Process:
    """A part of a run. `work` starts what the process serves and returns the address; after that
    the process reports the CPU time it has used when it is asked."""

    def __init__(self, work: Callable[[], Awaitable[Address]], profile: str | None) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_serve, args=(work, theirs, profile), daemon=True)
        self._process.start()
        self.address = Address(*self._pipe.recv())

    def spent(self) -> float:
        self._pipe.send("spent")
        return self._pipe.recv()

    def end(self) -> None:
        self._pipe.send("end")
        self._process.join()


def _serve(work: Callable[[], Awaitable[Address]], pipe: Connection, profile: str | None) -> None:
    async def go() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        pipe.send(tuple(await work()))

        def answer() -> None:
            if pipe.recv() == "end":
                ended.set()
            else:
                pipe.send(spent())

        loop.add_reader(pipe.fileno(), answer)
        await ended.wait()

    _profiled(go, profile)


def _profiled(go: Callable[[], Awaitable[Any]], profile: str | None) -> Any:
    watching = cProfile.Profile(time.thread_time) if profile else nullcontext()
    with watching as found, asyncio.Runner(loop_factory=get_new_event_loop) as runner:
        done = runner.run(go())  # type: ignore[arg-type]
    if found is not None and profile:
        found.dump_stats(profile)
    return done


async def play(
    job: Job, tasks: Sequence[Task], slots: int, cache: Address, others: Sequence[Process]
) -> list[float]:
    """CPU seconds of this process and of the others, after the first tasks have warmed it up."""
    gc.set_threshold(50_000, 20, 100)  # as in a worker

    async def find() -> Address:
        return cache

    resources = Resources(job, cache=CallCache([over_network(find)]))
    pool = TaskPool(TaskRunner(resources), BundleWriter(job.folder, job.epoch, "w000"), slots)

    async def until(count: int) -> None:
        while count:
            report = await pool.report(0.25, True)
            assert all(outcome.status == "done" for outcome in report.outcomes)
            count -= len(report.outcomes)

    pool.add(tasks[:_WARM])
    await until(_WARM)
    begin = [spent(), *(each.spent() for each in others)]
    pool.add(tasks[_WARM:])
    await until(len(tasks) - _WARM)
    end = [spent(), *(each.spent() for each in others)]
    await pool.stop()
    return [after - before for before, after in zip(begin, end, strict=True)]


def measure(given: argparse.Namespace, profiles: dict[str, str]) -> dict[str, float]:
    """CPU microseconds per call, by process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = load_plan(sweep(folder, given), [])
        tasks = list(plan.episode_tasks())
        job = job_of(plan, probe=False, executor="ray", epoch=1, run_id="r")
        lease = FolderLease.take(job.folder)
        places = Places(folder / "out", folder / "cache", True, 1, 1)

        async def owner() -> Address:
            found = CallOwner(CallStore(places, 0))
            server = await Server.start("127.0.0.1", lambda line: WorkerConnection(line, found))
            return server.address

        async def model() -> Address:
            options = latency._Options(latency_ms=given.latency_ms)
            found = latency.LatencyServer(options, str(folder / "latency"))
            server = await Server.start(
                "127.0.0.1", lambda line: latency._WorkerConnection(line, found)
            )
            return server.address

        others = [Process(owner, profiles.get("cache")), Process(model, profiles.get("model"))]

        async def way(self: Any) -> latency._ActorConnection:
            found = latency._ActorConnection()
            found.channel = await latency.connect(others[1].address, found)
            return found

        latency._SharedServer._open = way
        cache = others[0].address
        seconds = _profiled(
            lambda: play(job, tasks, given.concurrency, cache, others), profiles.get("worker")
        )
        for other in others:
            other.end()
        lease.release()
    calls = 2 * given.turns * (given.dialogues - _WARM)
    parts = zip(("worker", "cache", "model"), seconds, strict=True)
    return {name: round(each / calls * 1e6, 1) for name, each in parts}


def main() -> None:
    parser = load_parser(__doc__)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--profile", help="a folder for what cProfile finds in each process")
    given = parser.parse_args()
    given.workers, given.cache = 1, "readwrite"
    profiles = {}
    if given.profile:
        profiles = {p: f"{given.profile}/{p}.prof" for p in ("worker", "cache", "model")}
    found = []
    for _ in range(given.runs):
        found.append(measure(given, profiles))
        print(json.dumps(found[-1]), flush=True)
    ours = [each["worker"] + each["cache"] for each in found]
    times = statistics.median(us / each["model"] for us, each in zip(ours, found, strict=True))
    print(
        ending(
            "call",
            {"times_test_model": AtMost(round(times, 2), LIMIT)},
            concurrency=given.concurrency,
            calls=2 * given.turns * (given.dialogues - _WARM),
            cpu_us=round(statistics.median(ours), 1),
            runs=[round(us, 1) for us in ours],
        )
    )


if __name__ == "__main__":
    main()
