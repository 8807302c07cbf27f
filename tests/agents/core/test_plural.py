"""Counted nouns in messages."""

import pytest

from agents.core.plural import many


@pytest.mark.parametrize(
    ("count", "noun", "words"),
    [
        (0, "cell", "0 cells"),
        (1, "cell", "1 cell"),
        (2000, "cell", "2,000 cells"),
        (1, "reply", "1 reply"),
        (2, "reply", "2 replies"),
        (2, "day", "2 days"),
        (2, "success", "2 successes"),
    ],
)
def test_one_is_singular(count, noun, words):
    assert many(count, noun) == words
