"""`make chaos`: a longer storm.

python -m tests.chaos --episodes 10000 --seed 7
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path

from tests.chaos.storm import storm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as name:
            found = storm(Path(name), episodes=given.episodes, seed=given.seed + number)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
