"""Time of `crsweep plan` and memory of a run at scale, each in a separate process.

    python -m tests.bench.scale --plan 1000000
    python -m tests.bench.scale --memory 10000 100000

`--plan`: seconds (median of 5 runs) and peak memory of `crsweep plan` on a sweep of n episodes
(limits 30 s, 1 GiB).
`--memory`: peak memory of driver and workers for two sizes of sweep (limit: 100 MiB more). One run
of each: 1,000,000 episodes take 45 minutes on 2 cores, so `make bench` stays at 100,000.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from tests.bench.ending import AtMost, ending
from tests.bench.episodes import ROOT, sweep


def plan_at(episodes: int) -> dict[str, float]:
    """Wall seconds and peak MiB of `crsweep plan`."""
    with tempfile.TemporaryDirectory() as folder:
        path = sweep(Path(folder), episodes, "ray")
        started = time.perf_counter()
        peaks = peaks_of([sys.executable, "-m", "runner", "plan", str(path)])
        seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 2), "mib": round(peaks["driver"], 1)}


def memory_at(episodes: int, turns: int) -> dict[str, float]:
    """Peak MiB of the driver and of its largest episode worker over one run."""
    with tempfile.TemporaryDirectory() as folder:
        path = sweep(Path(folder), episodes, "ray", limits={"max_turns": turns})
        return peaks_of([sys.executable, "-m", "runner", "run", str(path)])


def peaks_of(command: list[str]) -> dict[str, float]:
    """Runs `command`; peak resident MiB of it (`driver`) and of its largest `worker`.

    Memory shared with others (Ray's object store) is counted too: an upper bound.
    """
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    peaks = {"driver": 0.0, "worker": 0.0}
    watched = psutil.Process(process.pid)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            try:
                peaks["driver"] = max(peaks["driver"], watched.memory_info().rss / 2**20)
                for child in watched.children(recursive=True):
                    if "EpisodeWorker" in " ".join(child.cmdline()):
                        rss = child.memory_info().rss / 2**20
                        peaks["worker"] = max(peaks["worker"], rss)
            except psutil.NoSuchProcess:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    ended.set()
    watcher.join()
    if code != 0:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=int, default=None)
    parser.add_argument("--memory", type=int, nargs=2, default=None)
    parser.add_argument("--runs", type=int, default=5, help="of --plan")
    parser.add_argument("--turns", type=int, default=5, help="of the dialogues of --memory")
    given = parser.parse_args()
    if given.plan:
        found = [plan_at(given.plan) for _ in range(given.runs)]
        print(
            ending(
                "plan",
                {
                    "seconds": AtMost(statistics.median(each["seconds"] for each in found), 30.0),
                    "mib": AtMost(max(each["mib"] for each in found), 1024.0),
                },
                episodes=given.plan,
                runs=[each["seconds"] for each in found],
            )
        )
    if given.memory:
        small, large = (memory_at(episodes, given.turns) for episodes in given.memory)
        growth = {part: round(large[part] - small[part], 1) for part in small}
        print(
            ending(
                "memory",
                # One that grows by less than 1 MiB, or shrinks, is as good as one that grows by 1.
                {"most_growth_mib": AtMost(max(1.0, *growth.values()), 100.0)},
                episodes=given.memory,
                turns=given.turns,
                growth_mib=growth,
                peak_mib={part: round(value) for part, value in large.items()},
            )
        )


if __name__ == "__main__":
    main()
