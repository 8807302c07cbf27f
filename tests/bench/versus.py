"""Compares two revisions by one benchmark, alternating on the same machine.

    python -m tests.bench.versus fab119c HEAD --pairs 10 -- throughput --dialogues 300 --runs 1

Both revisions are checked out and run in turn, the old one first in one pair and the new one first
in the next. A pair's ratio is the new `efficiency` divided by the old one (from the benchmark's
last line), so 1 means equal and more means faster. Prints all pairs, the median ratio, and its 95 %
percentile bootstrap interval over pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from tests.bench.ending import AtLeast, ending

LIMIT = 0.95  # of the median ratio
_DRAWS = 10_000


@contextmanager
def checked_out(revision: str, where: Path):
    """A temporary worktree of `revision`."""
    subprocess.run(
        ["git", "worktree", "add", "--quiet", "--detach", str(where), revision], check=True
    )
    try:
        yield where
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(where)], check=True)


def efficiency(root: Path, bench: Sequence[str]) -> float:
    """The efficiency that one run of a benchmark in `root` prints at the end."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{bench[0]}", *bench[1:]],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])["efficiency"]


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the median of `ratios`."""
    draws = np.random.default_rng(0).choice(ratios, (_DRAWS, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", help="a revision of this repository")
    parser.add_argument("new")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("bench", nargs="+", help="a benchmark and its options, after --")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        roots = [
            stack.enter_context(checked_out(revision, folder / name))
            for name, revision in (("old", given.old), ("new", given.new))
        ]
        ratios = []
        for pair in range(given.pairs):
            order = roots if pair % 2 == 0 else roots[::-1]
            found = {root: efficiency(root, given.bench) for root in order}
            old, new = (found[root] for root in roots)
            ratios.append(new / old)
            print(json.dumps({"old": old, "new": new, "ratio": round(new / old, 3)}), flush=True)
    low, high = interval(ratios)
    print(
        ending(
            "versus",
            {"ratio": AtLeast(round(float(np.median(ratios)), 3), LIMIT)},
            of=given.bench,
            interval=[round(low, 3), round(high, 3)],
            pairs=given.pairs,
        )
    )


if __name__ == "__main__":
    main()
