"""Throughput of a sweep with real vLLM, as a share of that of bare AsyncLLM.

    python -m tests.bench.vllm_throughput --runs 5

Each run plays one sweep with the classes of `crsweep run`, storage on, and then sends the same
requests to a bare AsyncLLM in a separate process, in the same order and with the same concurrency.
The model is one tiny Llama with random weights, whose size is chosen so that bare vLLM serves at
least 150 requests/s on 2 cores. The limit of the ratio is 0.90.
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

from agents.core import plugins
from analysis.results import Results
from runner.driver.run import run
from runner.placement.cluster import gpu_memories
from sweeps.origins import Origins
from sweeps.schema import ModelSpec
from tests import tiny_models
from tests.bench.cpu import CpuClock
from tests.bench.ending import AtLeast, ending
from workers.models import backend_of

LIMIT = 0.90
LEAST_BARE = 150.0  # requests/s, below which the comparison says little
IN_FLIGHT = 128  # requests in the engine at once, of both
DIALOGUES = 192  # at once in the sweep: some are always between two calls
EPISODES = 1024
THREADS = 1  # what `runner.driver.executors` gives one engine on 2 cores
SAMPLING = {"temperature": 0.7, "max_tokens": 160}


def model(folder: Path) -> dict[str, Any]:
    """The sweep's model, as `models.tiny` defines it."""
    return {
        "backend": "vllm",
        "model": str(tiny_models.make(folder, "llama", layers=1, hidden=64)),
        "max_model_len": 2048,
        "max_inflight": IN_FLIGHT,
        "gpus_per_replica": 1,
        "sampling": SAMPLING,
    }


def sweep(folder: Path, episodes: int) -> Path:
    data = {
        "name": "bench",
        "out": str(folder / "out"),
        "domain": {"name": "synthetic", "items": 500, "users": 100_000},
        "cases": {"sample": episodes},
        "models": {"tiny": model(folder)},
        "roles": {"user": "tiny", "agent": "tiny"},
        "agent": "tests.bench.terse_agent",
        "simulator": "tests.bench.terse_user",
        "limits": {"max_turns": 4},
        "cache": {"path": str(folder / "cache")},
        "run": {"episode_workers": 1, "concurrency": DIALOGUES},
    }
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def through_crsweep(folder: Path, episodes: int) -> tuple[dict[str, Any], Path]:
    """The numbers of the sweep, and a file with the requests that it made."""
    with CpuClock() as clock:
        outcome = run(
            sweep(folder, episodes), [], accept_source_change=False,
            console=Console(file=io.StringIO()),
        )  # fmt: skip
    assert outcome.tally is not None
    assert outcome.left == 0
    results = Results.open(folder / "out")
    rows = results.query(
        "SELECT step, prompt, seed, turn, started, started + seconds, "
        "input_tokens + output_tokens FROM calls ORDER BY started"
    ).fetchall()
    # From the first answer on, which is when the first call of a first turn is made. An opening's
    # `started` does not help: it has waited for the engine to load, which `seconds` leaves out.
    start, end = min(row[4] for row in rows if row[3] > 0), max(row[5] for row in rows)
    cpu = clock.between(start, end)
    measured = {
        "requests_per_s": len(rows) / (end - start),
        "tokens_per_s": sum(row[6] for row in rows) / (end - start),
        "cpu_ms_per_call": sum(cpu.values()) / len(rows) * 1000,
        "cpu_ms_by_process": {k: round(v / len(rows) * 1000, 2) for k, v in sorted(cpu.items())},
        "requests": len(rows),
        "failed": outcome.tally.failed,
    }
    schemas = {
        **_schemas("agents", "tests.bench.terse_agent"),
        **_schemas("simulators.users", "tests.bench.terse_user"),
    }
    cls, options = backend_of(ModelSpec(**model(folder)), Origins(), ())
    cpu = not gpu_memories()
    spec = cls.engine(options, "tiny", cpu)
    assert spec is not None
    given = {
        "arguments": dict(spec.arguments),
        "sampling": options.sampling.for_engine(),  # type: ignore[attr-defined]
        "concurrency": IN_FLIGHT,
        "threads": THREADS if cpu else None,
        "requests": [
            {"messages": json.loads(prompt), "seed": seed, "schema": schemas[step]}
            for step, prompt, seed, *_ in rows
        ],
    }
    path = folder / "requests.json"
    path.write_text(json.dumps(given))
    return measured, path


def bare(requests: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.bare", str(requests)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _schemas(package: str, name: str) -> dict[str, str]:
    return {step.name: step.schema_json for step in plugins.load(package, name, "speaker").steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    pairs = []
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory() as name:
            ours, requests = through_crsweep(Path(name), given.episodes)
            theirs = bare(requests)
        ratio = ours["requests_per_s"] / theirs["requests_per_s"]
        print(json.dumps({"ratio": round(ratio, 3), "crsweep": ours, "bare": theirs}), flush=True)
        pairs.append((ratio, ours, theirs))
    ratio = statistics.median(p[0] for p in pairs)
    print(
        ending(
            "vllm_throughput",
            {"ratio": AtLeast(round(ratio, 3), LIMIT)},
            in_flight=IN_FLIGHT,
            requests=pairs[0][1]["requests"],
            bare_requests_per_s=_median(p[2]["requests_per_s"] for p in pairs),
            crsweep_requests_per_s=_median(p[1]["requests_per_s"] for p in pairs),
            bare_tokens_per_s=_median(p[2]["tokens_per_s"] for p in pairs),
            crsweep_tokens_per_s=_median(p[1]["tokens_per_s"] for p in pairs),
            bare_cpu_ms_per_call=_median(p[2]["cpu_ms_per_call"] for p in pairs),
            crsweep_cpu_ms_per_call=_median(p[1]["cpu_ms_per_call"] for p in pairs),
            least_bare=LEAST_BARE,
        )
    )


def _median(values: Any) -> float:
    return round(statistics.median(values), 1)


if __name__ == "__main__":
    main()
