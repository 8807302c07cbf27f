"""The viewer with a million episodes: seconds to open, seconds per page, memory.

    python -m tests.bench.viewer --episodes 1000000

Parts are written directly with pyarrow, as compaction leaves them (2,000 episodes per file, 8 turns
and 8 calls each, 4 cells x 5 seeds x cases). Then `crsweep view` starts in a separate process, and
each page is requested `--runs` times, with different parameters each time. The limits on 2 cores:
15 s until the first response, 1 s for the 95th percentile of each page, 1,024 MiB for the process
tree.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from re import findall
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from sweeps.storage import parts
from sweeps.storage.records import SCHEMAS, metadata
from tests.analysis.builder import Built, grid_of
from tests.bench.ending import AtMost, ending
from tests.conftest import ROOT

OPEN_LIMIT, PAGE_LIMIT, MEMORY_LIMIT = 15.0, 1.0, 1024
SEEDS, TURNS, FILE, BUNDLE = 5, 8, 2_000, 128
TEXT = "a sentence about a film that a user might like, with a reason for it " * 3


def write(folder: Path, episodes: int) -> None:
    """A sweep in compacted parts. Episode n is of cell n % 4, seed n // 4 % 5 and case n // 20."""
    cells = grid_of("zero_shot", "react")
    cases = -(-episodes // (len(cells) * SEEDS))
    built = Built(cells, seeds=list(range(SEEDS)), case_ids=[f"user-{n}" for n in range(cases)])
    built.write(folder)
    for number, start in enumerate(range(0, episodes, FILE)):
        _write_file(folder, cells, np.arange(start, min(start + FILE, episodes)), number)


def _write_file(folder: Path, cells: list, numbers: np.ndarray, file: int) -> None:
    rng = np.random.default_rng(file)
    count = len(numbers)
    bundles = np.array([f"000001-w000-{n:06}" for n in range(count // BUNDLE + 1)])
    bundles = np.char.replace(bundles, "w000", f"w{file:03}")
    bundle = bundles[np.arange(count) // BUNDLE]
    attempts = np.array([f"{n * 2654435761 % 2**64:032x}.1.0" for n in numbers.tolist()])
    failed = rng.random(count) < 0.01
    success = (rng.random(count) < 0.5) & ~failed
    seeds = numbers // len(cells) % SEEDS
    started = rng.random(count) * 1e5
    episodes = {
        "episode_id": [a[:32] for a in attempts.tolist()],
        "attempt_id": attempts,
        "cell_id": [cells[n % len(cells)].cell_id for n in numbers.tolist()],
        "source_id": ["source"] * count,
        "case_id": [f"user-{n // (len(cells) * SEEDS)}" for n in numbers.tolist()],
        **dict.fromkeys(("seed", "seed_training", "seed_order"), seeds),
        "axes": [[]] * count,
        "status": np.where(failed, "failed", "done"),
        "blame": [["agent", None][int(not f)] for f in failed],
        "error_class": [["ReplyInvalid", None][int(not f)] for f in failed],
        "stop_reason": np.where(failed, "failed", np.where(success, "accepted", "max_turns")),
        "success": success,
        "success_rule": ["user_accepts"] * count,
        "success_turn": [TURNS if s else None for s in success.tolist()],
        "targets": [["i0"]] * count,
        "turns": [TURNS] * count,
        "max_turns": [TURNS] * count,
        "shown_items": [10] * count,
        "agent_tokens": rng.integers(1_000, 20_000, count),
        "user_tokens": rng.integers(1_000, 5_000, count),
        "probe_tokens": [0] * count,
        "critic_tokens": [0] * count,
        "calls": [TURNS] * count,
        "transcript_hash": attempts,
        "started": started,
        "ended": started + rng.random(count) * 100,
        "bundle_id": bundle,
    }
    rows = count * TURNS
    of_each = {
        "attempt_id": np.repeat(attempts, TURNS),
        "turn": np.tile(np.arange(1, TURNS + 1), count),
        "bundle_id": np.repeat(bundle, TURNS),
    }
    items = [[f"i{(file * 7 + n) % 3000}" for n in range(10)]] * rows
    turns = {
        **of_each,
        "action": ["recommend"] * rows,
        **dict.fromkeys(("shown", "ranking"), items),
        "agent_text": [TEXT] * rows,
        "user_text": ["I would rather see something else."] * rows,
        "user_decision": ["refuse"] * rows,
        "user_leaves": [False] * rows,
        **dict.fromkeys(("feedback", "extra", "user_extra"), ["{}"] * rows),
    }
    prompt = json.dumps([{"role": "system", "content": TEXT * 8}])
    calls = {
        **of_each,
        **dict.fromkeys(("role", "model"), ["agent"] * rows),
        "step": ["decide"] * rows,
        **dict.fromkeys(("draw", "reask", "retries"), [0] * rows),
        "request_key": ["k"] * rows,
        "seed": rng.integers(0, 2**40, rows),
        **dict.fromkeys(("input_tokens", "output_tokens"), [500] * rows),
        "finish_reason": ["stop"] * rows,
        "valid": [True] * rows,
        "cached": [False] * rows,
        **dict.fromkeys(("started", "seconds"), [1.0] * rows),
        "prompt": [prompt] * rows,
        "reply": [TEXT] * rows,
    }
    replaces = json.dumps([f"{name}{parts.SUFFIX}" for name in bundles.tolist()])
    for table, columns, length in (
        ("calls", calls, rows), ("turns", turns, rows), ("episodes", episodes, count),
    ):  # fmt: skip
        schema = SCHEMAS[table].with_metadata(metadata({parts.REPLACES: replaces}))
        given = {"driver_epoch": [1] * length, **columns}
        arrays = [_array(given.get(f.name, [None] * length), f.type) for f in schema]
        (folder / table).mkdir(exist_ok=True)
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=schema),
            folder / table / f"{parts.COMPACT}000001-{file + 1:06}{parts.SUFFIX}",
            compression="zstd" if table == "calls" else "lz4",
            write_page_checksum=True,
        )


def _array(values: Sequence[object] | np.ndarray, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(kind):
        return pa.array(values, kind)
    return pa.array(values, pa.string()).dictionary_encode().cast(kind)


class Server:
    """`crsweep view`, and the peak memory of its process tree."""

    def __init__(self, folder: Path) -> None:
        started = time.perf_counter()
        command = [sys.executable, "-m", "runner", "view", str(folder), "--no-browser"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.url = next(word for word in line.split() if word.startswith("http://")).rstrip("/")
        self.get("/")
        self.opened = time.perf_counter() - started
        self.mib = 0.0
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def get(self, path: str) -> str:
        with urlopen(f"{self.url}{path}", timeout=120) as answer:
            return answer.read().decode()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            process = psutil.Process(self._process.pid)
            tree = [process, *process.children(recursive=True)]
            rss = 0
            for each in tree:
                try:
                    rss += each.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.mib = max(self.mib, rss / 2**20)

    def end(self) -> None:
        self._ended.set()
        self._watcher.join()
        self._process.terminate()
        self._process.wait()


def pages(server: Server, episodes: int) -> dict[str, Callable[[], str]]:
    """Name of a page -> a path of that page, different each time."""
    random_ = random.Random(1)
    attempts = [
        unescape(found)
        for row in random_.sample(range(1, episodes), 20)
        for found in findall(r'attempt=([^"&]+)"', server.get(f"/episodes?row={row}"))[:1]
    ]

    def filtered(**filters: object) -> Callable[[], str]:
        return lambda: f"/episodes?{urlencode(filters)}"

    def pair() -> str:
        text = server.get(f"/dialogue?attempt={random_.choice(attempts)}")
        one, other = findall(r'name="a" value="([^"]+)"|<option value="([^"]+)"', text)[:2]
        return f"/compare?a={one[0]}&b={other[1]}"

    pairs = [pair() for _ in range(4)]
    return {
        "overview": lambda: "/",
        "first_page": filtered(),
        "middle_page": lambda: f"/episodes?row={random_.randrange(episodes // 4, episodes)}",
        "last_page": filtered(page="last"),
        "cell": filtered(cell=2),
        "outcome": filtered(outcome="success"),
        "stop_reason": filtered(stop="max_turns"),
        "error_class": filtered(error="ReplyInvalid"),
        "tokens": filtered(tokens_min=15_000, sort="most tokens"),
        "duration": filtered(seconds_max=10, sort="longest"),
        "case": lambda: f"/episodes?case=user-{random_.randrange(episodes // 20)}",
        "seed": filtered(seed=3, sort="newest first"),
        "dialogue": lambda: f"/dialogue?attempt={random_.choice(attempts)}",
        "calls": lambda: f"/calls?attempt={random_.choice(attempts)}&turn=3",
        "side_by_side": lambda: random_.choice(pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=20, help="of each page")
    parser.add_argument("--folder", type=Path, help="keep the sweep here, or use the one there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name) / "sweep"
        started = time.perf_counter()
        if not folder.exists():
            write(folder, given.episodes)
        written = time.perf_counter() - started
        server = Server(folder)
        try:
            p95: dict[str, float] = {}
            for page, path in pages(server, given.episodes).items():
                took = []
                for _ in range(given.runs):
                    asked = path()
                    started = time.perf_counter()
                    server.get(asked)
                    took.append(time.perf_counter() - started)
                p95[page] = round(float(np.percentile(took, 95)), 3)
        finally:
            server.end()
    print(
        ending(
            "viewer",
            {
                "open_seconds": AtMost(round(server.opened, 2), OPEN_LIMIT),
                "slowest_page_p95_seconds": AtMost(max(p95.values()), PAGE_LIMIT),
                "mib": AtMost(round(server.mib), MEMORY_LIMIT),
            },
            episodes=given.episodes,
            runs=given.runs,
            write_seconds=round(written, 1),
            p95=p95,
        )
    )


if __name__ == "__main__":
    main()
