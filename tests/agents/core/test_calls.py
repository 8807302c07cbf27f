"""Requests as they are written down and hashed."""

import dataclasses
import hashlib
import json
from typing import Annotated

from hypothesis import given
from hypothesis import strategies as st

from agents.core.calls import Call, ChatMessage
from agents.core.steps import ReplyModel, Step, text
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
    request = call(text)
    for guided, schema in ((True, ("open", STEP.schema_json)), (False, ("",))):
        model = FakeModel(lambda call: "", guided=guided)
        whole = "\0".join((model.identity, *schema, "7", request.messages_json))
        expected = hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16)
        assert dataclasses.replace(request).key(model) == expected.digest()


def test_the_order_of_a_schema_s_properties_and_its_name_are_part_of_a_guided_key():
    class One(ReplyModel):
        thought: Annotated[str, text(9)]
        action: Annotated[str, text(9)]

    class Other(ReplyModel):
        action: Annotated[str, text(9)]
        thought: Annotated[str, text(9)]

    Other.__name__ = One.__name__
    model = FakeModel(lambda call: "")
    steps = [Step("act", "decide", One), Step("act", "decide", Other), Step("do", "decide", One)]
    assert steps[0].schema["properties"] == steps[1].schema["properties"]  # equal as dicts
    requests = [dataclasses.replace(call("Go."), step=step) for step in steps]
    assert len({request.key(model) for request in requests}) == 3
    unguided = FakeModel(lambda call: "", guided=False)
    requests = [dataclasses.replace(request) for request in requests]
    assert len({request.key(unguided) for request in requests}) == 1
