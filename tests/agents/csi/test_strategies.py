"""CSI: fixed strategies, and five answers to one context (Figure 8)."""

from __future__ import annotations

from typing import get_args

import pytest

from agents.core.sales import Strategy
from runner.rehearsal.dialogues import rehearse
from tests.agents.csi.harness import OPENING, agent_of, answered, offered, prompt, replies
from tests.sweep_files import plan_of, write_sweep

RULES = {"backend": "rules", "skill": 0.3, "knowledge": 1.0}


def plan_with(folder, agents):
    return plan_of(
        write_sweep(
            folder,
            models={"rules": RULES},
            roles={"user": "rules", "agent": "rules"},
            simulator="csuser",
            grid={"agent": agents},
            cases={"sample": 6},
            limits={"max_turns": 6, "shown_items": 3, "episode_tokens": 10**6},
        )
    )


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_a_fixed_strategy_is_the_only_one_that_the_prompt_knows(strategy):
    agent = agent_of(strategy=strategy)
    answered(agent, replies("item_suggestion"))
    given = {**replies("persuasion"), "sell_by": {"sentence": "Buy it."}}
    turn, calls = answered(agent, given, OPENING, *offered(0, 1))
    words = prompt(calls, "sell_by")
    assert (turn.strategy, turn.text) == (strategy, "Buy it.")
    assert f'"{strategy}"' in words
    assert not any(f'"{other}"' in words for other in get_args(Strategy) if other != strategy)


def test_strategies_answer_the_same_context_up_to_the_first_persuasion(tmp_path):
    plan = plan_with(tmp_path, [{"name": "csi", "strategy": s} for s in get_args(Strategy)])
    contexts: dict[str, set[str]] = {}
    for attempt in rehearse(plan, range(5), 6):
        said = [attempt.transcript.opening.text] if attempt.transcript.opening else []
        for agent, user, _ in attempt.transcript.turns:
            if agent.action == "persuade":
                key = attempt.case.visible.case_id
                contexts.setdefault(key, set()).add("\n".join([*said, str(agent.shown)]))
                break
            said += [agent.text, user.text]
    assert contexts
    assert {len(found) for found in contexts.values()} == {1}
