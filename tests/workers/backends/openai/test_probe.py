"""What doctor says of an openai model: one real call, and the option that resolves each refusal."""

import asyncio
import re
from typing import Any

import pytest

from agents.core.calls import EmbedCall
from agents.core.errors import (
    CrsweepError,
    EngineDead,
    EngineOverloaded,
    EngineRefused,
    ModelUnavailable,
    UsageError,
)
from tests.workers.backends.calls import STEP, TALK, call, context
from tests.workers.backends.fake_openai import Answer, Asked, FakeOpenAI, completion, refusal
from workers.backends.core.backend import Workload
from workers.backends.openai import OpenAIBackend

VALID = '{"action": "ask", "titles": [], "words": "Hm?"}'
WORK = [call(prompt="A longer prompt of the step."), call(prompt="Short."), call(step=TALK)]


class Picky(FakeOpenAI):
    """Refuses the first of `refused` that a request has, in the words given for it."""

    def __init__(self, *refused: tuple[str, str], reply: str = VALID, **given: Any) -> None:
        super().__init__(**given)
        self.refused, self.reply = refused, reply

    def answer(self, asked: Asked) -> Answer:
        if not asked.path.endswith("/chat/completions"):
            return super().answer(asked)
        self.asked.append(asked)
        for field, words in self.refused:
            if field in str(asked.body):
                return Answer(400, refusal(words))
        return Answer(body=completion(self.reply))


def check_of(server: FakeOpenAI, *calls: Any, url: str | None = None, **changes: Any) -> str:
    async def ask() -> str:
        given = {"base_url": url or server.url, "model": "qwen", **changes}
        backend = OpenAIBackend(OpenAIBackend.Options.model_validate(given), context())
        try:
            return await backend.check(Workload([], {}, None, calls))
        finally:
            await backend.close()

    return asyncio.run(ask())


def asked_for(server: FakeOpenAI) -> list[dict[str, Any]]:
    return [asked.body for asked in server.asked if asked.body]


def test_one_call_is_made_with_the_largest_schema_and_its_shortest_prompt():
    with Picky() as server:
        said = check_of(server, *WORK)
    assert said == (
        f"{server.url} serves qwen; answered a call of the step 'name_items', which cost one call "
        "(11 and 5 tokens)"
    )
    (body,) = asked_for(server)
    assert body["messages"][0]["content"] == "Short."
    assert body["response_format"]["json_schema"]["schema"] == STEP.schema


def test_of_many_models_a_few_are_named_and_the_own_one_first():
    with Picky(models=(*(f"m{n}" for n in range(80)), "qwen")) as server:
        assert check_of(server).endswith("serves qwen, m0, m1, m2, m3 and 76 more")


def test_a_model_of_text_steps_is_asked_for_text():
    with Picky(reply="Hello.") as server:
        assert "a call of the step 'talk'" in check_of(server, call(step=TALK))


@pytest.mark.parametrize(
    ("field", "words", "option"),
    [
        ("max_tokens", "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
         "'max_completion_tokens' instead.", "`sampling.max_completion_tokens: 512`"),
        ("max_tokens", "Unrecognized request argument supplied: max_tokens",
         "`sampling.max_tokens: null`"),
        ("temperature", "Unsupported value: 'temperature' does not support 0.7 with this model. "
         "Only the default (1) value is supported.", "`sampling.temperature: null`"),
        ("top_p", "`temperature` and `top_p` cannot both be specified for this model. Please use "
         "only one.", "`sampling.top_p: null`"),
        ("seed", "seed: Extra inputs are not permitted", "`sampling.seed: null`"),
        ("strict", "Unknown parameter: 'response_format.json_schema.strict'.", "`strict: null`"),
        ("response_format", "This model does not support response_format", "`guided: none`"),
        ("minLength", "Invalid schema for response_format 'name_items': In context=('properties', "
         "'words'), 'minLength' is not permitted.", "`guided: none`"),
        ("pattern", "Unable to submit request because one or more response schemas specified "
         "unsupported field pattern", "`guided: none`"),
        ("json_schema", "Failed to compile grammar", "`guided: none`"),
        ("top_k", "property 'top_k' is unsupported", "`extra_body without top_k`"),
    ],
)  # fmt: skip
def test_what_a_server_refuses_is_named_with_the_option_that_resolves_it(field, words, option):
    with Picky((field, words)) as server, pytest.raises(UsageError) as caught:
        check_of(server, *WORK, extra_body={"top_k": 5})
    assert f"it answers with {option}" in caught.value.message
    assert len(asked_for(server)) == 2


def test_everything_that_is_refused_is_named_at_once():
    with (
        Picky(
            ("max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."),
            ("temperature", "temperature does not support 0.7"),
            ("seed", "Unknown parameter: 'seed'"),
            ("minLength", "'minLength' is not permitted"),
        ) as server,
        pytest.raises(UsageError) as caught,
    ):
        check_of(server, *WORK)
    assert caught.value.message == (
        "the server refuses max_tokens, temperature, seed, the reply's schema; it answers with "
        "`sampling.max_completion_tokens: 512`, `sampling.temperature: null`, "
        "`sampling.seed: null`, `guided: none` (docs/sweep-files.md, Models)"
    )
    assert len(asked_for(server)) == 5


def test_a_refusal_that_no_option_resolves_is_repeated_in_the_servers_words():
    for words in ("messages: text is required", "the seed is bad, and stays so"):
        with Picky(("model", words)) as server, pytest.raises(EngineRefused) as caught:
            check_of(server, *WORK)
        assert f"refuses a call of the step 'name_items': HTTP 400: {words}" in caught.value.message
        assert len(asked_for(server)) <= 2


def test_the_parameter_that_an_error_names_is_the_one_that_is_left_out():
    class Naming(Picky):
        def answer(self, asked):
            answer = super().answer(asked)
            if answer.status == 400:
                answer.body["error"]["param"] = "seed"
            return answer

    server = Naming(("seed", "not with this temperature and top_p"))
    refused = re.escape("refuses seed; it answers with `sampling.seed: null`")
    with server, pytest.raises(UsageError, match=refused):
        check_of(server, *WORK)


def test_a_server_that_lists_no_models_is_asked_for_a_call():
    for answer in (Answer(404, {"detail": "Not Found"}), Answer(403, refusal("no")),
                   Answer(body="<html>"), Answer(500, refusal("no"))):  # fmt: skip
        with Picky() as server:
            server.answers.append(answer)
            said = check_of(server, *WORK)
        assert "lists no models (" in said
        assert "answered a call" in said


@pytest.mark.parametrize(("listed", "model"), [("models/qwen", "qwen"), ("qwen", "models/qwen")])
def test_a_model_may_be_listed_with_its_kind(listed, model):
    with Picky(models=(listed,)) as server:
        assert f"serves {listed}; answered" in check_of(server, *WORK, model=model)


def test_a_model_that_is_not_listed_may_answer_and_is_named_if_it_does_not():
    with Picky(models=("qwen2",)) as server:
        said = check_of(server, *WORK)
    assert "lists no model 'qwen'; did you mean 'qwen2'?; answered a call" in said
    server = Picky(("qwen", "The model `qwen` does not exist"), models=("qwen2",))
    with server, pytest.raises(ModelUnavailable, match=r"did you mean 'qwen2'.*does not exist"):
        check_of(server, *WORK)


def test_a_wrong_key_is_reported_in_one_line():
    server = FakeOpenAI(Answer(401, refusal("bad key")), Answer(401, refusal("bad key")))
    with server, pytest.raises(ModelUnavailable, match="HTTP 401: bad key"):
        check_of(server, *WORK)


def test_a_server_that_is_not_there_fails():
    with pytest.raises(EngineDead):
        check_of(FakeOpenAI(), *WORK, url="http://127.0.0.1:9/v1")


def test_an_embedding_model_is_asked_for_one_text():
    body = {"data": [{"index": 0, "embedding": [1.0, 2.0, 3.0]}]}
    listed = {"data": [{"id": "qwen"}]}
    texts = EmbedCall.of("agent", "u1", 1, 0, ["a", "b"])
    with FakeOpenAI(Answer(body=listed), Answer(body=body)) as server:
        said = check_of(server, texts)
    assert said.endswith("embedded one text in 3 dimensions, which cost one call")
    assert asked_for(server)[0]["input"] == ["a"]


@pytest.mark.parametrize(
    ("reply", "said"),
    [("no json", "invalid for the step"), (f"Sure! {VALID}", "tokens)"), (VALID, "tokens)")],
)
def test_a_reply_that_is_not_valid_is_a_remark(reply, said):
    with Picky(reply=reply) as server:
        assert re.search(re.escape(said), check_of(server, *WORK))


def test_a_wait_that_is_not_made_is_not_announced(caplog):
    busy = Answer(429, refusal("slow down"), headers={"Retry-After": "25"})
    listed = Answer(body={"data": [{"id": "qwen"}]})
    with FakeOpenAI(listed, busy) as server, pytest.raises(EngineOverloaded) as caught:
        check_of(server, *WORK)
    assert caught.value.message.endswith(
        "HTTP 429: slow down; the server asks to wait 25 s: try again then"
    )
    assert not caplog.records


def test_a_probe_whose_reply_is_filtered_says_so():
    listed = Answer(body={"data": [{"id": "qwen"}]})
    withheld = "took a call of the step 'name_items', whose reply was withheld by a content filter"
    for answer, counts in (
        (Answer(400, refusal("Output blocked by content filtering policy")), ""),
        (Answer(body=completion(None, "content_filter")), " (11 and 5 tokens)"),
    ):
        with FakeOpenAI(listed, answer) as server:
            assert f"; {withheld}{counts}: replies" in check_of(server, *WORK)


def test_errors_of_the_check_are_ours():
    server = FakeOpenAI(Answer(body="[" * 9999), Answer(body="{}"))
    with server, pytest.raises(CrsweepError):
        check_of(server, *WORK)
