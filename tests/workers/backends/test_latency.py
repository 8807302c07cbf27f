"""The latency backend: its replies, its faults and its log."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tenacity import wait_none

from agents.core.calls import Completion
from agents.core.errors import CrsweepError, EngineOverloaded, UsageError
from sweeps.origins import Origins, check
from sweeps.schema import ModelSpec
from tests import virtual_time
from tests.conftest import LAST_GUARD_SECONDS
from tests.workers.backends.calls import TALK, Naming, Saying, call, context
from workers.backends import latency
from workers.backends.latency import LatencyBackend
from workers.core import retry
from workers.models import BoundModel


def options(**given: Any) -> Any:
    return check(LatencyBackend.Options, {"latency_ms": 0, **given}, Origins())


def complete(
    *calls, folder: Path | None = None, executor: Any = "local", **given: Any
) -> list[Any]:
    """What each of `calls`, asked at once, comes to: a Completion or an error."""

    async def ask():
        backend = LatencyBackend(options(**given), context(folder, executor))
        try:
            asked = map(backend.complete, calls)
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert await backend.answered() == len(calls)
            return found
        finally:
            await backend.close()

    return asyncio.run(ask())


def logged(folder: Path) -> list[dict[str, Any]]:
    lines = [line for log in folder.glob("*.jsonl") for line in log.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def is_valid(completion: Completion) -> bool:
    try:
        Naming.model_validate_json(completion.text)
    except ValueError:
        return False
    return True


def test_the_seed_decides_a_valid_reply_and_tokens_are_characters_over_four():
    first, again, other = complete(call(1), call(1), call(2))
    assert first == again != other
    assert is_valid(first)
    assert is_valid(other)
    assert first.finish_reason == "stop"
    assert first.input_tokens == 3  # "Name films." has 11 characters
    assert first.output_tokens == -(-len(first.text) // 4)


def test_replies_take_the_latency_and_do_not_queue(monkeypatch):
    async def ask():
        backend = LatencyBackend(options(latency_ms=200), context())
        await asyncio.gather(*(backend.complete(call(seed)) for seed in range(50)))
        return asyncio.get_running_loop().time()

    monkeypatch.setattr(latency, "time", virtual_time.TIME)
    assert virtual_time.run(ask()) == pytest.approx(0.2)


def test_the_log_holds_every_request_that_was_answered(tmp_path):
    asked = [call(seed, scope=f"u{seed}", turn=2, draw=3, reask=1) for seed in range(40)]
    complete(*asked, asked[0], folder=tmp_path)
    lines = logged(tmp_path)
    assert len(lines) == 41
    assert len({line["request"] for line in lines}) == 40
    line = next(line for line in lines if line["seed"] == 5)
    assert line.pop("arrived") <= line.pop("answered")
    del line["request"]
    assert line == {
        "role": "agent",
        "step": "name_items",
        "scope": "u5",
        "turn": 2,
        "draw": 3,
        "reask": 1,
        "seed": 5,
        "refused": False,
    }


def test_a_log_is_written_before_the_reply_is_given(tmp_path):
    async def ask():
        backend = LatencyBackend(options(), context(tmp_path))
        for seed in range(3):
            await backend.complete(call(seed))
            assert len(logged(tmp_path)) == seed + 1

    asyncio.run(ask())


def test_without_a_log_requests_are_only_counted(tmp_path):
    complete(call(), folder=tmp_path, log=False)
    assert not list(tmp_path.iterdir())


def test_errors_are_a_share_of_requests_and_the_same_in_every_run():
    asked = [call(seed) for seed in range(400)]
    first, again = (complete(*asked, error_rate=0.25) for _ in range(2))
    refused = [isinstance(found, EngineOverloaded) for found in first]
    assert refused == [isinstance(found, EngineOverloaded) for found in again]
    assert 70 <= sum(refused) <= 130


def test_a_retry_may_pass_and_gets_the_reply_that_the_first_try_missed(monkeypatch, tmp_path):
    monkeypatch.setattr(retry, "_WAIT", wait_none())
    given = {"backend": "latency", "latency_ms": 0, "error_rate": 0.5}
    spec = ModelSpec.model_validate(given)
    asked = [call(seed) for seed in range(30)]

    async def ask():
        model = BoundModel("m", spec, context(tmp_path), transient=30)
        try:
            return await asyncio.gather(*map(model.complete, asked))
        finally:
            await model.close()

    found = asyncio.run(ask())
    assert [c.text for c in found] == [c.text for c in complete(*asked)]
    lines = logged(tmp_path)
    assert sum(c.retries for c in found) == sum(line["refused"] for line in lines) > 0
    assert len(lines) == 30 + sum(c.retries for c in found)


def test_invalid_replies_are_a_share_decided_by_the_seed():
    asked = [call(seed) for seed in range(400)]
    first, again = (complete(*asked, invalid_rate=0.25) for _ in range(2))
    assert first == again
    assert 70 <= sum(not is_valid(found) for found in first) <= 130
    assert not any(map(is_valid, complete(*asked, invalid_rate=1)))


def test_a_text_step_gets_plain_text_within_its_bounds():
    asked = [call(seed, step=TALK) for seed in range(200)]
    found = complete(*asked)
    assert found == complete(*asked)
    assert len({c.text for c in found}) > 150
    for completion in found:
        assert Saying(words=completion.text).words == completion.text.strip()
        assert "{" not in completion.text
    assert {c.text for c in complete(*asked, invalid_rate=1)} == {""}


@pytest.mark.parametrize("wrong", [{"latency_ms": -1}, {"error_rate": 2}, {"latency": 5}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(UsageError):
        options(**wrong)


def test_only_what_changes_replies_is_identity():
    assert options(latency_ms=7, log=False).identity() == {}
    assert options(invalid_rate=0.5).identity() == {"invalid_rate": 0.5}


@pytest.fixture
def local_ray():
    from workers.executors.ray_cluster import start_ray, stop_ray

    start_ray(None)
    yield
    stop_ray()


@pytest.mark.ray
def test_one_actor_serves_two_backends_as_the_process_itself_would(
    local_ray, tmp_path, monkeypatch
):
    monkeypatch.setattr(latency, "_IDLE_SECONDS", 4.0)
    asked = [call(seed, prompt=f"Ä{seed}") for seed in range(600)]
    given = options(error_rate=0.1)

    async def ask():
        first, second = (LatencyBackend(given, context(tmp_path, "ray")) for _ in range(2))
        half = await asyncio.gather(*map(first.complete, asked[:300]), return_exceptions=True)
        await first.close()
        rest = await asyncio.gather(*map(second.complete, asked[300:]), return_exceptions=True)
        assert await second.answered() == 600
        assert len(list(tmp_path.iterdir())) == 1
        # Idle for too long: it goes, and the next try starts another.
        async with asyncio.timeout(LAST_GUARD_SECONDS):
            while not second._server._way.result().cause:  # noqa: ASYNC110  (a process ends)
                await asyncio.sleep(0.1)
        with pytest.raises(CrsweepError) as caught:
            await second.complete(asked[0])
        assert caught.value.transient
        assert await second.answered() == 0
        return half + rest

    found = asyncio.run(ask())
    expected = complete(*asked, error_rate=0.1)
    assert [str(f) for f in found] == [str(e) for e in expected]
    assert len(logged(tmp_path)) == 600
