"""Bytes per episode, files after compaction, and seconds to tabulate what a store contains.

    python -m tests.bench.store --episodes 5000 --tabulated 1000000

A sweep is run with the rules backend (`--episodes`), and its folder measured. The tables are made
from generated results (`tests.bench.analysis`) of `--tabulated` episodes with 5 seeds, in parts of
128 episodes as workers write them, compacted as at the end of a run; the numbers are medians of 5
tables. Limits: one file per 2,000 episodes and table, 1 s for success metrics and 5 s for those
that read turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from sweeps.storage.folder import LocalFolder
from sweeps.storage.records import SCHEMAS
from tests.bench import analysis
from tests.bench.ending import AtMost, ending
from tests.bench.episodes import ROOT, sweep
from workers.results.compaction import ATTEMPTS, compact

SUCCESS = ("sr@1", "sr@3", "sr@5", "at_fail_plus_1")
WITH_TURNS = (*SUCCESS, "hr@50_turn", "dsr_pooled@5")
BUNDLE = 128  # episodes that a worker writes at once


class _NobodyElse:
    """The lease of a folder that no other driver uses."""

    epoch = 1

    def held(self) -> nullcontext[None]:
        return nullcontext()


def files_of(folder: Path) -> dict[str, int]:
    return {t: len(LocalFolder(folder).names(t)) for t in SCHEMAS}


def bytes_an_episode(episodes: int) -> dict[str, dict[str, int]]:
    """Runs a sweep, and measures what it wrote to disk."""
    with tempfile.TemporaryDirectory() as name:
        path = sweep(Path(name), episodes, "local")
        command = [sys.executable, "-m", "runner", "run", str(path)]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        (out,) = Path(name).glob("*/manifest.json")
        sizes = {
            table: sum(p.stat().st_size for p in (out.parent / table).glob("*.parquet"))
            for table in ("episodes", "turns", "calls")
        }
        return {
            "bytes_an_episode": {t: round(size / episodes) for t, size in sizes.items()},
            "files": files_of(out.parent),
        }


def tables(episodes: int, runs: int) -> dict[str, float]:
    """Compacts generated results and tabulates them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        analysis.FILE = BUNDLE
        analysis.write(folder, episodes, 0)
        before = files_of(folder)
        started = time.perf_counter()
        compact(LocalFolder(folder), _NobodyElse())
        return {
            "parts_before": before["episodes"],
            "parts_after": files_of(folder)["episodes"],
            "compact_seconds": round(time.perf_counter() - started, 1),
            "success_seconds": round(analysis.seconds(folder, SUCCESS, runs), 3),
            "with_turns_seconds": round(analysis.seconds(folder, WITH_TURNS, runs), 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=5_000)
    parser.add_argument("--tabulated", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    left = bytes_an_episode(given.episodes)
    found = tables(given.tabulated, given.runs)
    files = max(left["files"][table] for table in ("episodes", "turns", "calls"))
    print(
        ending(
            "store",
            {
                "most_files": AtMost(files, -(-given.episodes // ATTEMPTS)),
                "success_seconds": AtMost(found.pop("success_seconds"), analysis.LIMIT),
                "with_turns_seconds": AtMost(found.pop("with_turns_seconds"), analysis.TURNS_LIMIT),
            },
            episodes=given.episodes,
            **left,
            tabulated=given.tabulated,
            runs=given.runs,
            **found,
        )
    )


if __name__ == "__main__":
    main()
