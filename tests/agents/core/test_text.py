"""Text that no encoding can write is repaired where it comes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.text import repaired, repaired_deep


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        ("Amélie 😀 \x00", "Amélie 😀 \x00"),
        ("half \ud83d", "half \ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("\ud83d\ud83d\ude00x\udfff", "\ufffd😀x\ufffd"),
    ],
)
def test_lone_surrogates_are_replaced_and_halves_are_joined(text, whole):
    assert repaired(text) == whole


@given(st.text(st.characters(codec=None)))
def test_whatever_comes_in_can_be_encoded_and_keeps_the_rest(text):
    assert repaired(text).encode().decode() == repaired(text)
    assert [c for c in repaired(text) if c.isascii()] == [c for c in text if c.isascii()]


def test_strings_within_are_repaired_keys_too_and_other_values_are_left():
    given = {"\ud83d": ["a\udfff", ("\ud83d", 1, None, {"x": 2.5})], 3: b"\xff"}
    fixed = {"\ufffd": ["a\ufffd", ("\ufffd", 1, None, {"x": 2.5})], 3: b"\xff"}
    assert repaired_deep(given) == fixed
