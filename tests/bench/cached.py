"""Episodes per second of a sweep whose results were deleted but whose cache was kept.

    python -m tests.bench.cached --dialogues 10000

The sweep of `tests.bench.throughput` with 4 turns (8 calls) runs once, its results are deleted, and
it runs again: no call reaches the model. The median of 5 such runs; the limit is 800 episodes/s.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import tempfile
from pathlib import Path

from rich.console import Console

from analysis.results import Results
from runner.driver.run import run
from tests.bench.ending import AtLeast, ending
from tests.bench.throughput import answered, sweep

LIMIT = 800.0  # episodes/s on 2 cores


def play(path: Path) -> float:
    """Episodes per second, from the first lease to the last commit."""
    outcome = run(path, [], accept_source_change=False, console=Console(file=io.StringIO()))
    assert outcome.tally is not None
    assert outcome.left == outcome.tally.failed == 0
    return outcome.tally.settled / outcome.tally.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dialogues", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    own = parser.parse_args()
    given = argparse.Namespace(
        dialogues=own.dialogues, turns=4, concurrency=256, latency_ms=0.0, cache="readwrite",
        workers=2,
    )  # fmt: skip
    rates = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = sweep(folder, given)
        play(path)
        for _ in range(own.runs):
            shutil.rmtree(folder / "out")
            rates.append(play(path))
            assert not answered(folder / "out"), "a call has reached the model"
            found = Results.open(folder / "out").query(
                "SELECT count(*), count(*) FILTER (cached) FROM calls"
            )
            assert found.fetchone() == (8 * own.dialogues, 8 * own.dialogues)
    median = statistics.median(rates)
    print(
        ending(
            "cached",
            {"episodes_per_s": AtLeast(round(median, 1), LIMIT)},
            episodes=own.dialogues,
            model_calls=0,
            runs=[round(rate, 1) for rate in rates],
        )
    )


if __name__ == "__main__":
    main()
