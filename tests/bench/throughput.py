"""Calls per second end to end, relative to what a fixed-latency model allows.

    python -m tests.bench.throughput --dialogues 1000 --turns 6 --concurrency 256 --latency-ms 50

Dialogues of agent and user, one call per turn each, with distinct prompts of 2,000 characters; a
fixed-latency model in its own actor; cache on, everything stored durably. The rate is taken from
the model's own log, as the median of 5 runs. The limit is concurrency / latency, as if the CPU were
infinitely fast.

`--peer FILE` runs the same load through inspect-ai after each of our runs, and prints the median
ratio of our calls/s to its; the limit is 10. FILE is a script that takes `-n DIALOGUES -t TURNS
-c CONCURRENCY -l SECONDS --realtime 0` and ends with a line of JSON with `calls` and `calls_s`.
inspect-ai is not a dependency of crsweep: install it in a separate environment,

    python -m venv /tmp/inspect-venv && /tmp/inspect-venv/bin/pip install inspect-ai

and pass its interpreter: `--peer FILE --peer-python /tmp/inspect-venv/bin/python`.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from analysis.results import Results
from runner.driver.run import run
from tests.bench.cpu import CpuClock
from tests.bench.ending import AtLeast, ending

PEER_LIMIT = 10.0  # times the calls/s of inspect-ai, at least


def load_parser(
    about: str | None,
    *,
    dialogues: int = 1000,
    concurrency: int = 256,
    latency_ms: float = 50.0,
) -> argparse.ArgumentParser:
    """A parser with the options of a load on a fixed-latency model, and with `--runs`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--dialogues", type=int, default=dialogues)
    parser.add_argument("--concurrency", type=int, default=concurrency)
    parser.add_argument("--latency-ms", type=float, default=latency_ms)
    parser.add_argument("--runs", type=int, default=5)
    return parser


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
    """When each request arrived and was answered, from the model's log."""
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


def peer(given: argparse.Namespace) -> float:
    """Calls per second of the peer under the same load."""
    load = (
        ("-n", given.dialogues),
        ("-t", given.turns),
        ("-c", given.concurrency),
        ("-l", given.latency_ms / 1000),
        ("--realtime", 0),  # its fastest setting
    )
    with tempfile.TemporaryDirectory() as folder:
        words = [str(word) for pair in load for word in pair]
        done = subprocess.run(
            [given.peer_python, "-E", str(given.peer.resolve()), *words, "--dir", f"{folder}/logs"],
            check=True, stdout=subprocess.PIPE, text=True, cwd=folder,
        )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["calls"] == 2 * given.dialogues * given.turns
    return found["calls_s"]


def main() -> None:
    parser = load_parser(__doc__)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache", default="readwrite")
    parser.add_argument("--limit", type=float, help="calls/s; default: concurrency / latency")
    parser.add_argument("--peer", type=Path, help="a script that plays the same load elsewhere")
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter for --peer")
    given = parser.parse_args()
    limit = given.limit or given.concurrency / given.latency_ms * 1000
    found, peers = [], []
    for _ in range(given.runs):
        found.append(measure(given))
        print(json.dumps(found[-1]), flush=True)
        if given.peer is not None:
            peers.append(peer(given))
            print(json.dumps({"peer": peers[-1]}), flush=True)
    rates = [each["calls_per_s"] for each in found]
    measured = {"calls_per_s": AtLeast(round(statistics.median(rates), 1), limit)}
    facts: dict[str, Any] = {}
    if peers:
        ratio = statistics.median(ours / its for ours, its in zip(rates, peers, strict=True))
        measured["ratio_to_peer"] = AtLeast(round(ratio, 2), PEER_LIMIT)
        facts["peer_calls_per_s"] = round(statistics.median(peers), 1)
    print(
        ending(
            "throughput",
            measured,
            calls=found[0]["calls"],
            concurrency=given.concurrency,
            latency_ms=given.latency_ms,
            runs=[round(rate, 1) for rate in rates],
            cpu_us_per_call=round(statistics.median(e["cpu_us_per_call"] for e in found)),
            **facts,
        )
    )


if __name__ == "__main__":
    main()
