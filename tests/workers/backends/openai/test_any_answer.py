"""Whatever a server answers: an outcome of ours, and no more requests than documented."""

import asyncio
import json
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.ask import Ask, CallLog
from agents.core.calls import MOST_TOKENS, Completion, FinishReason
from agents.core.errors import Blame, CrsweepError
from agents.core.prompts import PromptFolder
from tests import virtual_time
from tests.workers.backends.calls import STEP, call
from tests.workers.backends.openai.in_process import Sent, bound

MOST_WAIT, TRANSIENT = 4.0, 1
MOST_REQUESTS = 1 + TRANSIENT + 3  # waits of 0.5, 1 and 2 s

odd = st.sampled_from(
    [None, "", "stop", "length", "error", -1, 2147483647, 4294967295, 10.5, "20", True, [], {},
     "\ud83d", "content_filter", "context_length_exceeded", "insufficient_quota", 429, 401, 1e308,
     "x" * 999]
)  # fmt: skip
values = st.recursive(
    odd | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def holding(**fields):
    """Mappings with some of `fields`, each as given or any value."""
    return st.fixed_dictionaries({}, optional={k: v | values for k, v in fields.items()})


parts = st.lists(
    holding(type=st.sampled_from(["text", "thinking", "refusal"]), text=odd), max_size=3
)
messages = holding(content=odd | parts, refusal=odd, reasoning=odd, reasoning_content=odd | parts)
usages = holding(prompt_tokens=odd, completion_tokens=odd,
                 completion_tokens_details=holding(reasoning_tokens=odd))  # fmt: skip
choices = st.lists(holding(message=messages, finish_reason=odd, error=values), max_size=2)
errors = holding(
    error=holding(message=odd, code=odd, type=odd, param=odd, innererror=values, metadata=values),
    message=odd,
    detail=values,
)
bodies = (
    values
    | holding(choices=choices, usage=usages, system_fingerprint=odd, data=values)
    | st.fixed_dictionaries({"choices": choices, "usage": usages})
    | errors
    | st.lists(errors, max_size=2)
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "Retry-After": st.sampled_from(
            ["0", "1", "2.5", "40", "-1", "nan", "1e999", "soon", "Mon, 05 Jan 2026 12:00:30 GMT"]
        ),
        "Retry-After-Ms": st.sampled_from(["0", "250", "x"]),
        "X-RateLimit-Remaining": st.sampled_from(["0", "5", ""]),
        "X-RateLimit-Reset": st.sampled_from(["1", "1e15", "20ms", "99999999999999", ""]),
        "Location": st.just("http://elsewhere/"),
        "Content-Type": st.sampled_from(["text/html", "application/json", "\x80"]),
    },
)
statuses = st.sampled_from([200, 200, 200, 204, 301, 400, 401, 404, 408, 422, 429, 500, 503]) | (
    st.integers(200, 599)
)
answers = st.lists(
    st.builds(
        Sent,
        statuses,
        bodies.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=40),
        headers,
    ),
    min_size=1,
    max_size=4,
)


class Scripted:
    """Gives the answers one after the other, the last again and again."""

    def __init__(self, script: list[Sent]) -> None:
        self.script, self.requests = script, 0

    def __call__(self, body: dict) -> Sent:
        self.requests += 1
        return self.script[min(self.requests, len(self.script)) - 1]


@settings(max_examples=80)
@given(answers, st.sampled_from(["json_schema", "none"]))
def test_any_answer_is_a_completion_or_an_error_of_ours(script, guided):
    server = Scripted(script)

    async def ask():
        model = bound(server, TRANSIENT, max_wait=MOST_WAIT, guided=guided)
        try:
            return await model.complete(call())
        finally:
            await model.close()

    try:
        found = virtual_time.run(ask())
    except CrsweepError as error:
        assert error.blame in (None, "infrastructure")  # None: the speaker's, which Ask knows
        error.message.encode()
        assert "\n" not in error.message
        assert error.retries == server.requests - 1
    else:
        assert isinstance(found, Completion)
        assert found.finish_reason in get_args(FinishReason)
        for text in (found.text, found.thinking or "", found.fingerprint or ""):
            text.encode()
        for count in (found.input_tokens, found.output_tokens, found.thinking_tokens):
            assert count is None or (type(count) is int and 0 <= count <= MOST_TOKENS)
        assert found.retries == server.requests - 1
    assert server.requests <= MOST_REQUESTS


@settings(max_examples=30)
@given(script=answers)
def test_any_answer_to_a_step_is_a_reply_or_has_a_blame(tmp_path_factory, script):
    prompts = tmp_path_factory.mktemp("prompts")
    (prompts / f"{STEP.name}.md.j2").write_text("Name films.")
    server, journal = Scripted(script), CallLog()

    async def ask():
        model = bound(server, TRANSIENT, max_wait=MOST_WAIT)
        try:
            ask = Ask("agent", "u1", 7, PromptFolder(prompts), lambda _: model, journal)
            return await ask(STEP)
        finally:
            await model.close()

    try:
        virtual_time.run(ask())
    except CrsweepError as error:
        assert error.blame in get_args(Blame)
    assert 1 <= len(journal.records) <= 3
    assert server.requests <= len(journal.records) * MOST_REQUESTS


@settings(max_examples=30)
@given(script=answers)
def test_any_answer_to_an_embedding_is_vectors_or_an_error_of_ours(script):
    server = Scripted(script)

    async def ask():
        model = bound(server, TRANSIENT, max_wait=MOST_WAIT)
        try:
            return await model.embed(["a", "b"])
        finally:
            await model.close()

    try:
        assert virtual_time.run(ask()).vectors.shape[0] == 2
    except CrsweepError as error:
        assert error.blame in (None, "infrastructure")
    assert server.requests <= MOST_REQUESTS


def test_calls_at_once_wait_for_one_pause_and_are_all_answered():
    """Twenty calls at a server that grants five a minute: no try is used up, none fails."""
    granted: list[float] = []

    def server(body: dict) -> Sent:
        now = asyncio.get_running_loop().time()
        window = [moment for moment in granted if moment > now - 60]
        if len(window) >= 5:
            return Sent(
                429, {"error": {"message": "slow"}}, {"Retry-After": f"{60 - now + window[0]}"}
            )
        granted.append(now)
        return Sent(200, {"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}]})

    async def ask():
        model = bound(server, transient=0)
        try:
            return await asyncio.gather(*(model.complete(call(n)) for n in range(20)))
        finally:
            await model.close()

    assert len(virtual_time.run(ask())) == 20
    assert 180 <= granted[-1] < 600
