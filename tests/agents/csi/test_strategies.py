"""CSI: fixed strategies, five answers to one context (Figure 8), and what a memory may hold."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from agents.core.sales import Strategy
from runner.rehearsal.dialogues import rehearse
from tests.agents.csi.harness import OPENING, agent_of, answered, offered, prompt, replies
from tests.sweep_files import plan_of, write_sweep

RULES = {"backend": "rules", "skill": 0.3, "knowledge": 1.0}


def plan_with(folder, agents, simulator: Any = "csuser"):
    return plan_of(
        write_sweep(
            folder,
            models={"rules": RULES},
            roles={"user": "rules", "agent": "rules"},
            simulator=simulator,
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


def test_a_key_of_the_memory_holds_nothing_that_the_user_did_not_say(tmp_path):
    simulator = {"name": "csuser", "states_budget": False}
    plan = plan_with(tmp_path, [{"name": "csi", "memory": {"kind": "online"}}], simulator)
    keys = 0
    for attempt in rehearse(plan, [0], 6):
        profile = attempt.case.hidden.profile
        assert profile is not None
        secrets = (profile.general_preference, profile.target_needs, *profile.purchase_reasons)
        for agent, *_ in attempt.transcript.turns:
            if "memory_key" in agent.extra:
                keys += 1
                text = agent.extra["memory_key"]["profile"]
                assert f"{profile.budget.highest:.2f}" not in text
                assert not any(secret in text for secret in secrets)
    assert keys
