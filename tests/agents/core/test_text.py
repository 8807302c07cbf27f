"""Text that no encoding can write is repaired where it comes in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.items import Item
from agents.core.text import json_form, repaired, repaired_deep, repaired_json


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


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (r'"half \ud83d"', "half \ufffd"),
        (r'"\uD83D\uDE00 \n \ude00"', "😀 \n \ufffd"),
        (r'"no escape: \\ud83d"', r"no escape: \ud83d"),
        (r'"\\\ud83d\u0041"', "\\\ufffdA"),
    ],
)
def test_json_whose_escapes_are_half_characters_is_read(text, read):
    assert json.loads(repaired_json(text)) == read


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda part: st.lists(part) | st.dictionaries(st.text(st.characters(codec=None)), part),
    max_leaves=12,
))  # fmt: skip
def test_the_json_form_of_plain_values_can_be_written_and_is_stable(value):
    try:
        found = json_form(value, "extra")
    except TypeError as error:
        assert "are the same once they are strings" in str(error)
        return
    text = json.dumps(found, allow_nan=False, ensure_ascii=False)
    assert json_form(json.loads(text.encode()), "extra") == found


def test_titles_and_descriptions_of_a_domains_own_are_repaired():
    item = Item("1", "Am\ud83dlie", description="\udfff")
    assert (item.title, item.description) == ("Am\ufffdlie", "\ufffd")
