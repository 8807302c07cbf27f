"""How long it takes to read 1,000,000 invented reviews in the format of Amazon Reviews 2023.

`python -m tests.bench.amazon_reviews [FOLDER]` writes them to FOLDER, unless they are there, reads
them, and prints CPU seconds, wall seconds and peak memory.
"""

from __future__ import annotations

import gzip
import json
import random
import resource
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path

from agents.core.plugins import build_options
from simulators.domains.amazon_2023 import Amazon2023
from simulators.domains.core.files import WATCHER
from tests.fixtures_amazon_2023 import CATEGORY, START_MS, product

REVIEWS, USERS, ITEMS = 1_000_000, 60_000, 30_000
_TEXT = "I bought this because it is comfortable and the fabric is soft. " * 5


def write(folder: Path) -> None:
    """Reviews in which few users and products are frequent; one line in 200,003 is broken."""
    rng = random.Random(0)
    users = accumulate(1 / (1 + n) ** 0.4 for n in range(USERS))
    items = accumulate(1 / (1 + n) ** 0.5 for n in range(ITEMS))
    who = rng.choices(range(USERS), cum_weights=list(users), k=REVIEWS)
    what = rng.choices(range(ITEMS), cum_weights=list(items), k=REVIEWS)
    with gzip.open(folder / f"{CATEGORY}.jsonl.gz", "wt", compresslevel=3) as file:
        for n, (user, item) in enumerate(zip(who, what, strict=True)):
            one = {
                "rating": float(1 + n % 5),
                "title": "Good",
                "text": _TEXT[: rng.randrange(40, 320)],
                "images": [],
                "asin": f"B{item:07d}",
                "parent_asin": f"B{item:07d}",
                "user_id": f"AE{user:07d}",
                "timestamp": START_MS + n * 1000,
                "helpful_vote": 0,
                "verified_purchase": True,
            }
            file.write('{"broken": \n' if n % 200_003 == 7 else json.dumps(one) + "\n")
    with gzip.open(folder / f"meta_{CATEGORY}.jsonl.gz", "wt", compresslevel=3) as file:
        for item in range(ITEMS):
            file.write(json.dumps(product(f"B{item:07d}")) + "\n")


def main(folder: Path) -> None:
    if not (folder / f"meta_{CATEGORY}.jsonl.gz").exists():
        write(folder)
    heard = []
    WATCHER.set(lambda path, lines, share: heard.append(lines))
    wall, cpu = time.perf_counter(), time.process_time()
    domain = Amazon2023(build_options(Amazon2023.Options, {"path": folder}))  # pyright: ignore[reportArgumentType]
    counts = domain.statistics()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{REVIEWS:,} reviews: {cpu:.1f} s of CPU, {wall:.1f} s, {peak:.0f} MiB, {counts}")
    print(f"progress was reported {len(heard)} times", *domain.remarks(), sep="\n")
    assert wall < 60 and peak < 2048, "expected 60 s and 2 GiB at most"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
