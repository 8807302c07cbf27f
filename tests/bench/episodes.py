"""Episodes per second with the rules backend, from the first lease to the last commit.

    python -m tests.bench.episodes --episodes 10000

10,000 dialogues of exactly 5 turns, a synthetic catalogue of 3,000 items, `executor: ray`. It runs
the same code as `crsweep run`; the start-up of Ray and workers is not counted. The limit of the
median of 5 runs is 300 episodes/s.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
from pathlib import Path

import yaml
from rich.console import Console

from runner.driver.run import run
from tests.bench.ending import AtLeast, ending

LIMIT = 300.0  # episodes/s on 2 cores
ROOT = Path(__file__).parent.parent.parent


def sweep(folder: Path, episodes: int, executor: str, **changes: object) -> Path:
    """A sweep file of `episodes` dialogues: 2 agents x 1 model x 2 seeds x cases."""
    data = {
        "name": "bench",
        "out": str(folder / "out"),
        "domain": {"name": "synthetic", "items": 3000, "users": 1_000_000},
        "cases": {"sample": episodes // 4},
        "models": {"strong": {"backend": "rules", "skill": 0.9, "knowledge": 0.8}},
        "roles": {"user": "strong", "agent": "strong"},
        "grid": {"agent": ["zero_shot", "react"], "seed": [0, 1]},
        "simulator": {
            "name": "tests.bench.stubborn",
            "prompts": str(ROOT / "simulators/users/target_item/prompts"),
        },
        "run": {"executor": executor, "episode_workers": 2, "concurrency": 64},
        **changes,
    }
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def measure(episodes: int, executor: str) -> tuple[float, float]:
    """Episodes per second, and calls per episode, of one fresh run."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(
            sweep(Path(folder), episodes, executor),
            [],
            accept_source_change=False,
            console=Console(file=io.StringIO()),
        )
    tally = outcome.tally
    assert tally is not None
    assert tally.settled == episodes
    assert tally.failed == 0
    return episodes / tally.seconds, tally.counts.calls / episodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--executor", choices=["ray", "local"], default="ray")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    found = [measure(given.episodes, given.executor) for _ in range(given.runs)]
    median = statistics.median(rate for rate, _ in found)
    print(
        ending(
            "episodes",
            {"episodes_per_s": AtLeast(round(median, 1), LIMIT)},
            executor=given.executor,
            episodes=given.episodes,
            turns=5,
            calls_per_episode=round(found[0][1], 2),
            runs=[round(rate, 1) for rate, _ in found],
        )
    )


if __name__ == "__main__":
    main()
