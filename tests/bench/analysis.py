"""Seconds and memory to tabulate a sweep of a million episodes.

    python -m tests.bench.analysis --episodes 1000000

Parts are written directly with pyarrow (2,000 episodes per file, 4 cells x 5 seeds x cases, 3 turns
per episode with rankings of 10 and 10 candidates). Each table is then made from a fresh `Results`,
including the time to open it. The numbers are medians of 5 tables; the limits on 2 cores are 1 s
for success metrics and 5 s for metrics that read turns. Memory is the difference in peak memory,
for a process that makes one table, between this sweep and one of 10,000 episodes; the limit for
success metrics is 100 MiB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.results import Results
from analysis.tables.table import make_table
from sweeps.storage.records import SCHEMAS, metadata
from tests.analysis.builder import Built, grid_of
from tests.bench.ending import AtMost, ending

# 1,000,000 episodes on 2 cores: seconds of success metrics, of those that read turns, and MiB.
LIMIT, TURNS_LIMIT, GROWTH_LIMIT = 1.0, 5.0, 100
SEEDS = 5
TURNS = 3
FILE = 2_000  # episodes
SMALL = 10_000  # episodes that memory is compared with
SUCCESS = ("sr@1", "sr@3", "sr@5", "at_fail_plus_1")
DECISIONS = ("dsr_pooled@5", "hr@50_turn")


def write(folder: Path, episodes: int, twice: int) -> None:
    """A whole sweep; a stray worker has made a second attempt at the first `twice` episodes."""
    cells = grid_of("zero_shot", "react")
    cases = -(-episodes // (len(cells) * SEEDS))
    built = Built(cells, seeds=list(range(SEEDS)), case_ids=[f"user-{n}" for n in range(cases)])
    built.write(folder)
    ids = [cell.cell_id for cell in cells]
    for start in range(0, episodes, FILE):
        numbers = np.arange(start, min(start + FILE, episodes))
        _write_part(folder, ids, numbers, "a")
    if twice:
        _write_part(folder, ids, np.arange(min(twice, episodes)), "b")


def _write_part(folder: Path, ids: Sequence[str], numbers: np.ndarray, attempt: str) -> None:
    """Episode n is of cell n % 4, seed n // 4 % 5 and case n // 20."""
    rng = np.random.default_rng(int(numbers[0]))
    count, cells = len(numbers), len(ids)
    succeeded = rng.random(count) < 0.5
    when = np.where(succeeded, rng.integers(1, 6, count), 0)
    attempts = [f"{n:031x}{attempt}" for n in numbers]
    seeds = numbers // cells % SEEDS
    columns = {
        "episode_id": [f"{n:032x}" for n in numbers],
        "attempt_id": attempts,
        "cell_id": [ids[n % cells] for n in numbers],
        "source_id": ["source"] * count,
        "case_id": [f"user-{n // (cells * SEEDS)}" for n in numbers],
        "seed": seeds,
        "seed_training": seeds,
        "seed_order": seeds,
        "axes": [[("agent", "x"), ("roles.agent", "y")]] * count,
        "status": ["done"] * count,
        "stop_reason": ["accepted"] * count,
        "success": succeeded,
        "success_rule": ["user_accepts"] * count,
        "success_turn": [int(t) or None for t in when],
        "targets": [["i0"]] * count,
        "turns": [TURNS] * count,
        "transcript_hash": rng.bytes(16 * count).hex(" ", 16).split(),
        "max_turns": [5] * count,
        "shown_items": [10] * count,
        **dict.fromkeys(("agent_tokens", "user_tokens", "probe_tokens", "calls"), [9] * count),
        **dict.fromkeys(("started", "ended"), [float(attempt == "b")] * count),
    }
    name = f"0001-{attempt}-{int(numbers[0]):08}.parquet"
    _write(folder, "episodes", name, columns, count)
    lists = [[f"i{i}" for i in row] for row in rng.integers(0, 3000, (count * TURNS, 10))]
    turns = {
        "attempt_id": [a for a in attempts for _ in range(TURNS)],
        "turn": list(range(1, TURNS + 1)) * count,
        "action": ["recommend"] * (count * TURNS),
        "shown": lists,
        "ranking": lists,
        "candidates": lists,
        **dict.fromkeys(("user_text", "feedback", "extra"), ["{}"] * (count * TURNS)),
        "user_decision": ["accept" if n == TURNS else "refuse" for n in range(1, TURNS + 1)]
        * count,
        "user_extra": _simulators_records(rng, count * TURNS),
        "user_leaves": [False] * (count * TURNS),
    }
    _write(folder, "turns", name, turns, count * TURNS)


def _simulators_records(rng: np.random.Generator, count: int) -> list[str]:
    """The records of a user with one target: 1 turn in 50 leaks, 1 in 20 disagrees."""
    leak, disagrees = rng.random(count) < 0.02, rng.random(count) < 0.05
    return [
        json.dumps({"disagrees": d, "leak": k, "rule_decision": "refuse"}, separators=(",", ":"))
        for d, k in zip(disagrees.tolist(), leak.tolist(), strict=True)
    ]


def _write(folder: Path, table: str, name: str, columns: dict, count: int) -> None:
    given = {"bundle_id": ["b"] * count, "driver_epoch": [1] * count, **columns}
    schema = SCHEMAS[table].with_metadata(metadata())
    arrays = [pa.array(given.get(f.name, [None] * count), f.type) for f in schema]
    (folder / table).mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), folder / table / name)


def seconds(folder: Path, metrics: Sequence[str], runs: int) -> float:
    """The median of `runs` tables, each from a fresh connection."""
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        make_table(Results.open(folder), metrics)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


_PEAK = """
import sys
from pathlib import Path
from analysis.results import Results
from analysis.tables.table import make_table
make_table(Results.open(sys.argv[1]), sys.argv[2:])
(line,) = (line for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
print(line.split()[1])
"""


def peak_mib(folder: Path, metrics: Sequence[str]) -> float:
    """Peak resident memory, in MiB, of a fresh process that makes one table."""
    command = [sys.executable, "-c", _PEAK, str(folder), *metrics]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--twice", type=int, default=0, help="episodes with a second attempt")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, small = Path(name) / "large", Path(name) / "small"
        write(folder, given.episodes, given.twice)
        write(small, SMALL, 0)
        success = seconds(folder, SUCCESS, given.runs)
        decisions = seconds(folder, DECISIONS, given.runs)
        growth = [peak_mib(folder, m) - peak_mib(small, m) for m in (SUCCESS, DECISIONS)]
    print(
        ending(
            "analysis",
            {
                "success_seconds": AtMost(round(success, 3), LIMIT),
                "decisions_seconds": AtMost(round(decisions, 3), TURNS_LIMIT),
                "success_growth_mib": AtMost(round(growth[0]), GROWTH_LIMIT),
            },
            decisions_growth_mib=round(growth[1]),
            episodes=given.episodes,
            twice=given.twice,
            runs=given.runs,
        )
    )


if __name__ == "__main__":
    main()
