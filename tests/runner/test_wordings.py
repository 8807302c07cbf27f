"""The same sweep through two servers that word the same faults differently gives equal results."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from tests.runner.reading import raw
from tests.sweep_files import write_sweep
from tests.workers.backends.fake_openai import Answer, Asked, FakeOpenAI, completion, refusal
from workers.backends.core.replies import random_reply

FAULTS = ("overflow", "filter", "empty", "thinking", "busy", "counts", "finish", "parts", "half")


class Vendor(FakeOpenAI):
    """Answers by the seed of the call, every second one with a fault. Subclasses word it."""

    def answer(self, asked: Asked) -> Answer:
        if "messages" not in asked.body:
            return super().answer(asked)
        self.asked.append(asked)
        assert all(message["content"].strip() for message in asked.body["messages"])
        seed = asked.body["seed"]
        schema = asked.body["response_format"]["json_schema"]["schema"]
        reply = random_reply(schema, random.Random(seed))
        fault = FAULTS[seed // 2 % len(FAULTS)] if seed % 2 == 0 else ""
        first = seed not in self.met
        self.met[seed] += 1
        if fault and first:
            self.faults[fault] += 1
        if not fault or (fault == "busy" and not first):
            return Answer(body=completion(reply))
        return getattr(self, fault)(reply)

    def __init__(self) -> None:
        super().__init__()
        self.met: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()


class Usual(Vendor):
    """OpenAI's words."""

    def overflow(self, reply: str) -> Answer:
        message = "This model's maximum context length is 8192 tokens."
        return Answer(400, refusal(message, "context_length_exceeded"))

    def filter(self, reply: str) -> Answer:
        return Answer(body={**completion("I wo", "content_filter"), "usage": None})

    def empty(self, reply: str) -> Answer:
        return Answer(body=completion("", "stop"))

    def thinking(self, reply: str) -> Answer:
        return Answer(body=completion("", "length", reasoning_content="Let me see."))

    def busy(self, reply: str) -> Answer:
        return Answer(429, refusal("slow down"), headers={"Retry-After": "0.01"})

    def counts(self, reply: str) -> Answer:
        return Answer(body={**completion(reply), "usage": None})

    def finish(self, reply: str) -> Answer:
        return Answer(body=completion(reply, "stop"))

    def parts(self, reply: str) -> Answer:
        return Answer(body=completion(reply))

    def half(self, reply: str) -> Answer:
        return Answer(body=completion(reply, reasoning="so \ufffd"))


class Other(Vendor):
    """The words of others."""

    def overflow(self, reply: str) -> Answer:
        message = "Input length 131393 exceeds the maximum allowed input length of 131040 tokens"
        return Answer(422, {"object": "error", "message": message, "code": 422})

    def filter(self, reply: str) -> Answer:
        inner: dict[str, Any] = {"code": "ResponsibleAIPolicyViolation"}
        return Answer(400, {"error": {"message": "filtered", "code": "400", "innererror": inner}})

    def empty(self, reply: str) -> Answer:
        return Answer(body=completion(None, "end_turn"))

    def thinking(self, reply: str) -> Answer:
        return Answer(body=completion(None, "max_tokens", reasoning="Let me see."))

    def busy(self, reply: str) -> Answer:
        return Answer(503, "<html>busy</html>")

    def counts(self, reply: str) -> Answer:
        usage = {"prompt_tokens": 4294967295, "completion_tokens": 10.5}
        return Answer(body={**completion(reply), "usage": usage})

    def finish(self, reply: str) -> Answer:
        return Answer(body=completion(reply, None))

    def parts(self, reply: str) -> Answer:
        halves = [reply[: len(reply) // 2], reply[len(reply) // 2 :]]
        content: Any = [{"type": "text", "text": half} for half in halves]
        return Answer(body=completion(content))

    def half(self, reply: str) -> Answer:
        return Answer(body=completion(reply, reasoning="so \ud83d"))


def test_two_servers_that_word_the_same_faults_differently_give_equal_tables(tmp_path, crsweep):
    found = []
    for kind in (Usual, Other):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        server = kind()
        with server:
            models = {"remote": {"backend": "openai", "base_url": server.url, "model": "qwen"}}
            path = write_sweep(
                folder, models=models, roles={"user": "remote", "agent": "remote"}, cache="off",
                grid={"agent": ["zero_shot", "llmcrs"], "seed": [0]}, cases={"sample": 12},
            )  # fmt: skip
            crsweep("run", path)
        table = crsweep("table", folder / "out", "--format", "csv").stdout
        episodes = raw(folder / "out", "episodes").sort_values("episode_id")
        ends = episodes[["episode_id", "status", "blame", "error_class", "stop_reason", "turns",
                         "success", "agent_tokens", "user_tokens"]]  # fmt: skip
        calls = raw(folder / "out", "calls")
        columns = ["seed", "role", "reply", "finish_reason", "input_tokens", "retries",
                   "error_class"]  # fmt: skip
        replies = calls.sort_values(by=columns)[columns]
        found.append((table, ends.to_csv(index=False), replies.to_csv(index=False), server.faults))
        assert set(server.faults) == set(FAULTS)
        assert set(episodes.blame.dropna()) <= {"agent", "user"}
        assert {"ContextOverflow"} <= set(episodes.error_class.dropna())
    assert found[0] == found[1]


class Broke(Usual):
    """Has no money for the model, until it is paid."""

    paid = False

    def answer(self, asked: Asked) -> Answer:
        if self.paid:
            return super().answer(asked)
        self.asked.append(asked)
        return Answer(429, refusal("You exceeded your current quota", "insufficient_quota"))


def test_a_server_that_serves_no_call_stops_the_run_which_can_be_resumed(tmp_path, crsweep):
    server = Broke()
    with server:
        models = {"remote": {"backend": "openai", "base_url": server.url, "model": "qwen"}}
        path = write_sweep(
            tmp_path, models=models, roles={"user": "remote", "agent": "remote"}, cache="off",
            grid={"agent": ["zero_shot"], "seed": [0]}, cases={"sample": 8},
        )  # fmt: skip
        stopped = crsweep("run", path, check=3)
        assert "stopped early" in stopped.stdout
        assert "HTTP 429: You exceeded your current quota" in stopped.stdout
        assert 1 <= len(server.asked) <= 4, "as many as were in flight"
        server.paid = True
        crsweep("run", path)
    episodes = raw(tmp_path / "out", "episodes")
    assert len(set(episodes[episodes.blame != "infrastructure"].episode_id)) == 8
