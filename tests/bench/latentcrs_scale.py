"""LatentCRS at scale: one-turn ranks in blocks, and embeddings that do not fit in memory.

python -m tests.bench.latentcrs_scale [--users N] [--vectors N]

1. The ranks of given targets for users with given embeddings, with both forms of g and for
   catalogues of growing size, in blocks of users. Prints users per second, the time for 100,000
   users, and the peak memory of the process, including the embeddings of its users.
2. Half-precision vectors of 4,096 dimensions are written as an array of an artifact, as `vectors`
   does while it embeds; then they are stored, memory-mapped and compared row by row. Prints the
   anonymous memory beyond that at the start.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import numpy as np

from agents.core.artifacts import Content
from agents.latentcrs.model import IntentModel
from agents.latentcrs.pipeline import on_disk
from workers.artifacts.store import About, ArtifactStore

BLOCK, K, D, D_S, D_X = 16, 64, 64, 64, 4096
CATALOGUES = (3_533, 20_000, 76_616)


def model(items: int, g: str) -> IntentModel:
    rng = np.random.default_rng(0)
    shapes = {
        "history_weight": (D, D_S),
        "history_bias": (D,),
        "words_weight": (D, D_X),
        "words_bias": (D,),
        "inner_weight": (2 * D, 2 * D),
        "inner_bias": (2 * D,),
        "outer_weight": (D, 2 * D),
        "outer_bias": (D,),
        "anchor_weight": (D, D_S),
        "intent_weight": (D, D_S),
        "item_weight": (D, D_S),
        "anchors": (K, D_S),
        "items": (items, D_S),
        "history_mean": (D_S,),
        "words_mean": (D_X,),
    }
    arrays = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {"history_scale": np.ones(D_S, np.float32), "words_scale": np.ones(D_X, np.float32)}
    return IntentModel(Content({"g": g}, arrays))


def ranked(users: int, items: int, g: str) -> float:
    """Users per second."""
    rng = np.random.default_rng(1)
    ranker = model(items, g)
    histories = rng.normal(size=(users, D_S)).astype(np.float32)
    words = rng.normal(size=(users, D_X)).astype(np.float16)
    targets = rng.integers(0, items, users)
    ranker.probabilities(histories[:1], words[:1])  # what is worked out once
    started = time.perf_counter()
    ranks = []
    for start in range(0, users, BLOCK):
        rows = slice(start, start + BLOCK)
        found = ranker.probabilities(histories[rows], words[rows])
        own = found[np.arange(len(found)), targets[rows]]
        ranks.append(1 + (found > own[:, None]).sum(axis=1))
    assert np.concatenate(ranks).min() >= 1
    return users / (time.perf_counter() - started)


def anonymous() -> float:
    """Memory that no file backs, in MiB."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def stored(count: int) -> dict[str, float]:
    before, most, started = anonymous(), 0.0, time.perf_counter()
    array = on_disk((count, D_X))
    for start in range(0, count, 64):
        rows = np.arange(start, min(count, start + 64))
        array[rows] = (rows % 2048)[:, None]
        most = max(most, anonymous())
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(Path(folder))
        _, content = store.keep(About(key="k", digest="", arrays=[]), Content({}, {"v": array}))
        most = max(most, anonymous())
        for start in range(0, count, 64):
            rows = np.arange(start, min(count, start + 64))
            assert (content.arrays["v"][rows] == (rows % 2048)[:, None]).all()
        most = max(most, anonymous())
    seconds = time.perf_counter() - started
    return {"vectors": count, "seconds": round(seconds, 1), "anonymous_mib": round(most - before)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=128)
    parser.add_argument("--vectors", type=int, default=50_000)
    given = parser.parse_args()
    for g in ("independent", "eq6"):
        for items in CATALOGUES:
            rate = ranked(given.users, items, g)
            print(
                f"g {g}, {items:,} items: {rate:.1f} users/s, "
                f"100,000 users in {100_000 / rate / 60:.0f} min, "
                f"at most {getrusage(RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB so far",
                flush=True,
            )
    print(json.dumps(stored(given.vectors)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
