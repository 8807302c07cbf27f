"""Engines that die or hang in a run on a real local Ray."""

import psutil
import pytest

from tests.runner.processes import assert_gone, end_of, wait_for
from tests.runner.reading import raw
from tests.runner.vllm.tiny_sweeps import (
    engine_of,
    manifest,
    ready,
    small_sweep,
    tiny,
    wait_for_calls,
)

pytestmark = [pytest.mark.vllm, pytest.mark.ray]
CASES = 80


def fingerprints(out):
    """By model, of engines that the manifest lists."""
    listed = manifest(out).get("engines", [])
    return {each["label"]: each["fingerprints"] for each in listed if each["fingerprints"]}


def test_a_killed_engine_a_killed_actor_and_an_engine_that_hangs_lose_no_episode(
    tmp_path, models, start, sockets
):
    """One run for the three. Two in the engine of the agent and one in that of the user, since a
    call that is there at three deaths of its engine is rightly given up."""
    path = small_sweep(
        tmp_path,
        models,
        cases=CASES,
        models={name: tiny(models, name) for name in ("llama", "qwen")},
        roles={"agent": "llama", "user": "qwen"},
    )
    out = tmp_path / "out"
    run = start(path)
    agent, user = (ready(run, out, name) for name in ("llama", "qwen"))
    wait_for_calls(run, out)
    # A driver that was killed now could not say later what had served its calls.
    wait_for(lambda: fingerprints(out).keys() == {"llama", "qwen"}, run, "what serves the calls")
    orphan = engine_of(run, user)
    engine_of(run, agent).kill()
    psutil.Process(user).kill()
    agent, _ = (ready(run, out, name, times=2) for name in ("llama", "qwen"))
    wait_for_calls(run, out)
    hung = engine_of(run, agent)
    hung.suspend()
    printed = end_of(run)
    assert run.returncode == 0, printed
    episodes, calls = raw(out, "episodes"), raw(out, "calls")
    assert len(episodes) == CASES
    assert not episodes.episode_id.duplicated().any()
    assert set(episodes.status) == {"done"}
    assert calls.retries.max() >= 1
    engines = {each["label"]: each for each in manifest(out)["engines"]}
    assert {name: each["deaths"] for name, each in engines.items()} == {"llama": 2, "qwen": 1}
    hangs = [
        each.startswith("the engine hangs: no step for ")
        for each in engines["llama"]["death_causes"]
    ]
    assert sum(hangs) == 1
    assert all(each["seconds_down"] > 0 for each in engines.values())
    assert "2 deaths" in printed
    assert "lost when engines died, and retried: " in printed
    assert set(calls.fingerprint) == {one for each in fingerprints(out).values() for one in each}
    assert_gone([hung, orphan])
    assert list(sockets.iterdir()) == []
