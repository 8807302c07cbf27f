"""The last line of a benchmark."""

from __future__ import annotations

import json

from tests.bench.ending import AtLeast, AtMost, ending


def test_one_number_has_one_limit() -> None:
    line = ending("calls", {"calls_per_s": AtLeast(4000.0, 5000.0)}, runs=5)
    assert json.loads(line) == {
        "bench": "calls",
        "runs": 5,
        "calls_per_s": 4000.0,
        "limit": 5000.0,
        "efficiency": 0.8,
    }


def test_of_several_numbers_the_worst_counts() -> None:
    line = ending("cache", {"hits_per_s": AtLeast(300.0, 100.0), "put_ms": AtMost(0.5, 1.0)})
    found = json.loads(line)
    assert found["limit"] == {"hits_per_s": 100.0, "put_ms": 1.0}
    assert found["efficiency"] == 2.0
