"""The openai backend against a real HTTP server."""

import asyncio
import logging
import pickle
import re
import socket
import threading
import traceback
from typing import Any

import numpy as np
import pytest
from tenacity import wait_none

from agents.core.calls import Completion
from agents.core.errors import (
    ContextOverflow,
    CrsweepError,
    EngineDead,
    EngineOverloaded,
    EngineRefused,
    ModelUnavailable,
    Timeout,
    UsageError,
)
from sweeps.origins import Origins, check
from sweeps.schema import ModelSpec
from tests.conftest import LAST_GUARD_SECONDS
from tests.workers.backends.calls import STEP, TALK, call, context
from tests.workers.backends.fake_openai import Answer, FakeOpenAI, completion, refusal
from workers.backends.core.backend import Workload
from workers.backends.openai import OpenAIBackend
from workers.core import retry
from workers.models import BoundModel, declare

KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("CRSWEEP_TEST_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")


def options(url: str, **changes: Any) -> Any:
    given = {"base_url": url, "model": "qwen", "api_key_env": "CRSWEEP_TEST_KEY", **changes}
    return check(OpenAIBackend.Options, given, Origins(), ("models", "remote"))


def spec_of(**given: Any) -> ModelSpec:
    return ModelSpec.model_validate({"backend": "openai", "model": "qwen", **given})


async def completions(*calls, url: str, **changes: Any) -> list[Any]:
    """Completions of `calls`, asked at once."""
    backend = OpenAIBackend(options(url, **changes), context())
    try:
        return await asyncio.gather(*map(backend.complete, calls))
    finally:
        await backend.close()


def complete(*calls, url: str, **changes: Any) -> list[Any]:
    return asyncio.run(completions(*calls, url=url, **changes))


def error_of(answer: Answer, **changes: Any) -> CrsweepError:
    with FakeOpenAI(answer) as server, pytest.raises(CrsweepError) as caught:
        complete(call(), url=server.url, **changes)
    assert len(server.asked) == 1, "a backend never retries"
    return caught.value


def check_of(server: FakeOpenAI, **changes: Any) -> str:
    async def ask() -> str:
        backend = OpenAIBackend(options(server.url, **changes), context())
        try:
            return await backend.check(Workload([], {}))
        finally:
            await backend.close()

    return asyncio.run(ask())


def test_model_messages_seed_sampling_and_schema_arrive():
    with FakeOpenAI(Answer(body=completion('{"a": 1}'))) as server:
        sampling = {"temperature": 0.2, "max_tokens": 99}
        complete(call(2**48 - 1), url=server.url, sampling=sampling, extra_body={"top_k": 5})
    assert server.asked[0].path == "/v1/chat/completions"
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert server.asked[0].body == {
        "model": "qwen",
        "messages": [{"role": "user", "content": "Name films."}],
        "seed": 2**48 - 1,
        "temperature": 0.2,
        "top_p": 1.0,
        "max_tokens": 99,
        "top_k": 5,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "name_items", "schema": STEP.schema, "strict": True},
        },
    }


def test_an_unguided_request_sends_no_schema():
    with FakeOpenAI() as server:
        complete(call(), url=server.url, guided="none")
    assert "response_format" not in server.asked[0].body


def test_no_key_is_sent_that_was_not_named():
    with FakeOpenAI() as server:
        complete(call(), url=server.url, api_key_env=None)
    assert server.asked[0].headers["authorization"] == "Bearer none"


def test_text_finish_reason_and_token_counts_come_back():
    body = completion('{"a": 1}', "length")
    body["usage"]["completion_tokens_details"] = {"reasoning_tokens": 3}
    with FakeOpenAI(Answer(body=body)) as server:
        (found,) = complete(call(), url=server.url)
    assert found == Completion('{"a": 1}', "length", 11, 5, 3)


def test_a_server_that_counts_no_tokens_gives_none():
    body = completion("x", "length")
    del body["usage"]
    with FakeOpenAI(Answer(body=body)) as server:
        (found,) = complete(call(), url=server.url)
    assert found == Completion("x", "length")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thinking_and_the_servers_fingerprint_come_back(name):
    body = {**completion("{}", **{name: "Let me see."}), "system_fingerprint": "fp_1"}
    with FakeOpenAI(Answer(body=body)) as server:
        (found,) = complete(call(), url=server.url)
    assert (found.text, found.thinking, found.fingerprint) == ("{}", "Let me see.", "fp_1")


@pytest.mark.parametrize("thinking", [None, "", {"summary": "?"}])
def test_thinking_that_is_no_text_is_none(thinking):
    with FakeOpenAI(Answer(body=completion("{}", reasoning=thinking))) as server:
        (found,) = complete(call(), url=server.url)
    assert found.thinking is None


def test_a_text_step_sends_no_schema():
    with FakeOpenAI(Answer(body=completion("Hello."))) as server:
        (found,) = complete(call(step=TALK), url=server.url)
    assert found.text == "Hello."
    assert "response_format" not in server.asked[0].body


def test_replies_are_free_text_unless_decoding_is_guided():
    for guided in ("json_schema", "none"):
        model = BoundModel("m", spec_of(base_url="http://h/v1", guided=guided), context(), 0)
        assert model.guided == (guided == "json_schema")


def vectors(*rows: tuple[int, list[float]], tokens: int = 9) -> dict[str, Any]:
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in rows]
    return {"object": "list", "data": data, "model": "qwen", "usage": {"prompt_tokens": tokens}}


def embedded(answer: Answer, *texts: str, **changes: Any):
    with FakeOpenAI(answer) as server:

        async def ask():
            spec = spec_of(base_url=server.url, **changes)
            model = BoundModel("m", spec, context(), transient=0)
            try:
                return await model.embed(texts)
            finally:
                await model.close()

        return asyncio.run(ask()), server.asked


def test_embeddings_come_back_in_the_order_of_the_texts():
    body = vectors((1, [0.5, -2]), (0, [1, 1e-9]))
    found, asked = embedded(Answer(body=body), "a", "bé", extra_body={"dimensions": 2})
    assert found.vectors.dtype == np.float32
    assert found.vectors.tolist() == np.array([[1, 1e-9], [0.5, -2]], np.float32).tolist()
    assert found.input_tokens == 9
    assert asked[0].path == "/v1/embeddings"
    assert asked[0].body == {
        "model": "qwen",
        "input": ["a", "bé"],
        "encoding_format": "float",
        "dimensions": 2,
    }


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
        ("Unknown parameter: 'seed'", "; `sampling.seed: null` may get past that: `crsweep doctor"),
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


def test_an_unfinished_thought_is_an_empty_truncated_reply():
    with FakeOpenAI(Answer(body=completion(None, "length"))) as server:
        (found,) = complete(call(), url=server.url)
    assert (found.text, found.finish_reason) == ("", "length")


def test_a_model_that_refuses_has_replied():
    with FakeOpenAI(Answer(body=completion(None, refusal="I will not."))) as server:
        (found,) = complete(call(), url=server.url)
    assert found.text == "I will not."


@pytest.mark.parametrize("status", [200, 401, 500])
def test_the_key_is_never_in_an_error_or_log(status, caplog):
    caplog.set_level(logging.DEBUG)
    echo = f"got 'Bearer {KEY}', {'x' * 240} {KEY}"
    error = error_of(Answer(status, refusal(echo)))
    shown = "".join(traceback.format_exception(error))
    assert "got 'Bearer ***'" in error.message
    for text in (error.message, shown, repr(pickle.loads(pickle.dumps(error))), caplog.text):
        assert KEY not in text
        assert KEY[:12] not in text


def test_credentials_in_the_address_are_used_and_never_shown(caplog):
    caplog.set_level(logging.DEBUG)
    with FakeOpenAI(Answer(401, refusal("who is ann:p%40ss? p@ss? YW5uOnBAc3M="))) as server:
        url = server.url.replace("http://", "http://ann:p%40ss@")
        with pytest.raises(EngineRefused) as caught:
            complete(call(), url=url, api_key_env=None)
    assert server.asked[0].headers["authorization"] == "Basic YW5uOnBAc3M="
    assert "who is ann:***? ***? ***" in caught.value.message
    for secret in ("p%40ss", "p@ss", "YW5uOnBAc3M="):
        assert secret not in caught.value.message
        assert secret not in caplog.text


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


def test_ten_calls_are_served_at_once():
    all_ten = threading.Barrier(10)
    answers = [Answer(body=completion(), hold=lambda: all_ten.wait(LAST_GUARD_SECONDS))] * 10
    with FakeOpenAI(*answers) as server:
        assert len(complete(*map(call, range(10)), url=server.url)) == 10
    assert {asked.body["seed"] for asked in server.asked} == set(range(10))
    assert server.most_at_once == 10


class _Loop(asyncio.SelectorEventLoop):
    """Its clock can be put forward."""

    skipped = 0

    def time(self) -> float:
        return super().time() + self.skipped

    def skip(self) -> None:
        self.skipped += 1000


def test_waiting_for_a_connection_is_no_timeout():
    """By a clock that each answer puts forward."""
    loop = _Loop()
    answers = [Answer(body=completion(), hold=loop.skip)] * 4
    with FakeOpenAI(*answers) as server, asyncio.Runner(loop_factory=lambda: loop) as runner:
        calls = map(call, range(4))
        runner.run(completions(*calls, url=server.url, max_connections=1, timeout=2500))
    assert server.most_at_once == 1
    assert loop.skipped == 4000


def test_check_says_what_is_served():
    with FakeOpenAI(models=("qwen", "llama")) as server:
        assert check_of(server) == f"{server.url} serves qwen, llama"
    assert [asked.path for asked in server.asked] == ["/v1/models"]


def test_check_refuses_a_model_that_is_not_served_with_a_near_match():
    with FakeOpenAI(models=("qwen2",)) as server, pytest.raises(EngineRefused) as caught:
        check_of(server)
    assert "no model 'qwen'; did you mean 'qwen2'?" in caught.value.message


def test_check_maps_errors_too():
    answer = Answer(401, refusal(f"bad key {KEY}"))
    with FakeOpenAI(answer) as server, pytest.raises(EngineRefused, match=r"bad key \*\*\*"):
        check_of(server)


def test_a_missing_key_is_found_when_options_are_checked(monkeypatch):
    monkeypatch.delenv("CRSWEEP_TEST_KEY")
    with pytest.raises(UsageError) as caught:
        options("http://h/v1")
    assert "models.remote.api_key_env" in caught.value.message
    assert "the environment variable CRSWEEP_TEST_KEY is not set" in caught.value.message


def test_a_key_that_vanished_later_is_one_clear_line_too(monkeypatch):
    checked = options("http://h/v1")
    monkeypatch.delenv("CRSWEEP_TEST_KEY")
    with pytest.raises(UsageError, match="model 'm': the environment variable CRSWEEP_TEST_KEY"):
        OpenAIBackend(checked, context())


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key_env": KEY},
        {"base_url": f"https//{KEY}@host/v1"},
        {"base_url": f"http://ann:{KEY}/x@host/v1"},
        {"base_url": f"http://host/v1?key={KEY}"},
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_unseen(wrong):
    with pytest.raises(UsageError) as caught:
        options("http://h/v1", **wrong)
    assert KEY not in caught.value.message


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"modle": "qwen"}, "did you mean 'model'"),
        ({"sampling": {"temprature": 1}}, "did you mean 'temperature'"),
        ({"sampling": {"top_p": 0}}, "sampling.top_p"),
        ({"guided": "json_shema"}, "did you mean 'json_schema'"),
        ({"extra_body": {"seed": 1}}, "'seed' is set by other options"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_wrong_options_are_refused_in_words(wrong, said):
    with pytest.raises(UsageError) as caught:
        options("http://h/v1", **wrong)
    assert said in caught.value.message


def test_identity_is_what_decides_the_answers():
    def identity(**given: Any):
        return declare(spec_of(**given), Origins(), ())()["options"]

    plain = identity(base_url="http://a/v1")
    moved = identity(base_url="http://b/v1", timeout=9, api_key_env="CRSWEEP_TEST_KEY")
    assert plain == moved == {"model": "qwen"}
    warm = identity(base_url="http://a/v1", sampling={"temperature": 1.0}, guided="none")
    assert warm == {"model": "qwen", "sampling": {"temperature": 1.0}, "guided": "none"}
    assert identity(base_url="http://a/v1", extra_body={"k": 1})["extra_body"] == {"k": 1}


SENT_BY_NAME = {
    "OPENAI_API_KEY": "sk-of-another-server",
    "OPENAI_ADMIN_KEY": "sk-of-an-admin",
    "OPENAI_ORG_ID": "org-of-another",
    "OPENAI_PROJECT_ID": "proj-of-another",
    "OPENAI_BASE_URL": "http://another.invalid/v1",
    "OPENAI_CUSTOM_HEADERS": "X-Custom: of-another\nAuthorization: Bearer sk-custom",
    "OPENAI_WEBHOOK_SECRET": "wh-of-another",
}


@pytest.mark.parametrize("key_env", [None, "CRSWEEP_TEST_KEY"])
def test_nothing_in_the_environment_is_sent_that_the_sweep_does_not_name(monkeypatch, key_env):
    for name, value in SENT_BY_NAME.items():
        monkeypatch.setenv(name, value)
    with FakeOpenAI() as server:
        complete(call(), url=server.url, api_key_env=key_env)
        check_of(server, api_key_env=key_env)
    for asked in server.asked:
        assert {name for name in asked.headers if not name.startswith("x-stainless-")} <= {
            "host", "accept", "accept-encoding", "connection", "content-type", "content-length",
            "user-agent", "authorization",
        }  # fmt: skip
        assert asked.headers["authorization"] == f"Bearer {KEY if key_env else 'none'}"
        assert "another" not in str(asked.headers)


def test_headers_that_the_sweep_names_are_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv("MY_ORG", "org-secret")
    echo = Answer(400, refusal("who is org-secret?"))
    with FakeOpenAI(Answer(body=completion()), echo) as server:
        named = {"OpenAI-Organization": "MY_ORG"}
        complete(call(), url=server.url, headers_env=named)
        with pytest.raises(EngineRefused, match=r"who is \*\*\*\?"):
            complete(call(), url=server.url, headers_env=named)
    assert server.asked[0].headers["openai-organization"] == "org-secret"
    found = options("http://h/v1", headers_env=named)
    assert found.environment() == ["CRSWEEP_TEST_KEY", "MY_ORG"]
    assert "headers_env" not in found.identity()


@pytest.mark.parametrize("name", ["temperature", "top_p", "max_tokens", "seed"])
def test_null_leaves_a_field_out_of_the_request_and_is_another_model(name):
    with FakeOpenAI() as server:
        complete(call(), url=server.url, sampling={name: None})
    assert name not in server.asked[0].body
    others = {"temperature", "top_p", "max_tokens", "seed"} - {name}
    assert others <= set(server.asked[0].body)
    identity = declare(spec_of(base_url="http://a/v1", sampling={name: None}), Origins(), ())()
    assert identity["options"] == {"model": "qwen", "sampling": {name: None}}


def test_all_of_sampling_can_be_left_out():
    nothing = dict.fromkeys(("temperature", "top_p", "max_tokens", "seed"))
    with FakeOpenAI() as server:
        complete(call(), url=server.url, sampling=nothing, guided="none")
    assert server.asked[0].body == {
        "model": "qwen",
        "messages": [{"role": "user", "content": "Name films."}],
    }


def test_max_completion_tokens_is_sent_in_the_place_of_max_tokens():
    with FakeOpenAI() as server:
        complete(call(), url=server.url, sampling={"max_completion_tokens": 77})
    assert server.asked[0].body["max_completion_tokens"] == 77
    assert "max_tokens" not in server.asked[0].body
    with pytest.raises(UsageError, match="in the place of max_tokens: give one"):
        options("http://h/v1", sampling={"max_completion_tokens": 77, "max_tokens": 5})
    options("http://h/v1", sampling={"max_completion_tokens": 77, "max_tokens": None})


@pytest.mark.parametrize("strict", [True, False, None])
def test_strict_is_sent_as_given_or_left_out(strict):
    with FakeOpenAI() as server:
        complete(call(), url=server.url, strict=strict)
    schema = server.asked[0].body["response_format"]["json_schema"]
    assert schema.get("strict") is strict
    assert ("strict" in schema) == (strict is not None)


def test_only_a_temperature_of_zero_that_is_sent_is_greedy():
    for temperature, greedy in ((0, True), (0.1, False), (None, False)):
        spec = spec_of(base_url="http://h/v1", sampling={"temperature": temperature})
        assert BoundModel("m", spec, context(), 0).greedy == greedy


def test_calls_of_different_seeds_stay_different_where_no_seed_is_sent():
    spec = spec_of(base_url="http://h/v1", sampling={"seed": None})
    model = BoundModel("m", spec, context(), 0)
    assert call(1).key(model) != call(2).key(model)


def test_half_a_surrogate_pair_in_a_prompt_is_sent_repaired():
    with FakeOpenAI() as server:
        complete(call(prompt="a\ud83d"), url=server.url)
    assert server.asked[0].body["messages"][0]["content"] == "a\ufffd"


def test_a_filtered_request_and_a_filtered_reply_come_to_the_same():
    refused = refusal("The response was filtered", "content_filter")
    withheld = {**completion("half a sen", "content_filter"), "usage": None}
    for answer in (Answer(400, refused), Answer(body=withheld), Answer(body=refused)):
        with FakeOpenAI(answer) as server:
            (found,) = complete(call(), url=server.url)
        assert found == Completion("", "content_filter")


def test_a_reply_that_the_server_cut_below_its_bound_is_counted_and_logged_once(caplog):
    short = completion('{"a', "length")
    with FakeOpenAI(Answer(body=short), Answer(body=short)) as server:
        found = complete(call(1), call(2), url=server.url)
    assert [(done.finish_reason, done.output_tokens) for done in found] == [("length", 5)] * 2
    logged = [r.getMessage() for r in caplog.records if "cut off after 5 tokens" in r.getMessage()]
    assert len(logged) == 1
    assert "although 512 are allowed" in logged[0]


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
def test_a_wrong_path_is_named_with_what_probably_mends_it(path, said):
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


@pytest.mark.parametrize("end", ["/chat/completions", "/embeddings", "/models"])
def test_an_address_of_one_request_is_refused(end):
    with pytest.raises(UsageError, match=f"remote.base_url: leave out {end}"):
        options(f"http://h/v1{end}")


def test_a_variable_that_is_not_set_is_named_once(monkeypatch):
    monkeypatch.delenv("CRSWEEP_TEST_KEY")
    with pytest.raises(UsageError) as caught:
        options("http://h/v1")
    assert caught.value.message.endswith(
        "models.remote.api_key_env: the environment variable CRSWEEP_TEST_KEY is not set"
    )
    with pytest.raises(
        UsageError, match=r"headers_env: the environment variable MY_ORG is not set$"
    ):
        options("http://h/v1", api_key_env=None, headers_env={"X-Org": "MY_ORG"})


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
    monkeypatch.setattr("workers.core.retry.Pause.hold", lambda self, seconds: held.append(seconds))
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
