"""How fast a training loop plays, relative to the limit set by calls that depend on each other.

    python -m tests.bench.rollouts [--backend latency|rules] [--latency-ms 500] [--every 16]
        [--dialogues 64] [--turns 10] [--samples 10] [--agent NAME] [--width 64]

A loop of dialogues with a critic that makes several draws per turn. The limit for an update is the
longest chain of dependent calls in one of its dialogues (the draws of one step count as one call),
each with the fixed latency; the planner's own decisions count as zero. `share` is that limit's
share of the time of all rollouts and updates; with `every: 16` it should be at least 0.70. Also
printed: epochs of 100 dialogues per hour, and the share of the time in which dialogues were played;
the rest is updates, commits and scheduling.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import yaml
from rich.console import Console

from runner.driver.run import run
from tests.bench.ending import AtLeast, ending

GOAL = 0.70


def sweep(folder: Path, given: argparse.Namespace) -> Path:
    network = {"name": "transformer", "width": given.width}
    rl = {"epochs": 1, "dialogues": given.dialogues, "updates": {"every": given.every}}
    planner = {"stage": "rl", "warm_up": False, "network": network, "rl": rl}
    model: dict[str, Any] = {"backend": given.backend}
    if given.backend == "latency":
        model["latency_ms"] = given.latency_ms
    data = {
        "name": "rollouts",
        "out": str(folder / "out"),
        "domain": {"name": "synthetic", "items": 300, "users": 801, "history": 4},
        "cases": {"sample": 1},
        "models": {"m": model},
        "roles": {"user": "m", "agent": "m", "critic": "m"},
        "agent": {"name": given.agent, "planner": planner}
        | ({"silent": False} if given.agent == "tests.planned_agent" else {}),
        # A threshold that no score is above: every dialogue is as long as its user has it.
        "critic": {"name": "rewarder", "samples": given.samples, "threshold": 1},
        "limits": {"max_turns": given.turns, "episode_tokens": 10_000_000},
        "cache": {"path": str(folder / "cache")},
        "artifacts": {"path": str(folder / "artifacts")},
        "run": {"executor": given.executor, "concurrency": max(64, given.every)},
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def table(out: Path, name: str) -> pd.DataFrame:
    parts = sorted((out / name).glob("*.parquet"))
    return pd.concat([pq.read_table(part).to_pandas() for part in parts], ignore_index=True)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcome = run(
            sweep(folder, given),
            [],
            accept_source_change=False,
            console=Console(file=io.StringIO()),
        )
        assert outcome.left == 0
        rollouts = table(folder / "out", "rollouts")
        calls = table(folder / "out", "calls")
        about = json.loads(
            max((folder / "artifacts").glob("*/artifact.json"), key=lambda p: p.stat().st_mtime)
            .read_text()
        )  # fmt: skip
    assert (rollouts.status == "done").all() and len(rollouts) == given.dialogues
    asked = calls[calls.step != "decide"]
    links = asked.groupby("attempt_id")[["turn", "role", "step", "reask"]].apply(
        lambda rows: len(rows.drop_duplicates())
    )
    rollouts["links"] = rollouts.attempt_id.map(links)
    rounds = rollouts.groupby("round").agg(
        links=("links", "max"), started=("started", "min"), ended=("ended", "max")
    )
    whole = rounds.ended.max() - rounds.started.min()
    played = (rounds.ended - rounds.started).sum()
    decisions = calls[calls.step == "decide"].seconds
    return {
        "limit_s": round(float(rounds.links.sum()) * given.latency_ms / 1000, 2),
        "seconds": round(float(whole), 2),
        "played_share": round(float(played / whole), 3),
        "between_updates_ms": round(float((whole - played) / max(1, len(rounds) - 1)) * 1000),
        "loop_s": about["seconds"],
        "calls": len(calls),
        "played_turns": int(rollouts.turns.sum()),
        "decision_ms": round(float(decisions.median()) * 1000, 1),
        "epochs_an_hour": round(3600 / whole * len(rollouts) / 100, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["latency", "rules"], default="latency")
    parser.add_argument("--latency-ms", type=float, default=500.0)
    parser.add_argument("--every", type=int, default=16)
    parser.add_argument("--dialogues", type=int, default=64)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--agent", default="tests.planned_agent")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--executor", choices=["local", "ray"], default="local")
    given = parser.parse_args()
    found = measure(given)
    if given.backend == "rules":
        print(json.dumps({"bench": "rollouts", **vars(given), **found}))
        return
    share = found["limit_s"] / found["seconds"]
    print(ending("rollouts", {"share": AtLeast(round(share, 3), GOAL)}, **vars(given), **found))


if __name__ == "__main__":
    main()
