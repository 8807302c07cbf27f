"""Rollouts on a worker: training users alone, the weights of the moment, rewards by turn."""

import asyncio
import json

import pytest

from agents.core.ask import CallLog
from agents.core.errors import InternalError
from agents.policies.core.network import NetworkRef
from agents.policies.core.recipes import Untrained
from simulators.domains.synthetic import Synthetic
from sweeps.rollouts import rollouts_of, weights_key
from tests.runner.driver.test_loops import NETWORK, sweep
from tests.sweep_files import plan_of
from workers.artifacts.store import Prepared
from workers.job import job_of
from workers.kinds.loops import RolloutHandler
from workers.resources import Resources
from workers.results.bundles import check_rows

CRITIC = {"name": "rewarder", "samples": 2}


def made(seed):
    *_, last = Untrained(NetworkRef.model_validate(NETWORK), "inspired").fit(None, seed)
    return last.result


def ready(tmp_path, reward="success", **changes):
    """A plan, its loop, and a handler whose worker has weights of seed 0."""
    models = {"m": {"backend": "rules"}}
    roles = {"user": "m", "agent": "m", "critic": "m"}
    path = sweep(tmp_path, rl={"reward": reward}, models=models, roles=roles, **changes)
    plan = plan_of(path)
    [need] = plan.cells[0].needs
    resources = Resources(job_of(plan, probe=False, executor="local", epoch=3, run_id="t"))
    weights = made(0)
    loop = need.key_at(0)
    resources.provide([Prepared(weights_key(loop), weights.digest(), need.recipe, weights)])
    return plan, loop, resources


def play(resources, plan, loop, digest, numbers=range(2)):
    cases = plan.sources[0].domain.case_ids("train")
    tasks = rollouts_of(loop, "planner", 0, 0, cases, 1, numbers, digest)
    handler = RolloutHandler(resources)

    async def all_of_them():
        run = (handler.run(task, CallLog(), lambda done, most: None) for task in tasks)
        return await asyncio.gather(*run, return_exceptions=True)

    return asyncio.run(all_of_them())


def test_only_training_users_are_opened(tmp_path, monkeypatch):
    opened = []
    for method in ("case", "case_ids"):
        real = getattr(Synthetic, method)

        def watched(self, split, *args, real=real):
            opened.append(split)
            return real(self, split, *args)

        monkeypatch.setattr(Synthetic, method, watched)
    plan, loop, resources = ready(tmp_path)
    opened.clear()  # to plan, cases are listed
    attempts = play(resources, plan, loop, made(0).digest())
    assert [attempt.error for attempt in attempts] == [None, None]
    assert set(opened) == {"train"}


def test_a_rollout_is_stored_with_states_labels_and_rewards(tmp_path):
    plan, loop, resources = ready(tmp_path)
    first, _ = play(resources, plan, loop, made(0).digest())
    rows = first.rows()
    for table, found in rows.items():
        check_rows(table, found)
    assert set(rows) == {"calls", "turns", "rollouts"}
    [row] = rows["rollouts"]
    assert (row["loop"], row["round"], row["status"]) == (loop, 1, "done")
    assert row["attempt_id"] == first.task.attempt_id(3)
    steps = json.loads(row["steps"])
    assert first.result == {"steps": steps, "success": row["success"]}
    turns = [turn for turn in rows["turns"] if turn["turn"]]
    assert [step["label"] for step in steps] == [turn["strategy"] for turn in turns]
    assert sum(step["reward"] for step in steps) == row["success"]
    opening = rows["turns"][0]["user_text"]
    assert steps[0]["state"] == f"user: {' '.join(opening.split())}"
    assert all(step["log_probability"] < 0 for step in steps)


def test_rewards_are_the_critics_scores(tmp_path):
    plan, loop, resources = ready(tmp_path, "critic", critic=CRITIC)
    first, _ = play(resources, plan, loop, made(0).digest())
    scores = [turn.critic.score for turn in first.played.transcript.turns]
    assert [step["reward"] for step in first.result["steps"]] == scores
    assert any(score is not None for score in scores)


def test_other_weights_than_the_rollouts_are_refused(tmp_path):
    plan, loop, resources = ready(tmp_path)
    found = play(resources, plan, loop, made(1).digest())
    assert all(isinstance(each, InternalError) for each in found)


@pytest.mark.parametrize("count", [1, 2])
def test_new_weights_replace_those_before(tmp_path, count):
    plan, loop, resources = ready(tmp_path)
    recipe = plan.cells[0].needs[0].recipe
    for seed in range(1, count + 1):
        play(resources, plan, loop, made(seed - 1).digest(), [seed])
        weights = made(seed)
        resources.provide([Prepared(weights_key(loop), weights.digest(), recipe, weights)])
    [found] = play(resources, plan, loop, made(count).digest(), [9])
    decided = [r for r in found.played.journal.records if r.call.step.name == "decide"]
    assert {record.completion.fingerprint for record in decided} == {made(count).digest()}
