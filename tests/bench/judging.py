"""Calls per second when judging stored dialogues, relative to what a fixed-latency model allows.

    python -m tests.bench.judging --dialogues 10000

The dialogues of `tests.bench.episodes` are run once with the rules backend, by one agent with one
seed: equal dialogues would share their judges' calls. Then 4 judges read them with a model that
takes 0.5 s per call, 64 judgements at once, everything stored and cached durably. The rate is taken
from the model's own log, from its first request to its last answer. The limit is concurrency /
latency; the median of 5 runs should reach at least 0.70 of it. From the CPU time per call, over all
processes, follows the rate of an otherwise idle machine: cores / CPU time.
"""

from __future__ import annotations

import io
import shutil
import statistics
import tempfile
from pathlib import Path

import yaml
from rich.console import Console

from analysis.results import Results
from runner.driver.judging import Selection
from runner.driver.run import judge, run
from tests.bench.cpu import CpuClock
from tests.bench.ending import AtLeast, ending
from tests.bench.episodes import sweep
from tests.bench.throughput import answered, load_parser

EXPECTED = 0.70  # of concurrency / latency
JUDGES = ["relevance", "intention", "credibility", "crsarena"]


def measure(
    folder: Path, latency_ms: float, concurrency: int, executor: str
) -> tuple[int, float, float]:
    """Calls, calls per second and CPU ms per call of judging `folder`, which is not changed."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        shutil.copytree(folder, out)
        overlay = Path(name) / "judges.yaml"
        overlay.write_text(
            yaml.safe_dump(
                {
                    "models": {"fixed": {"backend": "latency", "latency_ms": latency_ms}},
                    "roles": {"judge": "fixed"},
                    "judges": JUDGES,
                    "run": {"executor": executor, "concurrency": concurrency},
                    "cache": {"path": f"{name}/cache"},
                }
            )
        )
        with CpuClock() as clock:
            result = judge(
                str(out),
                [str(overlay)],
                selection=Selection(),
                accept_source_change=False,
                console=Console(file=io.StringIO()),
            )
        assert result.tally is not None
        assert result.left == result.tally.failed == 0
        calls = answered(out)
        rows = Results.open(out).query("SELECT count(*) FROM calls WHERE role LIKE 'judge%'")
        assert [(len(calls),)] == rows.fetchall(), "calls were shared"
    start, end = min(c[0] for c in calls), max(c[1] for c in calls)
    cpu = sum(clock.between(start, end).values())
    return len(calls), len(calls) / (end - start), 1000 * cpu / len(calls)


def main() -> None:
    parser = load_parser(__doc__, dialogues=10_000, concurrency=64, latency_ms=500.0)
    parser.add_argument("--executor", choices=["ray", "local"], default="ray")
    given = parser.parse_args()
    limit = given.concurrency / given.latency_ms * 1000
    with tempfile.TemporaryDirectory() as name:
        path = sweep(
            Path(name),
            given.dialogues,
            "local",
            cases={"sample": given.dialogues},
            grid={"agent": ["zero_shot"], "seed": [0]},
        )
        run(path, [], accept_source_change=False, console=Console(file=io.StringIO()))
        found, costs = [], []
        for _ in range(given.runs):
            calls, rate, cpu = measure(
                Path(name) / "out", given.latency_ms, given.concurrency, given.executor
            )
            print(
                f"{calls:,} calls, {rate:,.1f} calls/s, {rate / limit:.2f} of the limit, "
                f"{cpu:.2f} ms of CPU a call",
                flush=True,
            )
            found.append(rate)
            costs.append(cpu)
    measured = {"calls_per_s": AtLeast(round(statistics.median(found), 1), limit * EXPECTED)}
    more = {"cpu_ms_per_call": round(statistics.median(costs), 2)}
    print(ending("judging", measured, dialogues=given.dialogues, ceiling=limit, **more))


if __name__ == "__main__":
    main()
