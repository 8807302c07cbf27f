"""What a plan is estimated to cost."""

import pytest

from runner.rehearsal.dialogues import artifact_data, artifact_lines, estimate_cost
from tests.runner.driver import test_loops
from tests.sweep_files import plan_of, write_sweep


def test_every_agent_counts_however_the_grid_is_ordered(tmp_path):
    """Sixteen cells of two agents in turn: every second one would be one agent's."""
    agents = ["zero_shot", "macrec"]
    both, *alone = (
        estimate_cost(
            plan_of(
                write_sweep(
                    tmp_path,
                    roles={"user": "strong", "agent": "strong"},
                    grid={
                        "simulator.max_facts": [1, 2, 3, 4, 5, 6, 7, 8],
                        "agent": names,
                        "seed": [0],
                    },
                )
            ),
            1000,
        )
        for names in (agents, agents[:1], agents[1:])
    )
    assert alone[1].spoken.input_tokens > 1.1 * alone[0].spoken.input_tokens
    for name in ("calls", "input_tokens", "output_tokens"):
        mean = sum(getattr(each.spoken, name) for each in alone) / 2
        assert getattr(both.spoken, name) == pytest.approx(mean)
    assert both.rehearsed == 6


def test_dialogues_of_a_training_loop_cost_what_episodes_of_its_agent_cost(tmp_path):
    models = {"m": {"backend": "rules"}}
    plan = plan_of(test_loops.sweep(tmp_path, models=models))
    guess = estimate_cost(plan, 2)  # both episodes
    found = artifact_data(plan, list(plan.artifacts), guess.attempts)
    (loop,) = [one for one in found if one["kind"] == "loop"]
    assert loop["dialogues"] == 16
    for name, count in guess.spoken._asdict().items():
        assert loop[name] == pytest.approx(16 / 2 * count)
    (line,) = [line for line in artifact_lines(found) if line.startswith("loop")]
    assert f"about {loop['calls']:,.0f} calls, " in line
    assert "calls" not in artifact_data(plan, [], guess.attempts)[-1]
