"""The learner: it finds what pays, resumes exactly, and refuses what it cannot learn from."""

import random
from itertools import pairwise

import pytest

from agents.core.errors import AgentError
from agents.policies.core.labels import INSPIRED
from agents.policies.core.network import NetworkRef
from agents.policies.core.options import PolicyOptions, RlOptions
from agents.policies.core.recipes import Reinforced, Untrained
from tests.agents.policies.inspired import write_inspired
from tests.bench.scripted_seeker import outcome, train

NETWORK = {"name": "transformer", "width": 8, "heads": 1, "blocks": 1, "context": 32}
NETWORK["vocabulary"] = 0
SETTINGS = {
    "wanted": "Encouragement",
    "turns": 2,
    "dialogues": 640,
    "network": NETWORK,
    "rl": {"lr": 0.03, "reward": "success", "updates": {"every": 16}},
}


def learner(state=None, **rl):
    ref = NetworkRef.model_validate(NETWORK)
    start = Untrained(ref, "inspired")
    *_, first = start.fit(None, 0)
    options = RlOptions.model_validate({"epochs": 1, "dialogues": 5, **rl})
    recipe = Reinforced(ref, "inspired", start, options.settings(), "planner")
    return recipe.learner(first.result, 0, state)


def rollout(seed):
    drawn = random.Random(seed)
    steps = [
        {"state": f"user: {drawn.random()}", "label": drawn.choice(INSPIRED), "reward": reward}
        for reward in (0.25, None, drawn.random())
    ]
    return {"steps": steps, "success": seed % 2 == 0}


def test_it_finds_the_strategy_that_a_scripted_seeker_accepts():
    *_, last = train(SETTINGS, 0.0, 0)
    found = outcome(last, "Encouragement")
    assert found["likeliest"] and found["probability"] > 0.8


def test_a_learner_continues_from_a_state_as_if_it_had_not_stopped():
    whole, states = learner(), []
    for seed in range(5):
        states.append(whole.state())
        whole.update([rollout(seed)])
    for done, state in enumerate(states):
        again = learner(state)
        assert again.done == done
        for seed in range(done, 5):
            again.update([rollout(seed)])
        assert again.result().digest() == whole.result().digest()
    digests = [learner(state).weights().digest() for state in states]
    assert all(a != b for a, b in pairwise(digests))


def test_what_it_measures():
    found = learner().update([rollout(0), rollout(1)])
    rewards = [
        s["reward"] for n in range(2) for s in rollout(n)["steps"] if s["reward"] is not None
    ]
    assert found["reward"] == pytest.approx(sum(rewards) / 4)
    assert found["success"] == 0.5 and found["turns"] == 3
    assert found["entropy"] == pytest.approx(2.639, abs=0.01)  # log 14
    assert sum(v for name, v in found.items() if name.startswith("strategy: ")) == pytest.approx(1)
    unscored = {"steps": [{**rollout(0)["steps"][1]}], "success": False}
    assert "reward" not in learner().update([unscored])


def test_the_rate_decays_and_entropy_alone_moves_weights_too():
    for rl in ({"beta": 0.5}, {"whiten": True}, {"gamma": 0.5}):
        assert learner(**rl).weights().digest() == learner().weights().digest()
        one, other = learner(**rl), learner()
        one.update([rollout(0)])
        other.update([rollout(0)])
        assert one.weights().digest() != other.weights().digest()


def test_without_a_turn_there_is_nothing_to_learn():
    with pytest.raises(AgentError, match="no rollout of update 1 has a turn"):
        learner().update([{"steps": [], "success": False}])


def test_a_reinforced_policy_starts_from_the_fine_tuned_one(tmp_path):
    folder = write_inspired(tmp_path)
    given = {"stage": "rl", "dialogues": str(folder), "network": NETWORK}
    options = PolicyOptions.model_validate(given)
    recipe = options.recipe()
    tuned = PolicyOptions.model_validate({**given, "stage": "sft"}).recipe()
    assert recipe.inputs()["start"].identity() == tuned.identity()
    argmax = PolicyOptions.model_validate({**given, "decoding": "argmax"})
    assert argmax.recipe().identity() == recipe.identity()
    assert argmax.identity() != options.identity()
    assert recipe.options({"planner": given, "x": 1}) == {
        "planner": {**given, "decoding": "sample"},
        "x": 1,
    }
    assert (recipe.updates, recipe.dialogues, recipe.every) == (1000, 1000, 1)
    faster = PolicyOptions.model_validate({**given, "rl": {"updates": {"every": 16}}}).recipe()
    assert faster.updates == 63 and faster.identity() != recipe.identity()
