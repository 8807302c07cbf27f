"""A sweep with a critic through the command line: its rows, tokens, calls, screen and pages."""

import json

from analysis.results import Results
from tests.runner.reading import raw
from tests.sweep_files import write_sweep


def test_a_critic_is_stored_counted_and_shown(tmp_path, crsweep):
    models = {
        "strong": {"backend": "rules", "skill": 0.9, "knowledge": 0.8},
        "slow": {"backend": "latency", "latency_ms": 0, "invalid_rate": 0.7, "log": False},
    }
    path = write_sweep(
        tmp_path,
        models=models,
        roles={"user": "strong", "agent": "strong"},
        grid={"agent": ["zero_shot"], "roles.critic": ["strong", "slow"]},
        critic={"name": "rewarder", "samples": 3, "min_valid": 2},
        success="critic_above",
        metrics=["sr@5"],
    )
    planned = crsweep("plan", path).stdout
    assert "critic" in planned
    assert "8 of 8" not in crsweep("run", path).stdout
    out = tmp_path / "out"
    episodes, turns, calls = raw(out, "episodes"), raw(out, "turns"), raw(out, "calls")
    assert set(episodes.status) == {"done"}
    assert set(episodes.success_rule) == {"critic_above"}
    asked = calls[calls.role == "critic"]
    assert set(asked.step) == {"rate"}
    assert set(asked.draw) == {0, 1, 2}
    spent = asked.groupby("attempt_id")[["input_tokens", "output_tokens"]].sum().sum(axis=1)
    assert (spent.sort_index() == episodes.set_index("attempt_id").critic_tokens.sort_index()).all()
    others = calls[calls.role != "critic"]
    spent = others.groupby("attempt_id")[["input_tokens", "output_tokens"]].sum().sum(axis=1)
    both = episodes.set_index("attempt_id")[["agent_tokens", "user_tokens"]].sum(axis=1)
    assert (spent.sort_index() == both.sort_index()).all()

    played = turns[turns.turn > 0]
    assert turns[turns.turn == 0].critic_extra.isna().all()
    for row in played.itertuples():
        record = json.loads(row.critic_extra)
        assert sum(record["verdicts"]) + record["unparsed"] == 3
        # A pandas frame has NaN for a score that is missing.
        assert (row.critic_score == row.critic_score) is (record["unparsed"] <= 1)
    assert played.critic_score.isna().any()
    assert played.critic_score.notna().any()
    stopped = episodes[episodes.stop_reason == "critic"]
    assert len(stopped) > 0
    last = played.set_index(["attempt_id", "turn"]).critic_score
    for row in stopped.itertuples():
        assert last[row.attempt_id, row.turns] > 0.7
        assert (row.success, row.success_turn) == (True, row.turns)

    results = Results.open(out)
    [[tokens]] = results.query("SELECT sum(critic_tokens) FROM episodes").fetchall()
    assert f"critic {tokens:,}" in crsweep("status", out).stdout
    results.db.close()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["cells"][0]["settings"]["critic"]["samples"] == 3
    assert "simulators.critics.rewarder" in manifest["plugin_sources"]
    page = crsweep("play", path, "--calls", "--markdown", "-").stdout
    assert "critic: 0." in page or "critic: 1." in page
    assert "critic · rate · draw 3" in page
    assert "rewarder · critic · rate · turn 1" in crsweep("render", path).stdout
