"""Calls a second through the whole path, next to what a model of fixed latency allows.

    python -m tests.bench.throughput --dialogues 1000 --turns 6 --concurrency 256 --latency-ms 50

Dialogues of agent and user, one call a turn each, with distinct prompts of 2,000 characters; a
model of fixed latency in an actor of its own; cache on, everything stored durably. The rate is
taken from the model's own log. The limit is concurrency / latency, where the CPU is none.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from analysis.results import Results
from runner.run import run
from tests.bench.cpu import CpuClock


def sweep(folder: Path, given: argparse.Namespace) -> Path:
    data = {
        "name": "bench",
        "out": str(folder / "out"),
        "domain": {"name": "synthetic", "items": 500, "users": 100_000, "history": 4},
        "cases": {"sample": given.dialogues},
        "models": {"fixed": {"backend": "latency", "latency_ms": given.latency_ms}},
        "roles": {"user": "fixed", "agent": "fixed"},
        "agent": "tests.bench.padded_agent",
        "simulator": "tests.bench.padded_user",
        "limits": {"max_turns": given.turns, "episode_tokens": 10_000_000},
        "cache": {"path": str(folder / "cache"), "mode": given.cache},
        "run": {"episode_workers": given.workers, "concurrency": given.concurrency},
    }
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def answered(out: Path) -> list[tuple[float, float]]:
    """When each request came and was answered, by the model's log."""
    found = []
    for log in (out / "logs").glob("latency-*.jsonl"):
        with log.open() as file:
            for line in file:
                entry = json.loads(line)
                found.append((entry["arrived"], entry["answered"]))
    return found


def measure(given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = sweep(folder, given)
        with CpuClock() as clock:
            outcome = run(path, [], accept_source_change=False, console=Console(file=io.StringIO()))
        assert outcome.tally is not None
        assert outcome.left == outcome.tally.failed == 0
        calls = answered(folder / "out")
        rows = Results.open(folder / "out").query("SELECT count(*) FROM calls").fetchone()
        assert rows is not None
        # A user's reply to the last turn is a call too; the opening is none.
        assert len(calls) == rows[0] == 2 * given.dialogues * given.turns
        start, end = min(c[0] for c in calls), max(c[1] for c in calls)
        cpu = clock.between(start, end)
    return {
        "calls": len(calls),
        "calls_per_s": len(calls) / (end - start),
        "cpu_us_per_call": sum(cpu.values()) / len(calls) * 1e6,
        "cpu_us_by_process": {k: round(v / len(calls) * 1e6) for k, v in sorted(cpu.items())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dialogues", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache", default="readwrite")
    parser.add_argument("--limit", type=float, help="calls/s; default: concurrency / latency")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    limit = given.limit or given.concurrency / given.latency_ms * 1000
    found = []
    for _ in range(given.runs):
        found.append(measure(given))
        print(json.dumps(found[-1]), flush=True)
    median = statistics.median(each["calls_per_s"] for each in found)
    print(
        json.dumps(
            {
                "bench": "throughput",
                "calls": found[0]["calls"],
                "concurrency": given.concurrency,
                "latency_ms": given.latency_ms,
                "calls_per_s": round(median, 1),
                "cpu_us_per_call": round(statistics.median(e["cpu_us_per_call"] for e in found)),
                "limit": limit,
                "efficiency": round(median / limit, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
