"""A viewer over a sweep that commits, retries and is compacted, while a client pages to the end.

    python -m tests.chaos.paging --episodes 10000

The sweep runs in a process of its own and is interrupted at a third and at two thirds of its
episodes, so that parts are merged in between; the next run repeats what failed. Meanwhile a client
walks the list of dialogues of `crsweep view` over HTTP, page by page, from the newest snapshot to
its end, and begins again. Each walk must see as many dialogues as its first page said, each once,
and no answer may be an error.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from re import findall, search
from urllib.request import urlopen

import yaml

from analysis.results import Results
from tests.conftest import ROOT

PARTS = 3
"""Runs of the sweep, all but the last of which are interrupted."""


def sweep(folder: Path, episodes: int) -> Path:
    """Writes a sweep of so many dialogues, of which some fail at the first try."""
    users = -(-episodes // 4)
    path = folder / "sweep.yaml"
    content = {
        "name": "paging",
        "out": str(folder / "out"),
        "domain": {"name": "synthetic", "items": 200, "users": users},
        "cases": {"sample": users},
        "models": {
            "m": {
                "backend": "latency", "latency_ms": 0, "log": False, "invalid_rate": 0.3,
                "error_rate": 0.02,
            }
        },
        "roles": {"agent": "m", "user": "m"},
        "grid": {"agent": ["zero_shot", "react"], "seed": [0, 1]},
        "simulator": {"name": "target_item", "decides": "rule"},
        "limits": {"max_turns": 3},
        "run": {"executor": "local", "concurrency": 64},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


def committed(out: Path) -> int:
    """Rows of episodes that are there, retries included."""
    if not (out / "manifest.json").exists():
        return 0
    ((count,),) = Results.open(out).query("SELECT count(*) FROM attempts").fetchall()
    return int(count)


class Viewer:
    """`crsweep view` in a process of its own."""

    def __init__(self, out: Path) -> None:
        command = [sys.executable, "-m", "runner", "view", str(out), "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = next(word for word in line.split() if word.startswith("http://")).rstrip("/")

    def get(self, path: str) -> str:
        """A page. Raises HTTPError for an answer that is an error."""
        with urlopen(f"{self.url}{path}") as answer:
            return answer.read().decode()

    def walk(self) -> tuple[int, list[str]]:
        """How many dialogues the first page counts, and the attempts that all pages list."""
        page = self.get("/episodes?sort=newest+first")
        total = search(r"of ([\d,]+) dialogues", page)
        found = []
        while True:
            found += attempts_on(page)
            following = search(r'rel="next" href="([^"]+)"', page)
            if following is None:
                break
            page = self.get(unescape(following[1]))
        return int(total[1].replace(",", "")) if total else 0, found


def attempts_on(page: str) -> Iterator[str]:
    """The attempts that a page of the list links to, in its order."""
    return iter(dict.fromkeys(findall(r'href="/dialogue\?[^"]*attempt=([^"&]+)', page)))


def start(path: Path, out: Path) -> subprocess.Popen[bytes]:
    """Starts a run, which repeats what failed in those before."""
    again = ["--retry", "agent"] if committed(out) else []
    command = [sys.executable, "-m", "runner", "run", str(path), *again]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = sweep(Path(name), given.episodes)
        out = Path(name) / "out"
        viewer: Viewer | None = None
        walks, seen = 0, 0
        for part in range(1, PARTS + 1):
            process = start(path, out)
            interrupted = part == PARTS
            while process.poll() is None:
                count = committed(out)
                if not interrupted and count >= part * given.episodes // PARTS:
                    process.send_signal(signal.SIGINT)
                    interrupted = True
                if viewer is None:
                    if count:
                        viewer = Viewer(out)
                    else:
                        time.sleep(0.2)
                    continue
                total, found = viewer.walk()
                check(total, found)
                walks, seen = walks + 1, seen + len(found)
                print(f"walk {walks}: {total:,} dialogues, each once", flush=True)
            print(f"run {part} ended with exit code {process.returncode}", flush=True)
        assert viewer is not None
        viewer.get("/")
        time.sleep(5)  # until the viewer looks at the folder again
        total, found = viewer.walk()
        check(total, found)
        current = Results.open(out).query("SELECT attempt_id FROM episodes").fetchall()
        assert set(found) == {attempt for (attempt,) in current}, "the last walk misses dialogues"
        viewer.process.terminate()
        print(f"{walks + 1:,} walks over {seen + len(found):,} dialogues, the last over {total:,}")


def check(total: int, found: list[str]) -> None:
    """Fails unless each dialogue of a walk was seen once."""
    assert len(found) == len(set(found)), f"{len(found) - len(set(found))} dialogues twice"
    assert len(found) == total, f"{total} dialogues were counted, {len(found)} were listed"


if __name__ == "__main__":
    main()
