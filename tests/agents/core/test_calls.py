"""Requests as they are written down and hashed."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from agents.core.calls import Call, ChatMessage
from agents.core.steps import ReplyModel, Step
from tests.fakes import FakeModel

STEP = Step("open", "verbalise", ReplyModel)
WORDS = st.text(st.characters(exclude_categories=()), max_size=6000)


def call(*texts):
    messages = tuple(ChatMessage("user", text) for text in texts)
    return Call(STEP, "user", "u1", 0, 0, 0, 7, messages, {})


@given(st.lists(WORDS, min_size=1, max_size=3))
def test_messages_are_written_as_plain_json(texts):
    written = json.dumps(
        [{"role": "user", "content": text} for text in texts],
        ensure_ascii=False,
        separators=(",", ":"),
    )
    assert call(*texts).messages_json == written


@given(WORDS)
def test_the_key_is_the_hash_of_the_whole_request_however_long(text):
    model = FakeModel(lambda call: "")
    request = call(text)
    whole = "\0".join((model.identity, STEP.schema_json, "7", request.messages_json))
    expected = hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16)
    assert request.key(model) == expected.digest()
