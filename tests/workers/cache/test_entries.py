"""What is kept of a call comes back as it was, and damage never comes back as another reply."""

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.calls import Completion, Embedded
from workers.cache.entries import KEY, checksum, decode, encode

TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
COUNT = st.none() | st.integers(0, 2**40)
COMPLETIONS = st.builds(
    Completion,
    TEXT,
    st.sampled_from(["stop", "length", "content_filter"]),
    COUNT,
    COUNT,
    COUNT,
    st.booleans(),
    st.integers(0, 9),
    st.none() | TEXT,
    st.none() | TEXT,
)
KEYS = st.binary(min_size=KEY, max_size=KEY)


@given(COMPLETIONS)
def test_a_completion_comes_back_as_a_cached_one_without_retries_or_waits(completion):
    cached = completion._replace(cached=True, retries=0, waited=0.0)
    assert decode(encode(completion)) == cached
    fields = [1, *completion[:5], completion.thinking, completion.fingerprint]
    assert encode(completion) == msgpack.packb(fields, unicode_errors="surrogatepass")


def test_a_reply_that_cannot_be_packed_leaves_nothing_in_the_next():
    reply = Completion("done", "stop", 2, 3)
    whole = encode(reply)
    with pytest.raises(OverflowError):
        encode(reply._replace(output_tokens=2**64))
    assert encode(reply) == whole


@given(st.integers(1, 5), st.integers(0, 5), COUNT, st.data())
def test_embeddings_come_back_bit_for_bit_and_may_be_written_to(rows, width, tokens, data):
    floats = st.floats(width=32, allow_nan=True)
    flat = data.draw(st.lists(floats, min_size=rows * width, max_size=rows * width))
    vectors = np.array(flat, np.float32).reshape(rows, width)
    found = decode(encode(Embedded(vectors, tokens, retries=3, fingerprint="f", waited=2.5)))
    assert isinstance(found, Embedded)
    assert found.vectors.tobytes() == vectors.tobytes()
    assert found.vectors.shape == vectors.shape
    assert found.vectors.dtype == np.float32
    assert found[1:] == (tokens, True, 0, "f", 0.0)
    found.vectors[:] = 1  # as an agent may that normalises in place


@given(st.binary(max_size=60))
def test_bytes_that_are_no_entry_are_refused_with_one_kind_of_error(data):
    try:
        found = decode(data)
    except ValueError as error:
        assert "not an entry of the call cache" in str(error)
    else:
        assert isinstance(found, Completion | Embedded)


@given(COMPLETIONS, KEYS, st.data())
def test_no_flipped_bit_passes_the_checksum(completion, key, data):
    entry = encode(completion)
    whole = bytearray(key + entry)
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    assert checksum(bytes(whole[:KEY]), bytes(whole[KEY:])) != checksum(key, entry)


def test_an_entry_of_another_format_does_not_pass_the_checksum(monkeypatch):
    from workers.cache import entries

    now = checksum(b"k" * KEY, b"data")
    monkeypatch.setattr(entries, "_PERSON", b"crsweep call 2")
    assert checksum(b"k" * KEY, b"data") != now


@pytest.mark.parametrize("text", ["", "\ud800", "a\0b", "𝄞"])
def test_odd_texts(text):
    assert decode(encode(Completion(text, "stop"))).text == text  # type: ignore[union-attr]
