"""Policies on a worker: batched, off the event loop, cached by their weights' digest."""

import asyncio
import json
import threading

from agents.core.ask import Ask, CallLog
from agents.core.errors import AgentError
from agents.core.policy import Decision
from agents.core.prompts import PromptFolder
from agents.policies.core.trained import TrainedPolicy
from agents.policies.transformer import TransformerNetwork
from sweeps.episodes import episode_task
from tests.agents.policies.test_transformer import content
from tests.sweep_files import plan_of, write_sweep
from workers.artifacts.store import Prepared
from workers.job import job_of
from workers.kinds.episodes import EpisodeHandler
from workers.policies import MOST_AT_ONCE, ServedPolicy
from workers.resources import Resources
from workers.results.rows import rows_of_calls

STATE = "user: a funny film"


class DictCache:
    """A cache of one process."""

    def __init__(self):
        self.kept = {}

    async def reply(self, key, accepted, make):
        if key not in self.kept:
            self.kept[key] = await make()
            return self.kept[key]
        return self.kept[key]._replace(cached=True)


def trained(seed: int = 0) -> TrainedPolicy:
    made = content(seed)
    return TrainedPolicy(TransformerNetwork(made), ["x", "y", "z"], made, "transformer")


def asking(sampling: int = 0, scope: str = "u1") -> Ask:
    def no_model(role):
        raise AssertionError(role)

    prompts = PromptFolder.__new__(PromptFolder)
    return Ask("agent.planner", scope, sampling, prompts, no_model, CallLog())


def decide(policy, ask, decoding="sample") -> Decision:
    return asyncio.run(ask.decide(policy, STATE, decoding))


def test_a_decision_is_recorded_as_a_call_with_the_digest_of_the_weights():
    policy, ask = ServedPolicy(trained()), asking()
    found = decide(policy, ask)
    [row] = rows_of_calls("a", ask.journal)
    assert json.loads(row["reply"]) == found._asdict()
    assert (row["role"], row["step"], row["model"]) == (
        "agent.planner",
        "decide",
        "policy:transformer",
    )
    assert row["fingerprint"] == found.digest == trained().digest
    assert row["valid"] and row["input_tokens"] == row["output_tokens"] == 0
    assert STATE in row["prompt"]
    assert ask.journal.used["agent.planner"] == 0


def test_draws_are_numbered_within_a_turn_and_follow_the_seed():
    async def several(ask):
        return [await ask.decide(policy, STATE, "sample") for _ in range(30)]

    policy = ServedPolicy(trained())
    first, again, other = (asyncio.run(several(asking(seed))) for seed in (0, 0, 1))
    assert first == again != other
    assert len({each.label for each in first}) > 1


def test_what_is_asked_at_once_is_computed_in_batches_off_the_event_loop(monkeypatch):
    policy, threads, sizes = trained(), [], []
    real = policy.decide

    def watched(states, seeds, decoding):
        threads.append(threading.current_thread())
        sizes.append(len(states))
        return real(states, seeds, decoding)

    monkeypatch.setattr(policy, "decide", watched)

    async def many(count):
        served = ServedPolicy(policy)
        asks = [asking(scope=str(case)) for case in range(count)]
        return await asyncio.gather(*(ask.decide(served, STATE, "sample") for ask in asks))

    found = asyncio.run(many(MOST_AT_ONCE + 6))
    assert sizes == [MOST_AT_ONCE, 6]
    assert threading.main_thread() not in threads
    alone = [decide(ServedPolicy(policy), asking(scope=str(case))) for case in range(3)]
    assert found[:3] == alone


def test_a_cached_decision_of_other_weights_is_never_used():
    """Fails if the digest is dropped from the identity of a policy's calls."""
    cache = DictCache()
    old = decide(ServedPolicy(trained(0), cache), asking())
    new = decide(ServedPolicy(trained(1), cache), asking())
    assert new.digest == trained(1).digest != old.digest
    assert new == decide(ServedPolicy(trained(1)), asking())
    ask = asking()
    assert decide(ServedPolicy(trained(0), cache), ask) == old
    assert ask.journal.records[0].completion.cached
    assert len(cache.kept) == 2


def test_every_decoding_has_calls_of_its_own():
    served = ServedPolicy(trained())
    assert len({served.model(d).identity for d in ("sample", "argmax", "sample_dropout")}) == 3
    assert served.model("argmax").greedy and not served.model("sample").greedy


def test_a_network_that_fails_is_the_agents_fault_and_fails_no_other_call(monkeypatch):
    policy = trained()
    served, real = ServedPolicy(policy), policy.decide

    def broken(states, seeds, decoding):
        if decoding == "argmax":
            raise RuntimeError("no numbers")
        return real(states, seeds, decoding)

    monkeypatch.setattr(policy, "decide", broken)

    async def both():
        return await asyncio.gather(
            asking().decide(served, STATE, "argmax"),
            asking().decide(served, STATE, "sample"),
            return_exceptions=True,
        )

    failed, done = asyncio.run(both())
    assert isinstance(done, Decision)
    assert isinstance(failed, AgentError) and "no numbers" in failed.message
    assert done.label in "xyz"


def test_an_agent_of_an_episode_consults_its_policy(tmp_path):
    grid = {"agent": [{"name": "tests.planned_agent"}], "seed": [0]}
    plan = plan_of(write_sweep(tmp_path, grid=grid, roles={"user": "strong", "agent": "strong"}))
    [artifact] = plan.artifacts.values()
    *_, last = artifact.recipe.fit(None, artifact.seed)
    resources = Resources(job_of(plan, probe=False, executor="local", epoch=0, run_id="t"))
    made = last.result
    resources.provide([Prepared(artifact.key, made.digest(), artifact.recipe, made)])
    case = plan.sources[0].case_id(0)
    task = episode_task("e", 0, plan.cells[0].seeds[0], case)
    attempt = asyncio.run(EpisodeHandler(resources).play(task, CallLog()))
    assert attempt.error is None
    decided = [r for r in attempt.journal.records if r.call.step.name == "decide"]
    labels = [Decision.read(r.completion.text).label for r in decided]
    assert labels == [turn.agent.strategy for turn in attempt.transcript.turns]
    assert {r.completion.fingerprint for r in decided} == {made.digest()}
    assert attempt.artifacts == {"planner": made.digest()}
