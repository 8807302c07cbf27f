"""What doctor says of a sweep whose models are served elsewhere."""

from __future__ import annotations

import io
import random
import socket

from rich.console import Console

from runner.commands.doctor import examine
from tests.sweep_files import write_sweep
from tests.workers.backends.fake_openai import Answer, Asked, FakeOpenAI, completion, refusal
from workers.backends.core.replies import random_reply


class Picky(FakeOpenAI):
    """Lists no models, and takes no `max_tokens` and no `minLength`."""

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        if "messages" not in asked.body:
            return Answer(404, {"detail": "Not Found"})
        if "max_tokens" in asked.body:
            return Answer(400, refusal("'max_tokens' is not supported with this model"))
        if "minLength" in str(asked.body):
            return Answer(400, refusal("'minLength' is not permitted"))
        schema = asked.body.get("response_format", {}).get("json_schema", {}).get("schema")
        text = random_reply(schema, random.Random(0)) if schema else "Hm."
        return Answer(body=completion(text))


def doctor(path) -> tuple[bool, str]:
    console = Console(file=io.StringIO(), width=300)
    return examine(path, (), console), console.file.getvalue()  # type: ignore[attr-defined]


def test_doctor_makes_one_call_and_says_which_options_a_server_needs(tmp_path):
    with Picky() as server:
        model = {"backend": "openai", "base_url": server.url, "model": "qwen"}
        sweep = {"roles": {"user": "remote", "agent": "remote"},
                 "grid": {"agent": ["zero_shot"], "seed": [0]}}  # fmt: skip
        path = write_sweep(tmp_path, models={"remote": model}, **sweep)
        passed, said = doctor(path)
        assert not passed
        assert (
            "FAIL  model remote: the server refuses max_tokens, the reply's schema; it answers "
            "with `sampling.max_tokens: null`, `guided: none` (docs/sweep-files.md, Models)"
        ) in said
        asked = len(server.asked)
        needed = {**model, "guided": "none", "sampling": {"max_tokens": None}}
        passed, said = doctor(write_sweep(tmp_path, models={"remote": needed}, **sweep))
    assert passed, said
    assert f"openai, {server.url} lists no models (HTTP 404: Not Found); answered a call" in said
    assert "which cost one call (11 and 5 tokens)" in said
    assert len(server.asked) == asked + 2


def test_a_cluster_that_is_not_there_fails_once(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        missing = f"127.0.0.1:{probe.getsockname()[1]}"
    passed, said = doctor(write_sweep(tmp_path, run={"executor": "ray", "ray_address": missing}))
    assert not passed
    assert [line.split(":")[0] for line in said.splitlines() if "FAIL" in line] == ["FAIL  ray"]


def test_a_missing_data_set_fails_in_the_list(tmp_path):
    films = {"name": "movielens", "path": str(tmp_path / "films")}
    passed, said = doctor(write_sweep(tmp_path, domain=films))
    assert not passed
    first, second, *_ = said.splitlines()
    assert first.startswith(f"FAIL  data: {tmp_path}")
    assert f"{tmp_path}/films: there is no such folder" in first
    assert second.startswith("ok    output folder: ")
