"""CSI with a real vLLM: a model writes the users' profiles, and dialogues are played with them."""

from __future__ import annotations

import pytest

from tests.fixtures_amazon_2023 import rows, write_amazon_2023
from tests.runner.reading import raw

pytestmark = pytest.mark.vllm
USERS = 5


def test_profiles_and_dialogues_of_csuser_are_valid_at_the_first_attempt(
    tmp_path, models, crsweep, monkeypatch
):
    """Random words, but every reply as its schema says. A local run, which needs no Ray."""
    write_amazon_2023(tmp_path / "data" / "amazon-2023", rows(users=30, items=30, each=14))
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    out = tmp_path / "out"
    done = crsweep(
        "run", "sweeps/csi/table3.yaml", "sweeps/csi/tiny.yaml", f"out={out}",
        f"cache.path={tmp_path / 'cache'}", f"artifacts.path={tmp_path / 'artifacts'}",
        *(f"models.{name}.model={models['llama']}" for name in ("llama", "person", "profiler")),
        "grid.agent=[{name: csi, retriever: lexical}]", "limits.max_turns=2",
        "run={executor: local, concurrency: 8}",
    )  # fmt: skip
    assert f"{USERS} episodes (0 failed)" in done.stdout
    [ready] = [line for line in done.stdout.splitlines() if "ready after" in line]
    assert ready.endswith(f" {3 * USERS} calls")  # three for each profile: none was asked again
    episodes, calls = raw(out, "episodes"), raw(out, "calls")
    assert list(episodes.status) == ["done"] * USERS
    assert set(calls.role) == {"user", "agent"}
    assert calls.valid.all()
    assert not calls.reask.any()
    assert set(calls.finish_reason) == {"stop"}
