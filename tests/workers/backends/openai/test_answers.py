"""Replies are used however a server wraps them."""

import json
from typing import Any

import pytest

from agents.core.calls import Completion
from tests.workers.backends.fake_openai import completion
from workers.backends.openai import answers
from workers.backends.openai.answers import Unreadable


def reply(body: Any, longest: int | None = 512) -> Completion:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answers.completion(sent, longest)


def with_usage(usage: Any) -> dict[str, Any]:
    return {**completion('{"a": 1}'), "usage": usage}


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        (10, 10),
        (10.0, 10),
        ("20", 20),
        (0, 0),
        (100_000_000, 100_000_000),
        (100_000_001, None),
        (2147483647, None),
        (4294967295, None),
        (10**30, None),
        (-1, None),
        (10.5, None),
        ("-1", None),
        ("twenty", None),
        ("²", None),
        ("9" * 5000, None),
        (True, None),
        (None, None),
        ([3], None),
        ({"total": 3}, None),
        (float("nan"), None),
        (float("inf"), None),
        (1e308, None),
    ],
)
def test_an_impossible_count_is_unknown_and_the_reply_is_used(given, counted):
    details = {"reasoning_tokens": given}
    usage = {"prompt_tokens": given, "completion_tokens": given}
    found = reply(with_usage({**usage, "completion_tokens_details": details}))
    assert found.text == '{"a": 1}'
    assert (found.input_tokens, found.output_tokens, found.thinking_tokens) == (counted,) * 3


def test_more_thinking_than_output_is_an_unknown_count():
    for reasoning, counted in ((6, None), (5, 5)):
        details = {"reasoning_tokens": reasoning}
        found = reply(with_usage({"completion_tokens": 5, "completion_tokens_details": details}))
        assert (found.output_tokens, found.thinking_tokens) == (5, counted)


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}},
        {"prompt_feedback": {"block_reason": "OTHER"}},
        {"choices": [{"index": 0, "finish_reason": "SAFETY"}]},
        {"choices": [{"index": 0, "finish_reason": "content_filter", "message": None}]},
    ],
)
def test_a_blocked_prompt_has_a_filtered_reply(body):
    usage = {"prompt_tokens": 11, "completion_tokens": 0}
    assert reply(body) == Completion("", "content_filter")
    assert reply({**body, "usage": usage}) == Completion("", "content_filter", 11, 0)


@pytest.mark.parametrize(
    "feedback", [None, {}, "SAFETY", {"blockReason": "BLOCK_REASON_UNSPECIFIED"}]
)
def test_no_choices_without_a_block_are_no_reply(feedback):
    with pytest.raises(Unreadable, match="protocol"):
        reply({"choices": [], "promptFeedback": feedback})


def test_tokens_may_have_their_newer_names():
    found = reply(with_usage({"input_tokens": 3, "output_tokens": 4}))
    assert (found.input_tokens, found.output_tokens) == (3, 4)


@pytest.mark.parametrize("usage", [None, [], [1], "many", 3, {}, {"completion_tokens_details": []}])
def test_a_malformed_usage_counts_nothing(usage):
    assert reply(with_usage(usage)) == Completion('{"a": 1}', "stop")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *((reason, "stop") for reason in (
            "stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "COMPLETE", "</s>",
            "function_call", "tool_calls", "", None, 0, ["stop"], "whatever",
        )),
        *((reason, "length") for reason in (
            "length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens",
            "model_context_window_exceeded",
        )),
        *((reason, "content_filter") for reason in (
            "content_filter", "SAFETY", "PROHIBITED_CONTENT", "RECITATION", "sensitive",
            "content_filter: OTHER",
        )),
    ],
)  # fmt: skip
def test_a_finish_reason_is_one_of_three_whatever_it_is_called(reason, finish):
    found = reply(completion("{}", reason))
    assert found.finish_reason == finish
    assert found.text == ("" if finish == "content_filter" else "{}")


def test_a_missing_finish_reason_is_read_from_the_length_of_the_reply():
    body = completion("{}", None)
    assert reply(body, longest=6).finish_reason == "stop"
    assert reply(body, longest=5).finish_reason == "length"
    assert reply(body, longest=None).finish_reason == "stop"
    del body["choices"][0]["finish_reason"]
    assert reply(body, longest=5).finish_reason == "length"
    assert reply(completion("{}", "stop"), longest=5).finish_reason == "stop"


@pytest.mark.parametrize("content", [None, "", [], [{"type": "text", "text": ""}]])
@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "eos_token"])
def test_no_content_is_empty_content_in_every_form(content, reason):
    expected = "length" if reason == "length" else "stop"
    assert reply(completion(content, reason)) == Completion("", expected, 11, 5)


@pytest.mark.parametrize("reason", ["error", "abort", "cancelled", "insufficient_system_resource"])
def test_an_interrupted_reply_does_not_count(reason):
    with pytest.raises(Unreadable, match=f"ended the reply early .finish_reason '{reason}'"):
        reply(completion('{"a": 1}', reason))


def test_an_empty_reply_without_a_finish_reason_was_interrupted_unless_it_has_thinking():
    with pytest.raises(Unreadable, match="no reply"):
        reply({**completion(None, None), "usage": None})
    assert reply(completion(None, None, reasoning="Hm")).text == ""
    assert reply(completion(None, None)) == Completion("", "stop", 11, 5)  # it was paid for


@pytest.mark.parametrize(
    ("content", "text", "thinking"),
    [
        ([{"type": "text", "text": '{"a"'}, {"type": "text", "text": ": 1}"}], '{"a": 1}', None),
        (["x", "y"], "xy", None),
        ([{"type": "output_text", "text": "x"}], "x", None),
        ({"type": "text", "text": "x"}, "x", None),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
          {"type": "text", "text": "x"}], "x", "Hm"),
        ([{"type": "image_url"}, 3, None, {"type": "text", "text": 4}], "", None),
        ([{"type": "refusal", "refusal": "No."}], "No.", None),
    ],
)  # fmt: skip
def test_content_may_be_a_list_of_parts(content, text, thinking):
    found = reply(completion(content))
    assert (found.text, found.thinking) == (text, thinking)


def test_half_a_surrogate_pair_is_repaired_wherever_it_is():
    body = completion("a\ud83d b", reasoning="\udc00 hm", role="\ud83d")
    body["system_fingerprint"] = "fp\ud83d"
    sent = json.dumps(body).encode()
    assert b"\\ud83d" in sent
    found = reply(sent)
    assert (found.text, found.thinking, found.fingerprint) == ("a\ufffd b", "\ufffd hm", "fp\ufffd")
    assert reply(json.dumps(completion("ok \U0001f600")).encode()).text == "ok \U0001f600"


def test_bytes_that_are_no_utf_8_are_repaired_and_a_byte_order_mark_is_left_out():
    sent = json.dumps(completion("caf#")).encode()
    assert reply(sent.replace(b"#", b"\xe9")).text == "caf\ufffd"
    assert reply(b"\xef\xbb\xbf" + sent).text == "caf#"


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"<html>", b'{"choices": {}}', b'{"choices": [1]}', b"[" * 100_000,
     b'{"choices": [{"message": null}]}', b'{"choices": [{"message": {"content": 3}}]}'],
)  # fmt: skip
def test_what_holds_no_reply_is_unreadable(body):
    with pytest.raises(Unreadable):
        reply(body)


def test_models_are_listed_by_id_or_name():
    assert answers.models(b'{"data": [{"id": "a"}, {"id": 3}, 4]}') == ["a"]
    assert answers.models(b'{"models": [{"name": "models/a"}]}') == ["models/a"]
    assert answers.models(b'[{"id": "a"}]') == ["a"]
    with pytest.raises(Unreadable):
        answers.models(b'{"detail": "Not Found"}')


@pytest.mark.parametrize("bad", [[1, None], ["x", 1], [1, float("nan")], [1e300, 1], [10**400, 1]])
def test_an_embedding_of_what_is_no_number_is_unreadable(bad):
    with pytest.raises(Unreadable):
        answers.vectors(json.dumps({"data": [{"index": 0, "embedding": bad}]}).encode(), 1)
