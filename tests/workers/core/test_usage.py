"""Counts of calls: what is unknown, what is impossible, what is paid."""

from types import SimpleNamespace

import numpy as np
import pytest

from agents.core.ask import CallRecord
from agents.core.calls import Completion, Embedded
from workers.core.usage import CallCounts, Usage, counts_of, usage_of, with_possible_counts


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ((11, 7, None), (11, 7, None)),
        ((0, 0, 0), (0, 0, 0)),
        ((-1, 7, 3), (None, 7, 3)),
        ((2**32 - 1, -27, -1), (None, None, None)),
        ((100_000_000, 100_000_001, 2**63), (100_000_000, None, None)),
        ((2**31 - 1, 2**31 - 1, 3), (None, None, 3)),
        ((11, 7, 8), (11, 7, None)),
        ((11, 7, 7), (11, 7, 7)),
    ],
)
def test_a_count_that_no_reply_can_have_is_unknown(given, known):
    reply = with_possible_counts(Completion("hello", "stop", *given, cached=True, retries=2))
    assert reply == Completion("hello", "stop", *known, cached=True, retries=2)


def test_embeddings_have_one_count():
    vectors = np.zeros((1, 2), np.float32)
    assert with_possible_counts(Embedded(vectors, -1)).input_tokens is None
    assert with_possible_counts(Embedded(vectors, 5)).input_tokens == 5


def test_unknown_counts_are_counted_and_what_is_cached_is_not_paid():
    model = SimpleNamespace(name="m")
    replies = [
        Completion("", "stop", 10, 5),
        Completion("", "length", None, 5),
        Completion("", "stop", 10, 5, cached=True),
        None,
    ]
    records = [CallRecord(None, model, r, True, None, 0, 0) for r in replies]  # type: ignore[arg-type]
    assert counts_of(records) == CallCounts(calls=4, cached=1, tokens=35, uncounted=1)
    assert usage_of(records) == {"m": Usage(10, 10, 1, 1)}
