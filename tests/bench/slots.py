"""How well a run uses its slots when the lengths of dialogues differ widely.

    python -m tests.bench.slots

450 dialogues on 10 slots; their lengths are drawn from a heavy-tailed distribution (median 45, mean
54, at most 217 turns of one call). Utilisation is the time in which slots played a dialogue,
divided by the time in which they existed, computed from the committed episodes. The limit of the
median of 5 runs is 0.95.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
from pathlib import Path

import yaml
from rich.console import Console

from analysis.results import Results
from runner.driver.run import run
from tests.bench.ending import AtLeast, ending
from tests.bench.lasting import MOST

SLOTS, DIALOGUES = 10, 450
LIMIT = 0.95


def use(latency_ms: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        data = {
            "name": "bench",
            "out": f"{name}/out",
            "domain": {"name": "synthetic", "items": 500, "users": 10_000},
            "cases": {"sample": DIALOGUES},
            "models": {"fixed": {"backend": "latency", "latency_ms": latency_ms}},
            "roles": {"user": "fixed", "agent": "fixed"},
            "agent": "tests.bench.padded_agent",
            "simulator": "tests.bench.lasting",
            "limits": {"max_turns": MOST + 1, "episode_tokens": 100_000_000},
            "cache": {"path": f"{name}/cache"},
            "run": {"episode_workers": 1, "concurrency": SLOTS},
        }
        path = Path(name) / "bench.yaml"
        path.write_text(yaml.safe_dump(data))
        outcome = run(path, [], accept_source_change=False, console=Console(file=io.StringIO()))
        assert outcome.left == 0
        found = Results.open(outcome.folder).query(
            "SELECT sum(ended - started), max(ended) - min(started), median(turns), avg(turns), "
            "max(turns) FROM episodes"
        )
        row = found.fetchone()
    assert row is not None
    busy, wall, median, mean, most = row
    return {"use": busy / SLOTS / wall, "median": median, "mean": round(mean, 1), "max": most}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    found = [use(given.latency_ms) for _ in range(given.runs)]
    median = statistics.median(each["use"] for each in found)
    print(
        ending(
            "slots",
            {"use": AtLeast(round(median, 3), LIMIT)},
            slots=SLOTS,
            dialogues=DIALOGUES,
            turns={key: found[0][key] for key in ("median", "mean", "max")},
            runs=[round(each["use"], 3) for each in found],
        )
    )


if __name__ == "__main__":
    main()
