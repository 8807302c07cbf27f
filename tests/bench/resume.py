"""Seconds and memory that `crsweep run` needs to see that a sweep is finished.

    python -m tests.bench.resume --episodes 1000000

The folder of a sweep with that many episodes is written as a run would leave it: compacted, with
one turn and one call per episode, because starting a run reads their parts. Then the command runs 5
times. Measured until it prints "nothing to do": the median time, and the peak memory of the
command, which has started no other process by then. Limits: 20 s for 1,000,000 episodes, 4 s for
100,000; 1 GiB.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from runner.driver.loading import load_plan
from runner.driver.manifest import make_manifest, write_cases
from sweeps import manifest as manifests
from sweeps.plan import Plan
from sweeps.storage.records import SCHEMAS
from tests.analysis.builder import CALL, TURN
from tests.bench.ending import AtLeast, AtMost, ending
from tests.bench.episodes import ROOT, sweep
from workers.results.bundles import write_part

FILE = 2000  # episodes
LIMITS = {1_000_000: 20.0, 100_000: 4.0}  # seconds
MIB_LIMIT = 1024.0


def finish(plan: Plan) -> None:
    """Writes what a complete run leaves behind, but only one turn and one call per episode."""
    out = plan.loaded.out
    manifest = make_manifest(plan, 1, None, write_cases(plan, out, 1))
    tasks = plan.episode_tasks()
    number = 0
    while some := list(islice(tasks, FILE)):
        number += 1
        name = f"000001-w000-{number:06d}"
        rows = [
            {
                "episode_id": task.id,
                "attempt_id": task.attempt_id(1),
                "cell_id": plan.cells[task.cell].cell_id,
                "source_id": plan.sources[0].source_id,
                "case_id": task.spec.case_id,
                "seed": task.spec.seeds.sampling,
                "seed_training": task.spec.seeds.training,
                "seed_order": task.spec.seeds.order,
                "axes": list(plan.cells[task.cell].axes.items()),
                "status": "done",
                "blame": None,
                "error_class": None,
                "error": None,
                "stop_reason": "max_turns",
                "success": False,
                "success_rule": "user_accepts",
                "success_turn": None,
                "accepted_item": None,
                "targets": ["1"],
                "turns": 5,
                "max_turns": 5,
                "shown_items": 10,
                "agent_tokens": 100,
                "user_tokens": 100,
                "probe_tokens": 0,
                "critic_tokens": 0,
                "calls": 10,
                "transcript_hash": task.id,
                "artifacts": [],
                "started": 1.0,
                "ended": 2.0,
            }
            for task in some
        ]
        stamp = {"bundle_id": name, "driver_epoch": 1}
        attempts = [{"attempt_id": row["attempt_id"]} for row in rows]
        for table, filled in (("calls", CALL), ("turns", TURN)):
            row = {**dict.fromkeys(SCHEMAS[table].names), **filled}
            some_rows = [{**row, **attempt} for attempt in attempts]
            write_part(out, f"{table}/{name}.parquet", table, some_rows, stamp)
        write_part(out, f"episodes/{name}.parquet", "episodes", rows, stamp)
    manifests.write(out, manifest)


def start(path: Path) -> tuple[float, float]:
    """Seconds until "nothing to do", and the peak MiB of the command until then."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "run", str(path)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    peak, over = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        watched = psutil.Process(process.pid)
        while not over.wait(0.05):
            peak = max(peak, watched.memory_info().rss / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.stdout is not None
    seconds = 0.0
    for line in process.stdout:
        if line.startswith("nothing to do"):
            seconds = time.perf_counter() - started
            over.set()
    over.set()
    watcher.join()
    assert process.wait() == 0
    assert seconds, "it did not say that there was nothing to do"
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = sweep(Path(name), given.episodes, "ray")
        finish(load_plan(path, []))
        found = [start(path) for _ in range(given.runs)]
    seconds = round(statistics.median(each[0] for each in found), 2)
    measured: dict[str, AtLeast | AtMost] = {
        "mib": AtMost(round(max(each[1] for each in found)), MIB_LIMIT)
    }
    facts: dict[str, Any] = {"episodes": given.episodes, "runs": [round(s, 2) for s, _ in found]}
    if given.episodes in LIMITS:
        measured["seconds"] = AtMost(seconds, LIMITS[given.episodes])
    else:
        facts["seconds"] = seconds
    print(ending("resume", measured, **facts))


if __name__ == "__main__":
    main()
