"""Engines that die or hang in a run on a real local Ray."""

import psutil
import pytest

from tests.runner.processes import assert_gone, end_of, wait_for
from tests.runner.reading import raw
from tests.runner.vllm.tiny_sweeps import (
    AT_ONCE,
    answered,
    engine_of,
    manifest,
    serving,
    small_sweep,
)

pytestmark = [pytest.mark.vllm, pytest.mark.ray]
CASES = 80
"""More than one replica plays while the other is still loading again on a busy machine."""


def test_a_killed_engine_a_killed_actor_and_an_engine_that_hangs_lose_no_episode(
    tmp_path, models, start
):
    """One run for the three. No call can be there at three deaths: it would be given up."""
    path = small_sweep(tmp_path, models, cases=CASES, replicas=2)
    out = tmp_path / "out"
    run = start(path)
    first, second = serving(run, out, 2)
    orphan = engine_of(run, second)
    engine_of(run, first).kill()
    psutil.Process(second).kill()
    back = serving(run, out, 4)[2:]
    # The calls that were there are answered, since no more than these are in flight at once.
    before = answered(out)
    wait_for(lambda: answered(out) > before + 2 * AT_ONCE, run, "the calls after the first deaths")
    hung = engine_of(run, back[0])
    hung.suspend()
    printed = end_of(run)
    assert run.returncode == 0, printed
    episodes, calls = raw(out, "episodes"), raw(out, "calls")
    assert len(episodes) == CASES
    assert not episodes.episode_id.duplicated().any()
    assert set(episodes.status) == {"done"}
    assert calls.retries.max() >= 1
    [entry] = manifest(out)["engines"]
    assert entry["deaths"] == 3
    hangs = [each.startswith("the engine hangs: no step for ") for each in entry["death_causes"]]
    assert sum(hangs) == 1
    assert entry["seconds_down"] > 0
    assert "3 deaths" in printed
    assert "calls were lost when engines died" in printed
    assert_gone([hung, orphan])
