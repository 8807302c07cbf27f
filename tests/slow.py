"""Writes `tests/slow.txt`: the tests that `make test-fast` leaves out, measured.

    python -m pytest -n 2 --dist loadfile -m "not ray and not vllm" --junitxml=times.xml
    python -m tests.slow times.xml

The slowest test functions are listed, until all others take a twenty-fifth of the time of all.
Tests that start the command line are slow without being listed (`tests.conftest`).
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

LIST = Path(__file__).parent / "slow.txt"
_KEPT = 0.04  # of the whole time


def function_of(node_id: str) -> str:
    """The id of a test without its parameters."""
    return node_id.partition("[")[0]


def slowest(seconds: Counter[str]) -> list[str]:
    """Those without which the others take at most `_KEPT` of the whole time."""
    found, left = [], sum(seconds.values())
    limit = _KEPT * left
    for name, taken in seconds.most_common():
        if left <= limit:
            break
        found.append(name)
        left -= taken
    return sorted(found)


def main(report: str) -> None:
    seconds: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.attrib["classname"].replace(".", "/") + ".py"
        seconds[function_of(f"{file}::{case.attrib['name']}")] += float(case.attrib["time"])
    LIST.write_text("".join(f"{name}\n" for name in slowest(seconds)))


if __name__ == "__main__":
    main(*sys.argv[1:])
