"""Refusals mean the same however a server words them."""

import json
from datetime import UTC, datetime

import pytest

from agents.core.calls import Completion
from agents.core.errors import (
    ContextOverflow,
    EngineDead,
    EngineOverloaded,
    EngineRefused,
    ModelUnavailable,
    Timeout,
)
from workers.backends.openai.refusals import read, refusal_of

FILTERED = Completion("", "content_filter")
NOW = datetime(2026, 1, 5, 12, 0, 0, tzinfo=UTC)


def refusal(message: object, code: str | None = None) -> dict[str, object]:
    return {"error": {"message": message, "type": "error", "param": None, "code": code}}


def said(status: int, body: object, **headers: str):
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read(status, sent, named, NOW)


def meaning(status: int, body: object, **headers: str) -> object:
    """The class of the error that a refusal becomes, or the answer that it is."""
    error = refusal_of(said(status, body, **headers), "m")
    return error if isinstance(error, Completion) else type(error)


# One sentence of each server that is known to word it in its own way.
TOO_LONG = [
    "This model's maximum context length is 8191 tokens, however you requested 10346 tokens "
    "(10346 in your prompt; 5 for the completion). Please reduce your prompt.",
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 "
    "tokens. Please reduce the length of the messages.",
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000.",
    "prompt is too long: 213462 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input "
    "length or `max_tokens` and try again",
    "The input token count (218152) exceeds the maximum number of tokens allowed (65536)",
    "Input token count exceeds the maximum number of input tokens",
    "Unable to submit request because the input token count is 1100000 but model only supports up "
    "to 1048576. Reduce the input token count and try again.",
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens and 512 "
    "`max_new_tokens`",
    "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
    "Input length 131393 exceeds the maximum allowed input length of 131040 tokens",
    "Input length (265330) exceeds model's maximum context length (262144).",
    "number of input tokens (204703) has exceeded max_prompt_tokens (163840) limit.",
    "number of input tokens (135022) has exceeded max_seq_len (131072) limit.",
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "Please reduce the length of the messages or completion.",
    "Input is too long for requested model.",
    "Too many input tokens. Max input tokens: 8192, request input token count: 9279",
    "Malformed input request: expected maxLength: 50000, actual: 52611, please reformat your input",
    "prompt token count of 145000 exceeds the limit of 128000",
    "the request exceeds the available context size, try increasing it",
    "the request exceeds the available context size (4096 tokens), try increasing it",
    "The number of tokens to keep from the initial prompt is greater than the context length.",
    "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded "
    "with context length of only 4096 tokens, which is not enough.",
    "invalid params, context window exceeds limit (2013)",
    "Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)",
    "Prompt contains 300000 tokens, too large for model with 131072 maximum context length",
    "Prompt has 256,468 tokens, but the configured context size is 256,000 tokens",
    "prompt too long; exceeded max context length by 4096 tokens",
    "the input length exceeds the context length",
    "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]",
    "The input (265330 tokens) is longer than the model's context length (262144 tokens).",
    "Requested token count exceeds the model's maximum context length of 131072 tokens. You "
    "requested a total of 132000 tokens.",
    "The decoder prompt (length 70) is longer than the maximum model length of 64. Make sure that "
    "`max_model_len` is no smaller than the number of text tokens.",
    "'max_tokens' or 'max_completion_tokens' is too large: 2000. This model's maximum context "
    "length is 4096 tokens and your request has 2104 input tokens (2000 > 4096 - 2104).",
    "You passed 4097 input tokens and requested 0 output tokens. However, the model's context "
    "length is only 4096 tokens, resulting in a maximum input length of 4096 tokens.",
    "Please reduce the length of the messages or completion. Current length is 9000 while limit is "
    "8192",
    "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000.",
    "The prompt is too long: 200000, model maximum context length: 131071",
    "Prompt length (5000) exceeds maximum input length (4096). Set log level to info and check.",
    "the number of input tokens 5000 cannot exceed the total tokens limit 4096 for this model",
    "The estimated number of input and maximum output tokens (5000) exceeded this model context "
    "window limit (4096).",
    "This endpoint's maximum context length is 131072 tokens. However, you requested about 132463 "
    "tokens (1463 of text input, 131000 in the output). Please reduce the length of either one.",
    "Prompt exceeds max length",
    "The number of tokens in request more than max tokens allowed: the messages are too long",
    "litellm.ContextWindowExceededError: AnthropicException - prompt is too long",
    "model_max_prompt_tokens_exceeded",
    "Your prompt has 5000 tokens, but this model supports at most 4096",
    "The request contains 5,000 tokens and the limit is 4,096",
    "total number of tokens in the prompt (5000) surpasses the model limit of 4096",
    "The number of tokens in your messages is greater than 4096",
    "input tokens (9000) plus max_tokens (512) is greater than 8192",
    "prompt tokens + max_tokens must be <= 8192",
    "The field 'messages' is too long",
]  # fmt: skip

# Refusals that speak of limits, tokens or context and mean another thing.
OTHERS = [
    "max_tokens must be at most 4096",
    "max_tokens must be at least 1, got -5.",
    "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas "
    "you provided 100000.",
    "max_tokens=999999 cannot be greater than max_model_len=max_total_tokens=81920. Please request "
    "fewer output tokens.",
    "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
    "Range of max_tokens should be [1, 8192]",
    "too many requests in context of this deployment",
    "Invalid schema for response_format 'decide': In context=('properties', 'words'), 'minLength' "
    "is not permitted.",
    "Invalid 'user': string too long. Expected a string with maximum length 64, but got a string "
    "with length 100 instead.",
    "Invalid 'response_format.json_schema.name': string too long. Expected a string with maximum "
    "length 64.",
    "The number of stop sequences exceeds the maximum of 4",
    "The number of tools exceeds the limit of 128",
    "Schema exceeds the limit of 500 enum values",
    "The compiled grammar is too large",
    "top_p must be in (0, 1]",
    "temperature: Input should be less than or equal to 1",
    "messages: roles must alternate between user and assistant",
    "messages.1: all messages must have non-empty content",
    "The prompt must not be empty",
    "context_management: Extra inputs are not permitted",
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
    "'max_completion_tokens' instead.",
    "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) "
    "value is supported.",
    "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
    "This model does not support response formats of type json_schema",
    "Unknown parameter: 'content_filter'",
    "Request rejected because of the unknown parameter 'content_filter'",
    "Request rejected: safety settings are not supported",
    "The text of the field 'stop' is too long",
    "stop sequence is too long",
    "The text of the parameter 'user' is too long",
    "max_tokens has 5000 tokens, but this model supports at most 4096 completion tokens",
]  # fmt: skip


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("message", TOO_LONG)
def test_a_prompt_that_is_too_long_is_one_error_in_all_words(status, message):
    for body in (
        refusal(message),
        {"object": "error", "message": message, "code": 400},
        {"error": message, "error_type": "validation"},
        [{"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}],
        {"error": {"message": "Provider returned error",
                   "metadata": {"raw": json.dumps(refusal(message))}}},
        message.encode(),
    ):  # fmt: skip
        assert meaning(status, body) is ContextOverflow


@pytest.mark.parametrize("message", OTHERS)
def test_other_refusals_are_no_overflow(message):
    assert meaning(400, refusal(message)) is EngineRefused
    assert meaning(422, refusal(message)) is EngineRefused


def test_an_overflow_is_known_by_its_code_or_type_alone():
    assert meaning(400, refusal("too big", "context_length_exceeded")) is ContextOverflow
    assert meaning(400, {"error": {"type": "exceed_context_size_error", "n_ctx": 64}}) is (
        ContextOverflow
    )
    assert (
        meaning(413, {"error": {"type": "request_too_large", "message": "no"}}) is ContextOverflow
    )


def test_a_field_without_a_prompt_that_is_too_long_is_a_fault_of_the_configuration():
    for field, expected in (("stop", EngineRefused), ("messages", ContextOverflow)):
        body = {"error": {"message": "the text is too long", "param": field}}
        assert meaning(400, body) is expected
        detail = [{"loc": ["body", field], "msg": "the text is too long"}]
        assert meaning(422, {"detail": detail}) is expected


def test_an_overflow_is_one_whatever_the_status():
    for status in (400, 413, 422, 500, 503):
        assert (
            meaning(status, refusal("prompt is too long: 9 tokens > 8 maximum")) is ContextOverflow
        )
    assert meaning(413, b"<html>413 Request Entity Too Large</html>") is ContextOverflow


def test_a_rate_of_tokens_is_no_overflow():
    message = (
        "Request too large for model `m` in organization `o` on tokens per minute (TPM): Limit "
        "6000, Requested 7000, please reduce your message size and try again."
    )
    assert meaning(413, refusal(message, "rate_limit_exceeded")) is EngineRefused
    assert meaning(429, refusal(message, "rate_limit_exceeded")) is EngineOverloaded
    assert meaning(429, refusal("Too many tokens, please wait before trying again.")) is (
        EngineOverloaded
    )


def test_words_that_a_server_repeats_from_the_request_decide_nothing():
    echo = "the user said: prompt is too long, content management policy, invalid api key"
    body = {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted",
                        "type": "extra_forbidden", "input": echo}], "body": echo}  # fmt: skip
    assert meaning(422, body) is EngineRefused
    found = said(422, body)
    assert found.message == "body.seed: Extra inputs are not permitted"
    assert found.about == {"seed"}


AZURE = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content "
        "management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
    }
}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, AZURE),
        (400, refusal("no", "content_filter")),
        (400, {"error": {"message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (400, {"error": {"message": "litellm.BadRequestError: no", "code": "400",
                         "provider_specific_fields": AZURE["error"]}}),
        (400, refusal("Output data may contain inappropriate content.", "data_inspection_failed")),
        (400, refusal("Content Exists Risk", "invalid_request_error")),
        (400, refusal("Invalid prompt: your prompt was flagged as potentially violating our usage "
                      "policy.", "invalid_prompt")),
        (400, refusal("The request was rejected because it was considered high risk")),
        (403, {"error": {"code": 403, "message": "m requires moderation on p. Your input was "
                         "flagged for \"violence\""}}),
        (422, refusal("no", "content_policy_violation")),
        (400, refusal("Output blocked by content filtering policy")),
        (400, refusal("The response was blocked by the safety filters")),
        (400, refusal("Request rejected due to content moderation")),
        (400, refusal("The prompt triggered the content filter")),
    ],
)  # fmt: skip
def test_a_content_filter_is_one_outcome_in_all_words(status, body):
    assert meaning(status, body) == FILTERED


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, refusal("Incorrect API key provided")),
        (402, refusal("Insufficient Balance")),
        (403, refusal("no")),
        (404, refusal("The model `qwen` does not exist.")),
        (404, {"detail": "Not Found"}),
        (405, {"detail": "Method Not Allowed"}),
        (308, b""),
        (429, refusal("You exceeded your current quota.", "insufficient_quota")),
        (429, {"error": {"type": "insufficient_quota", "code": None, "message": "no"}}),
        (429, refusal("You exceeded your current quota, please check your plan")),
        (429, refusal("no", "billing_hard_limit_reached")),
        (429, refusal("Your account is not active, please check your billing details")),
        (400, refusal("Your credit balance is too low to access the Anthropic API.")),
        (400, refusal("Access denied, please make sure your account is in good standing.",
                      "Arrearage")),
        (400, {"error": {"message": "API key not valid. Please pass a valid API key.",
                         "status": "INVALID_ARGUMENT"}}),
        (400, refusal("Model Not Exist")),
        (400, refusal("qwen is not a valid model ID")),
        (400, refusal("The model `qwen` has been decommissioned", "model_decommissioned")),
        (400, refusal("no", "model_not_found")),
    ],
)  # fmt: skip
def test_what_no_call_of_the_model_would_pass_is_unavailable(status, body):
    assert meaning(status, body) is ModelUnavailable


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (408, Timeout),
        (409, EngineOverloaded),
        (422, EngineRefused),
        (429, EngineOverloaded),
        (500, EngineDead),
        (501, EngineDead),
        (502, EngineDead),
        (503, EngineOverloaded),
        (504, EngineDead),
        (529, EngineOverloaded),
    ],
)
def test_other_statuses(status, expected):
    assert meaning(status, refusal("no")) is expected
    assert meaning(status, b"<html>nginx</html>") is expected
    assert meaning(status, b"") is expected
    assert meaning(status, b"[" * 100_000) is expected


def test_a_limit_that_resets_by_itself_is_no_empty_account():
    body = [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded "
             "your current quota", "details": [{"retryDelay": "37s"}]}}]  # fmt: skip
    assert meaning(429, body) is EngineOverloaded
    assert said(429, body).wait == 37


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "40"}, 40),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after": "Mon, 05 Jan 2026 12:00:30 GMT"}, 30),
        ({"retry_after": "Mon, 05 Jan 2026 11:00:00 GMT"}, 0),
        # A server whose clock is an hour ahead.
        ({"retry_after": "Mon, 05 Jan 2026 13:00:30 GMT",
          "date": "Mon, 05 Jan 2026 13:00:00 GMT"}, 30),
        ({"retry_after_ms": "250", "retry_after": "1"}, 0.25),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "6m0s"}, 360),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "20ms"}, 0.02),
        ({"x_ratelimit_remaining_tokens": "9", "x_ratelimit_reset_tokens": "20ms"}, None),
        ({"x_ratelimit_remaining": "0",
          "x_ratelimit_reset": str(int(NOW.timestamp() + 60) * 1000)}, 60),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "17"}, 17),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-5"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "1e999"}, None),
        ({"retry_after": "Mon, 99 Foo 99999 12:00:30 GMT"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_how_long_a_server_asks_to_wait(headers, wait):
    for status in (429, 503):
        assert said(status, refusal("busy"), **headers).wait == wait
    assert said(400, refusal("bad"), **headers).wait is None


@pytest.mark.parametrize(
    ("message", "wait"),
    [
        ("Rate limit reached for gpt-4o. Please try again in 1.5s.", 1.5),
        ("Rate limit reached. Please try again in 6m0s. Visit x", 360),
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 20 seconds", None),
    ],
)
def test_a_wait_in_words_counts_where_no_header_says_it(message, wait):
    assert said(429, refusal(message)).wait == wait


def test_a_wait_makes_any_server_error_and_a_second_limit_an_overload():
    assert meaning(502, b"", retry_after="3") is EngineOverloaded
    assert meaning(403, refusal("secondary rate limit"), retry_after="3") is EngineOverloaded
    error = refusal_of(said(503, b"", retry_after="3"), "m")
    assert isinstance(error, EngineOverloaded)
    assert error.retry_after == 3


def test_a_reply_that_the_server_found_invalid_is_a_reply():
    body = {"error": {"message": "Failed to generate JSON.", "code": "json_validate_failed",
                      "failed_generation": '{"a": prompt is too long'}}  # fmt: skip
    assert meaning(400, body) == Completion('{"a": prompt is too long', "stop")
    assert meaning(400, refusal("Parsing failed.", "output_parse_failed")) == Completion("", "stop")


def test_an_error_within_a_good_answer_means_the_same():
    assert meaning(200, {"error": {"message": "upstream is gone"}}) is EngineDead
    assert meaning(200, refusal("prompt is too long")) is ContextOverflow
    assert meaning(200, refusal("no", "content_filter")) == FILTERED
