"""What failed, in words, and how it is run again."""

import pytest

from runner.failures import to_run_again
from tests.conftest import ROOT
from tests.runner.reading import raw
from tests.sweep_files import write_sweep
from tests.workers.test_store import episode
from workers.store import BundleWriter

MOODY = """

class Moody(ZeroShot):
    async def respond(self, dialogue, ask):
        from pathlib import Path
        for word in Path(__file__).with_name("mood.txt").read_text().split():
            if word == "crash":
                raise RuntimeError("the agent is in a mood")
            if word == "down":
                from agents.core.errors import EngineRefused
                raise EngineRefused("no such model")
        return await super().respond(dialogue, ask)


__all__ = ["Moody"]
"""


def moody_sweep(folder, **changes):
    """A sweep of 4 episodes, its environment, and the file that decides how its agent fails."""
    package = folder / "my_lab" / "moody"
    (package / "prompts").mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    shipped = ROOT / "agents/zero_shot"
    (package / "__init__.py").write_text((shipped / "__init__.py").read_text() + MOODY)
    for prompt in (shipped / "prompts").iterdir():
        (package / "prompts" / prompt.name).write_text(prompt.read_text())
    grid = {"agent": ["my_lab.moody"], "roles.agent": ["strong"], "seed": [0]}
    return (
        write_sweep(folder, grid=grid, **changes),
        {"PYTHONPATH": str(folder)},
        package / "mood.txt",
    )


def test_failures_that_would_repeat_stand_until_retry_names_their_class_or_blame(tmp_path, crsweep):
    path, env, mood = moody_sweep(tmp_path)
    mood.write_text("crash")
    first = crsweep("run", path, **env).stdout
    assert "4 x AgentError, blame agent; to run them again: " in first
    assert f"run {path} --retry AgentError\n" in first
    assert "RuntimeError: the agent is in a mood" in first
    mood.write_text("")
    second = crsweep("run", path, **env).stdout
    assert "nothing to do: all 4 episodes are settled" in second
    assert "4 x AgentError" in second
    status = crsweep("status", tmp_path / "out").stdout
    assert "to run them again: crsweep run SWEEP --retry AgentError" in status
    assert "for example " in status
    assert "nothing to do" in crsweep("run", path, "--retry", "ReplyInvalid", **env).stdout
    third = crsweep("run", path, "--retry", "agent", **env).stdout
    assert "4 to run" in third
    assert "AgentError" not in third
    rows = raw(tmp_path / "out", "episodes")
    assert sorted(rows.status) == ["done"] * 4 + ["failed"] * 4  # failed attempts are kept
    assert rows.attempt_id.is_unique
    assert "nothing to do" in crsweep("run", path, "--retry", "AgentError", **env).stdout


def test_an_episode_whose_latest_failure_is_of_infrastructure_is_tried_again(tmp_path, crsweep):
    """Its agent had failed before, and was retried: the reader takes the latest failure."""
    path, env, mood = moody_sweep(tmp_path)
    mood.write_text("crash")
    crsweep("run", path, **env)
    mood.write_text("down")
    down = crsweep("run", path, "--retry", "agent", check=3, **env).stdout
    assert "4 x EngineRefused, blame infrastructure; the next run tries them again" in down
    assert "AgentError" not in down
    mood.write_text("")
    assert "4 to run" in crsweep("run", path, **env).stdout


@pytest.mark.parametrize(
    ("word", "near"),
    [("AgentEror", "'AgentError'"), ("agnet", "'agent'"), ("replyinvalid", "'ReplyInvalid'")],
)
def test_an_unknown_class_is_refused_with_a_near_match_and_nothing_is_written(
    tmp_path, crsweep, word, near
):
    refused = crsweep("run", write_sweep(tmp_path), "--retry", word, check=2).stderr
    assert f"--retry {word}: no episode fails of that; did you mean {near}?" in refused
    assert refused.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_a_retry_names_is_the_standing_failure_of_an_episode(tmp_path, crsweep):
    out = tmp_path / "out"
    crsweep("run", write_sweep(tmp_path))
    failed = {"status": "failed", "success": False, "success_turn": None, "error": "x"}
    agent = {**failed, "blame": "agent", "error_class": "AgentError"}
    user = {**failed, "blame": "user", "error_class": "UserError"}
    BundleWriter(out, 2, "w000").write({"episodes": [
        episode(1, **agent), episode(2, **agent), episode(3, **agent),
        episode(4, **user), episode(5, **{**failed, "blame": "infrastructure",
                                          "error_class": "OfAPlugin"}),
    ]})  # fmt: skip
    BundleWriter(out, 3, "w000").write({"episodes": [
        episode(2, attempt_id="e2.3.0"),
        episode(3, **user, attempt_id="e3.3.0"),
    ]})  # fmt: skip
    assert to_run_again(out, []) == {"e5"}
    assert to_run_again(out, ["agent"]) == {"e1", "e5"}
    assert to_run_again(out, ["AgentError"]) == {"e1", "e5"}
    assert to_run_again(out, ["UserError"]) == {"e3", "e4", "e5"}
    assert to_run_again(out, ["user", "agent"]) == {"e1", "e3", "e4", "e5"}
    assert to_run_again(out, ["OfAPlugin"]) == {"e5"}
