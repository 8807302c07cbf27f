"""What goes wrong at a server or on the way to it: the error, its message, and the retries."""

import asyncio
import re
import socket
from typing import Any

import pytest
from tenacity import wait_none

from agents.core.errors import (
    ContextOverflow,
    CrsweepError,
    EngineDead,
    EngineOverloaded,
    EngineRefused,
    ModelUnavailable,
    Timeout,
)
from tests.workers.backends.calls import call, context
from tests.workers.backends.fake_openai import Answer, FakeOpenAI, completion, refusal
from tests.workers.backends.openai.remote import complete, embedded, error_of, spec_of, vectors
from workers.core import retry
from workers.models import BoundModel


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(404, refusal("no embeddings here")), ModelUnavailable),
        (Answer(400, refusal("maximum context length is 512")), ContextOverflow),
        (Answer(503, refusal("loading")), EngineOverloaded),
        (Answer(drop=True), EngineDead),
        (Answer(body="hello"), EngineDead),
        (Answer(body=vectors((0, [1.0]))), EngineDead),
        (Answer(body=vectors((0, [1.0]), (0, [1.0]))), EngineDead),
        (Answer(body=vectors((0, [1.0]), (1, [1.0, 2.0]))), EngineDead),
    ],
)
def test_errors_of_embeddings_are_mapped_as_those_of_completions(answer, expected):
    with pytest.raises(CrsweepError) as caught:
        embedded(answer, "a", "b")
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "This model's maximum context length is 4096 tokens.", ContextOverflow),
        (400, "The decoder prompt is longer than the maximum model length of 64.", ContextOverflow),
        (400, "the request exceeds the available context size", ContextOverflow),
        (400, "top_p must be in (0, 1]", EngineRefused),
        (401, "Incorrect API key provided", ModelUnavailable),
        (403, "no", ModelUnavailable),
        (404, "The model `qwen` does not exist.", ModelUnavailable),
        (408, "slow", Timeout),
        (422, "unprocessable", EngineRefused),
        (429, "slow down", EngineOverloaded),
        (500, "a stack trace", EngineDead),
        (502, "bad gateway", EngineDead),
        (503, "loading", EngineOverloaded),
        (504, "gateway timeout", EngineDead),
    ],
)
def test_a_status_becomes_the_error_that_decides_on_retries(status, message, expected):
    error = error_of(Answer(status, refusal(message)))
    assert type(error) is expected
    assert f"HTTP {status}" in error.message
    assert message in error.message
    assert "127.0.0.1" in error.message


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("Unknown parameter: 'seed'", "; `sampling.seed: null` may avoid that: `crsweep doctor"),
        ("temperature does not support 0.7", "; `sampling.temperature: null` may"),
        ("messages: roles must alternate", ""),
    ],
)
def test_a_refusal_names_the_option_that_may_get_past_it(message, hint):
    error = error_of(Answer(400, refusal(message)))
    assert type(error) is EngineRefused
    said = error.message.partition(message)[2]
    assert said.startswith(hint) and bool(said) == bool(hint)


def test_a_context_overflow_is_known_by_its_code_alone():
    error = error_of(Answer(400, refusal("too big", "context_length_exceeded")))
    assert type(error) is ContextOverflow


def test_an_error_that_is_no_json_is_quoted():
    error = error_of(Answer(502, "<html>nginx</html>"))
    assert type(error) is EngineDead
    assert "<html>nginx</html>" in error.message


def test_a_slow_server_is_a_timeout():
    error = error_of(Answer(body=completion(), delay=0.6), timeout=0.2)
    assert type(error) is Timeout
    assert "no answer within 0.2 s" in error.message


def test_a_dropped_connection_is_a_dead_engine():
    assert type(error_of(Answer(drop=True))) is EngineDead


def test_a_connection_dropped_inside_an_answer_is_a_dead_engine():
    assert type(error_of(Answer(body=completion("x" * 99), cut=True))) is EngineDead


def test_nothing_listening_is_a_dead_engine():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(EngineDead, match=url):
        complete(call(), url=url)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<html>hello</html>", EngineDead),
        ("[]", EngineDead),
        ({"error": {"message": "upstream is gone"}}, EngineDead),
        ({**completion(), "choices": []}, EngineDead),
        (completion("", "abort"), EngineDead),
        (completion("{}", "insufficient_system_resource"), EngineDead),
        ({**completion(None, None), "usage": None}, EngineDead),
        (completion(17), EngineDead),
        (
            {
                "choices": [
                    {
                        "error": {"code": 502, "message": "gone"},
                        "finish_reason": "error",
                        "message": {"content": ""},
                    }
                ]
            },
            EngineDead,
        ),
        ({"error": {"code": 429, "message": "slow"}}, EngineOverloaded),
        ({"error": {"code": 401, "message": "no"}}, ModelUnavailable),
        ("[" * 100_000, EngineDead),
        ('{"choices": ' + "9" * 5000 + "}", EngineDead),
    ],
)
def test_a_body_outside_the_protocol_is_no_reply(body, expected):
    assert type(error_of(Answer(body=body))) is expected


def test_retries_keep_the_seed_and_are_recorded(monkeypatch):
    monkeypatch.setattr(retry, "_WAIT", wait_none())
    answers = [Answer(503, refusal("busy")), Answer(drop=True), Answer(body=completion("ok"))]
    with FakeOpenAI(*answers) as server:
        spec = spec_of(base_url=server.url)

        async def ask():
            model = BoundModel("remote", spec, context(), transient=3)
            try:
                return await model.complete(call(77))
            finally:
                await model.close()

        found = asyncio.run(ask())
    assert (found.text, found.retries) == ("ok", 2)
    assert [asked.body["seed"] for asked in server.asked] == [77, 77, 77]
    assert server.asked[0].body == server.asked[2].body


def test_what_would_repeat_is_not_retried():
    with FakeOpenAI(Answer(404, refusal("no such model"))) as server:
        spec = spec_of(base_url=server.url)

        async def ask():
            model = BoundModel("remote", spec, context(), transient=3)
            try:
                await model.complete(call())
            finally:
                await model.close()

        with pytest.raises(EngineRefused):
            asyncio.run(ask())
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "{root}/chat/completions: HTTP 404: Not Found; base_url names no version: try "
             "{root}/v1"),
        ("/api", "{root}/api/chat/completions: HTTP 404: Not Found; base_url names no version: try "
                 "{root}/api/v1"),
        ("/v2", "{root}/v2/chat/completions: HTTP 404: Not Found"),
    ],
)  # fmt: skip
def test_a_wrong_path_is_named_with_the_probable_fix(path, said):
    with FakeOpenAI(Answer(404, {"detail": "Not Found"})) as server:
        root = server.url.removesuffix("/v1")
        with pytest.raises(ModelUnavailable) as caught:
            complete(call(), url=root + path)
    assert caught.value.message == said.format(root=root)


def test_a_page_where_an_answer_should_be_names_the_path_too():
    with FakeOpenAI(Answer(body="<html>Web UI</html>")) as server:
        root = server.url.removesuffix("/v1")
        with pytest.raises(EngineDead, match=f"base_url names no version: try {root}/v1"):
            complete(call(), url=root)


def test_a_redirect_is_named_and_not_followed():
    server = FakeOpenAI(Answer(308, "", headers={"Location": "https://elsewhere/v1"}))
    named = "redirects to https://elsewhere/v1, which"
    with server, pytest.raises(ModelUnavailable, match=named):
        complete(call(), url=server.url)
    assert len(server.asked) == 1


async def _answers_after_a_pause(server: FakeOpenAI, calls: int, **changes: Any):
    spec = spec_of(base_url=server.url, **changes)
    model = BoundModel("remote", spec, context(), transient=0)
    try:
        return await asyncio.gather(*(model.complete(call(n)) for n in range(calls)))
    finally:
        await model.close()


@pytest.mark.parametrize("status", [429, 503])
def test_all_calls_of_a_model_wait_as_the_server_asks_and_use_up_no_try(status, monkeypatch):
    held = []
    monkeypatch.setattr(
        "workers.core.retry.Throttle.hold", lambda self, seconds: held.append(seconds)
    )
    monkeypatch.setattr("workers.core.retry._FIRST_FLOOR", 0.0)
    busy = Answer(status, refusal("slow down"), headers={"Retry-After": "0.01"})
    with FakeOpenAI(busy, busy) as server:
        done = asyncio.run(_answers_after_a_pause(server, 3, max_connections=1))
    assert sorted(answer.retries for answer in done) == [0, 1, 1]
    assert held == [0.01, 0.01]
    assert len(server.asked) == 5


def test_a_wait_that_is_too_long_ends_the_call_at_once():
    busy = Answer(429, refusal("daily limit"), headers={"Retry-After": "86400"})
    asked = re.escape("daily limit (the server asks to wait 86,400 s")
    with FakeOpenAI(busy) as server, pytest.raises(ModelUnavailable, match=asked):
        asyncio.run(_answers_after_a_pause(server, 1))
    assert len(server.asked) == 1
