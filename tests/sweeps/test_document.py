"""Text of sweep files: YAML 1.2 in plain data, and one line for whatever is not such text."""

import pytest
import yaml

from sweeps.document import NotYaml, ambiguous, flow, parse_document


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e1", 10.0), ("1E5", 1e5), (".5e3", 500.0), ("1.", 1.0), ("-.5", -0.5), ("+3", 3),
        ("1_000", 1000), ("1_000.5", 1000.5), ("0o17", 15), ("0x1f", 31), ("0123456", 123456),
        ("1__0", "1__0"), ("_1", "_1"), ("0b11", "0b11"), ("1e", "1e"), (".", "."), ("1,0", "1,0"),
        ("on", "on"), ("Off", "Off"), ("yes", "yes"), ("NO", "NO"), ("y", "y"),
        ("true", True), ("False", False), ("2026-01-05", "2026-01-05"), ("12:30", "12:30"),
        ("null", None), ("~", None), ("", None), ("'~'", "~"), ('"1e1"', "1e1"), ("nan", "nan"),
        ("!!int '12'", 12), ("!!float 1", 1.0), ("!!str 1", "1"), ("=", "="),
        ('"\\ud83d\\ude00"', "😀"), ("|\n  a\n  b\n", "a\nb\n"),
    ],
)  # fmt: skip
def test_scalars_are_read_by_the_core_schema(written, value):
    found = parse_document(f"a: {written}").value["a"]
    assert found == value
    assert type(found) is type(value)


def test_infinities_are_numbers():
    assert parse_document("[.inf, -.INF]").value == [float("inf"), float("-inf")]
    assert str(parse_document(".nan").value) == "nan"


@pytest.mark.parametrize(
    "value",
    ["a", "1e1", "1E5", ".5e3", "0o17", "1_000", "on", "0123", "~", "12:30", "é", 1e1, 1.5e-7]
)  # fmt: skip
def test_a_value_that_is_printed_is_read_as_it_was_and_as_yaml_1_1_reads_it(value):
    text = flow([{"a": value}, value])
    assert "\n" not in text
    assert parse_document(text).value == yaml.safe_load(text) == [{"a": value}, value]


def test_keys_are_text_as_they_are_written():
    assert parse_document("1.10: a\nnull: b\non: c\n0123: d\n2026-01-05: e").value == {
        "1.10": "a", "null": "b", "on": "c", "0123": "d", "2026-01-05": "e"
    }  # fmt: skip


def test_merged_mappings_give_what_is_not_given_and_keep_their_lines():
    found = parse_document("x: &x {a: 1, b: on}\ny: &y {a: 2, c: 3}\nz:\n  <<: [*y, *x]\n  c: 4")
    assert found.value["z"] == {"a": 2, "b": "on", "c": 4}
    assert found.lines["z", "c"] == 5
    assert found.lines["z", "b"] == 1
    assert found.plain["z", "b"] == "on"


def test_aliases_are_copies_with_places_of_their_own():
    found = parse_document("a: &a\n  - p: 1e1\nb: *a")
    assert found.value == {"a": [{"p": 10.0}], "b": [{"p": 10.0}]}
    assert found.lines["b", "0", "p"] == 2
    assert found.plain["b", "0", "p"] == "1e1"


_LAUGHS = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    + [f"{b}: &{b} [{', '.join([f'*{chr(ord(b) - 1)}'] * 10)}]" for b in "bcdefghi"]
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("a: 1\nb: &x [*x]", 2, "an alias (*name) is inside the value it refers to"),
        ("a: &x {b: {c: *x}}", 1, "an alias (*name) is inside the value it refers to"),
        ("a: &x {<<: *x}", 1, "an alias (*name) is inside the value it refers to"),
        ("a: " + "[" * 200, 1, "nested more than 50 levels deep"),
        ("a:\n  - " + "- " * 100 + "b", 2, "nested more than 50 levels deep"),
        (_LAUGHS, 1, "its aliases add more than"),
        ("a: 1\na: 2", 2, "the key 'a' is given twice"),
        ("1: 1\n'1': 2", 2, "the key '1' is given twice"),
        ("a: {b: 1}\n\tc: 2", 2, "a tab is used for indentation; use spaces"),
        ("a:\tb", 1, "found a tab after 'a:'; use a space"),
        ("a: 'b\nc: d\ne: f", 1, "the quote that begins here is not closed"),
        ("a: {{ x }}", 1, "found a mapping as a key; text that begins with { or [ needs quotes"),
        ("? [a]\n: b", 1, "found a list as a key"),
        ("a: b: c", 1, "put text that holds ': ' in quotes"),
        ("a: @b", 1, "put text that begins with it in quotes"),
        ("a: *.yaml", 1, "put text that begins with * in quotes"),
        ("a: *none", 1, "put text that begins with * in quotes"),
        ('a: "\\${b}"', 1, "in double quotes, a backslash is written twice"),
        ("a: 1\n---\nb: 2", 2, "found a second document"),
        ("a: b\x00c", 1, "the character U+0000 is not allowed"),
        ("a: 1\nb: \udcff", 2, "the character U+DCFF is not allowed"),
        ('a: "\\ud83d"', 1, "a lone surrogate"),
        ("a: !!python/object:os.system x", 1, "the tag !!python/object:os.system is not supported"),
        ("a: !!binary aGk=", 1, "the tag !!binary is not supported"),
        ("a: !mine {b: 1}", 1, "the tag !mine is not supported"),
        ("a: !!int x", 1, "'x' is not of the type !!int"),
        ("<<: 3", 1, "<< merges a mapping"),
        ("a: " + "9" * 5000, 1, "a number of 5,000 digits is too long"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_refused_in_one_line(text, line, expected):
    with pytest.raises(NotYaml) as caught:
        parse_document(text)
    assert expected in caught.value.message
    assert caught.value.line == line
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("written", "meant"),
    [("on", "true"), ("Yes", "true"), ("OFF", "false"), ("no", "false"), ("0123", "123 (or 0o123"),
     ("-010", "-10 (or"), ("089", "89"), ("0b11", "3"), ("true", None), ("12:30", None),
     ("2026-01-05", None), ("1e1", None), ("0", None), ("0o17", None), ("0.5", None), ("y", None)],
)  # fmt: skip
def test_what_readers_of_yaml_differ_on_is_known(written, meant):
    found = ambiguous(written)
    assert found is None if meant is None else (found or "").startswith(meant)
