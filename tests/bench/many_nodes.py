"""Whether one driver keeps up with the workers of 64 nodes.

    python -m tests.bench.many_nodes

The scheduler, the receivers, progress, caps and the adaptive limit of a run are real. The workers
are simulated: like a real worker, each reports four times per second which dialogues have ended and
how many calls they made. Messages are pickled, as through Ray. Time is virtual: measured is the CPU
time that the driver needs for each simulated second, a share of one core, which does not depend on
other load on the machine. Nothing is scaled down except that workers play no dialogues: there are
64 of them, with as many dialogues and calls as real ones would have. Not included are Ray's own
messages (about 0.5 ms of CPU each, 4 reports and up to 4 leases per second and worker: a quarter of
a core), engines, and the call cache, which has its own processes (`cache.owners`).

Each worker makes 2,000 calls per second, the most that one process on one core can make (a call
costs it 300 to 500 us). The limit is 0.7 of a core; the rest is left to Ray.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import pickle
import statistics
import time
from collections.abc import Sequence

from rich.console import Console

from agents.core.seeds import Seeds
from runner.driver.budget import Budget
from runner.driver.concurrency import Concurrency
from runner.driver.early_stop import EarlyStop
from runner.driver.progress import ProgressDisplay
from runner.driver.scheduler import LeaseQueue, drive
from sweeps.episodes import episode_task
from sweeps.schema import Caps, Run
from sweeps.storage.records import EPISODE
from sweeps.tasks import Outcome, Task
from tests import virtual_time
from tests.bench.ending import AtMost, ending
from workers.core.concurrency import Load
from workers.core.usage import CallCounts, Usage
from workers.executors.pool import Report

CALLS_A_DIALOGUE = 10
LIMIT = 0.7


class Driver:
    """CPU seconds without those of the workers, which run in the same process here."""

    def __init__(self) -> None:
        self.elsewhere = 0.0
        self._began = time.process_time()

    @property
    def seconds(self) -> float:
        return time.process_time() - self._began - self.elsewhere


class SimulatedWorker:
    """Ends as many dialogues as its rate allows."""

    def __init__(self, name: str, slots: int, calls_a_second: float, driver: Driver) -> None:
        self.name, self.slots = name, slots
        self._rate = calls_a_second / CALLS_A_DIALOGUE
        self._driver = driver
        self._mine: list[Task] = []
        self._due = 0.0

    async def resize(self, slots: int, processes: int) -> None:
        self.slots = slots

    async def add(self, tasks: Sequence[Task]) -> None:
        sent = pickle.dumps(list(tasks))
        began = time.process_time()
        self._mine += pickle.loads(sent)
        self._driver.elsewhere += time.process_time() - began

    async def withdraw(self) -> None:
        self._mine = []

    async def report(self, wait: float, drain: bool) -> Report:
        await asyncio.sleep(wait)
        began = time.process_time()
        self._due += self._rate * wait
        count = min(int(self._due), len(self._mine))
        self._due -= count
        ended, self._mine = self._mine[:count], self._mine[count:]
        calls = count * CALLS_A_DIALOGUE
        sent = pickle.dumps(
            Report(
                [Outcome(task, "done") for task in ended],
                CallCounts(calls, tokens=300 * calls),
                {EPISODE: min(self.slots, len(self._mine))},
                max(0, len(self._mine) - self.slots),
                paid={"m": Usage(250 * calls, 50 * calls, 0, calls)},
                free=max(0, self.slots - len(self._mine)),
                busy=min(self.slots, len(self._mine)),
                loads={"e": Load(self.slots / 2)},
            )
        )
        self._driver.elsewhere += time.process_time() - began
        return pickle.loads(sent)

    async def stop(self) -> Report:
        return Report([], CallCounts(), {}, 0)

    def abandon(self) -> None: ...


def share(nodes: int, calls_a_second: float, seconds: int) -> tuple[float, int]:
    """CPU seconds of the driver per simulated second, and the number of dialogues that ended."""
    tasks = (
        episode_task(f"{number:032x}", number % 64, Seeds(0, 0, 0), f"u{number // 64}")
        for number in itertools.count()
    )
    queue, stopping = LeaseQueue([tasks], 2), asyncio.Event()
    console = Console(file=io.StringIO())

    async def main() -> tuple[float, int]:
        driver = Driver()
        run = Run(executor="ray", concurrency=nodes * 512)
        workers = [
            SimulatedWorker(f"w{number:03d}", 512, calls_a_second, driver)
            for number in range(nodes)
        ]
        with ProgressDisplay({EPISODE: 10**9}, console, lambda: False) as display:
            counters = EarlyStop(
                display, queue, stopping, Budget(Caps(tokens=10**15), {}), 0.5, lambda line: None
            )
            concurrency = Concurrency(run, nodes, dict)
            asyncio.get_running_loop().call_later(seconds, stopping.set)
            await drive(
                workers, queue, {EPISODE: counters}, concurrency.observing(counters), stopping,
                lost=EOFError, left_behind=lambda name: {}, replace=_none, epoch=1,
                limit=concurrency.limit,
            )  # fmt: skip
            return driver.seconds / seconds, display.tally.settled

    return virtual_time.run(main())


async def _none(lost: object) -> None:
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--calls", type=float, default=2000.0, help="a second, of each node")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    found = [share(given.nodes, given.calls, given.seconds) for _ in range(given.runs)]
    median = statistics.median(each for each, _ in found)
    print(
        ending(
            "many_nodes",
            {"cores": AtMost(round(median, 3), LIMIT)},
            nodes=given.nodes,
            calls_a_second=round(given.nodes * given.calls),
            dialogues_a_second=round(found[0][1] / given.seconds),
            runs=[round(each, 3) for each, _ in found],
        )
    )


if __name__ == "__main__":
    main()
