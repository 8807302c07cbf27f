"""What the openai backend sends to a real HTTP server, and what it makes of the answers."""

import asyncio
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from agents.core.calls import Completion
from agents.core.errors import EngineRefused, UsageError
from sweeps.origins import Origins
from tests.conftest import LAST_GUARD_SECONDS
from tests.workers.backends.calls import STEP, TALK, call, context
from tests.workers.backends.fake_openai import Answer, FakeOpenAI, completion, refusal
from tests.workers.backends.openai.remote import (
    KEY,
    check_of,
    complete,
    completions,
    embedded,
    options,
    spec_of,
    vectors,
)
from tests.workers.cache.shared_calls import Store
from workers.backends.openai import answers
from workers.cache.client import CallCache, in_process
from workers.cache.owner import CallOwner
from workers.models import BoundModel, declare


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


def test_the_temperature_of_a_call_comes_before_the_models_own():
    with FakeOpenAI() as server:
        for sampling in ({"temperature": 0.2}, {"temperature": None}):
            complete(replace(call(), temperature=1.1), url=server.url, sampling=sampling)
    assert [asked.body["temperature"] for asked in server.asked] == [1.1, 1.1]


def test_an_unguided_request_sends_no_schema():
    with FakeOpenAI() as server:
        complete(call(), url=server.url, guided="none")
    assert "response_format" not in server.asked[0].body


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


def test_an_unfinished_thought_is_an_empty_truncated_reply():
    with FakeOpenAI(Answer(body=completion(None, "length"))) as server:
        (found,) = complete(call(), url=server.url)
    assert (found.text, found.finish_reason) == ("", "length")


def test_a_model_that_refuses_has_replied():
    with FakeOpenAI(Answer(body=completion(None, refusal="I will not."))) as server:
        (found,) = complete(call(), url=server.url)
    assert found.text == "I will not."


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


@pytest.mark.parametrize("name", ["temperature", "top_p", "max_tokens", "seed"])
def test_null_leaves_a_field_out_of_the_request_and_is_another_model(name):
    with FakeOpenAI() as server:
        complete(call(), url=server.url, sampling={name: None})
    assert name not in server.asked[0].body
    others = {"temperature", "top_p", "max_tokens", "seed"} - {name}
    assert others <= set(server.asked[0].body)
    identity = declare(
        spec_of(base_url="http://a/v1", sampling={name: None}), Origins(), ()
    ).identity()
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
    with pytest.raises(UsageError, match="replaces max_tokens: give only one"):
        options("http://h/v1", sampling={"max_completion_tokens": 77, "max_tokens": 5})
    options("http://h/v1", sampling={"max_completion_tokens": 77, "max_tokens": None})


@pytest.mark.parametrize("strict", [True, False, None])
def test_strict_is_sent_as_given_or_left_out(strict):
    with FakeOpenAI() as server:
        complete(call(), url=server.url, strict=strict)
    schema = server.asked[0].body["response_format"]["json_schema"]
    assert schema.get("strict") is strict
    assert ("strict" in schema) == (strict is not None)


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


def test_of_embeddings_that_arrive_together_each_is_kept_before_the_next_but_one_is_read(
    monkeypatch,
):
    """A crash among them loses what is being read, not all of them."""
    kept, read, waiting = [], [], []

    class Kept(Store):
        def write(self, entries):
            kept.extend(entries)
            super().write(entries)

    async def ask():
        answered = asyncio.Event()
        cache = CallCache([in_process(CallOwner(Kept()))])
        spec = spec_of(base_url="http://127.0.0.1:9/v1")
        model = BoundModel("m", spec, context(), transient=0, cache=cache)

        async def create(**request):
            waiting.append(request)
            if len(waiting) == 8:
                answered.set()
            await answered.wait()
            body = json.dumps(vectors((0, [float(request["input"][0])]))).encode()
            return SimpleNamespace(content=body, headers={})

        client = SimpleNamespace(
            embeddings=SimpleNamespace(with_raw_response=SimpleNamespace(create=create))
        )
        monkeypatch.setattr(model._backend, "_client", client)
        asked = [asyncio.create_task(model.embed([str(n)])) for n in range(8)]
        return [(await each).vectors.tolist() for each in asked]

    real = answers.vectors

    def reading(body, texts):
        read.append(len(kept))
        return real(body, texts)

    async def in_no_time(function, *args):
        return function(*args)

    monkeypatch.setattr(answers, "vectors", reading)
    monkeypatch.setattr("workers.cache.owner.asyncio.to_thread", in_no_time)
    assert asyncio.run(ask()) == [[[n]] for n in range(8)]
    assert len(kept) == 8
    assert all(before >= position - 2 for position, before in enumerate(read)), read
