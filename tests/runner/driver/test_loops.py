"""Training loops: rollouts and updates, what is missing, and how they resume."""

import asyncio
import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from agents.core.artifacts import Content, LoopRecipe
from agents.core.errors import AgentError
from runner.driver import loops
from runner.driver.loops import Background, Rollouts, RunHooks, TrainingLoop, line_of
from runner.driver.scheduler import LeaseQueue
from sweeps.artifacts import Artifact
from sweeps.rollouts import case_at, rollouts_of
from sweeps.tasks import Outcome
from tests.runner.processes import kill, wait_for
from tests.runner.reading import outcomes, raw
from tests.sweep_files import plan_of, write_sweep
from workers.artifacts.store import About, ArtifactStore

CASES = ["a", "b", "c"]


@dataclass(frozen=True)
class Recipe(LoopRecipe):
    dialogues: int = 7
    every: int = 3
    reward: str = "success"
    option = "planner"

    def identity(self):
        return {}

    def options(self, given):
        return dict(given)

    def learner(self, start, seed, state):
        raise NotImplementedError

    def load(self, content, catalogue):
        return content

    def stand_in(self):
        raise NotImplementedError


class FakeLearner:
    """Weights that count what they learned of, in order."""

    def __init__(self):
        self.value = 0.0
        self.learned = []

    async def begin(self, spec, state):
        if state is not None:
            self.value = float(state.arrays["value"][0])
        return 0 if state is None else state.data["done"]

    async def weights(self):
        return Content({}, {"value": np.array([self.value])})

    async def update(self, rollouts):
        self.learned.append([rollout["name"] for rollout in rollouts])
        for rollout in rollouts:
            self.value = 3 * self.value + rollout["reward"]
        return {"reward": self.value, "strategy: x": 1.0}

    async def state(self):
        return Content({"done": len(self.learned)}, {"value": np.array([self.value])})

    result = weights


@dataclass
class World:
    """Plays what a queue is offered, and remembers what is said."""

    fails: dict = field(default_factory=dict)
    played: list = field(default_factory=list)
    provided: list = field(default_factory=list)
    saved: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    curve: list = field(default_factory=list)
    queue: LeaseQueue = field(default_factory=lambda: LeaseQueue([iter(())], 2))
    rollouts: Rollouts = field(default_factory=Rollouts)

    async def work(self):
        while True:
            for task in self.queue.lease("w", 9):
                self.played.append(task)
                number = len(self.played)
                failed = self.fails.get(number)
                result = {"name": task.id, "reward": task.spec.seeds.sampling % 5, "steps": []}
                status = ("failed", failed, "X", "x") if failed else ("done", None, None, None)
                outcome = Outcome(task, *status, None if failed else result)
                final = self.queue.settle("w", outcome)
                await self.rollouts.received(outcome, final)
            await asyncio.sleep(0)

    def loop(self, **changes):
        async def provide(weights):
            self.provided.append(weights)

        async def save(content, seconds, curve):
            self.saved.append((About(key="k", digest="", arrays=[], curve=list(curve)), content))

        artifact = Artifact("k", "planner", changes.pop("recipe", Recipe()), 0, "loop", (0,))
        hooks = RunHooks(provide, save, lambda *about: self.notes.append(about))
        given = {"state_every": 0.0, **changes}
        return TrainingLoop(
            artifact, 0, CASES, None, self.rollouts, self.queue, hooks, **given
        )  # fmt: skip


def run(world, learner, state=None, stored=None, monkeypatch=None, **changes):
    monkeypatch.setattr(loops, "stored_rollouts", lambda folder, loop: dict(stored or {}))

    async def whole():
        playing = asyncio.create_task(world.work())
        try:
            loop = world.loop(**changes)
            found = await loop.run(learner, None, state)
            world.curve = loop.curve
            return found
        finally:
            playing.cancel()

    return asyncio.run(whole())


def test_each_update_learns_of_its_dialogues_in_order_with_the_weights_before_it(monkeypatch):
    world, learner = World(), FakeLearner()
    run(world, learner, monkeypatch=monkeypatch)
    assert [len(each) for each in learner.learned] == [3, 3, 1]
    assert [task.id for task in world.played] == [name for row in learner.learned for name in row]
    assert [task.spec.update for task in world.played] == [1, 1, 1, 2, 2, 2, 3]
    digests = [each.digest for each in world.provided]
    assert [task.spec.weights for task in world.played[::3]] == digests
    assert {each.key for each in world.provided} == {"k.now"}
    assert len({task.spec.seeds.sampling for task in world.played}) == 7
    assert sorted(task.spec.case_id for task in world.played[:3]) == CASES  # then all again
    assert sorted(task.spec.case_id for task in world.played[3:6]) == CASES
    assert not world.rollouts.held and not world.queue.outstanding()
    assert world.notes[1][:2] == (1, 3) and world.notes[1][2].startswith("reward ")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_resumed_loop_makes_the_same_updates_and_plays_nothing_twice(monkeypatch, after):
    whole, learner = World(), FakeLearner()
    wanted = run(whole, learner, monkeypatch=monkeypatch)
    names = [name for row in learner.learned for name in row]
    results = {
        task.id: {"name": task.id, "reward": task.spec.seeds.sampling % 5, "steps": []}
        for task in whole.played
    }
    # It was killed while the last update's dialogue was played; its state is one of before.
    state = None if after == 0 else whole.saved[after - 1]
    again, other = World(), FakeLearner()
    stored = {name: results[name] for name in names[:5]}
    found = run(again, other, state, stored, monkeypatch=monkeypatch)
    assert found.digest() == wanted.digest()
    assert [task.id for task in again.played] == names[max(5, 3 * after) :]
    assert again.curve == whole.curve


def test_dialogues_of_other_weights_are_not_taken_for_those_of_these():
    def ids(weights):
        return [t.id for t in rollouts_of("k", "planner", 0, 0, CASES, 1, range(4), weights)]

    assert ids("x") == ids("x")
    assert not set(ids("x")) & set(ids("y"))


def test_users_come_in_a_drawn_order_and_all_of_them_before_one_comes_again():
    cases = [str(case) for case in range(20)]
    first = [case_at(cases, 0, number) for number in range(20)]
    second = [case_at(cases, 0, number) for number in range(20, 40)]
    assert sorted(first) == sorted(second) == sorted(cases)
    assert first != second and first != [case_at(cases, 1, number) for number in range(20)]


def test_a_failure_is_a_missing_rollout_and_infrastructure_is_retried(monkeypatch):
    world, learner = World(fails={1: "agent", 3: "infrastructure"}), FakeLearner()
    run(world, learner, monkeypatch=monkeypatch)
    assert [len(each) for each in learner.learned] == [2, 3, 1]
    assert len(world.played) == 8  # one was tried again
    assert "1 missing" in world.notes[1][2]


def test_an_update_without_any_rollout_ends_the_loop(monkeypatch):
    world = World(fails=dict.fromkeys(range(1, 10), "infrastructure"))
    with pytest.raises(AgentError, match="all 3 rollouts of update 1 failed"):
        run(world, FakeLearner(), monkeypatch=monkeypatch)
    assert not world.rollouts.held


def test_states_are_saved_no_more_often_than_asked_for(monkeypatch):
    world = World()
    run(world, FakeLearner(), monkeypatch=monkeypatch, state_every=1e9)
    assert world.saved == []


def test_the_largest_shares_of_strategies_are_on_the_screen():
    shares = {"strategy: a": 0.1, "strategy: b b": 0.5, "strategy: c": 0.2, "strategy: d": 0.2}
    assert line_of({"reward": 0.5, **shares, "strategy: e": 0.0}, 2) == (
        "reward 0.500, 2 missing, strategy b b 0.50, c 0.20, d 0.20"
    )
    assert line_of({"reward": 0.5, "strategy: x": 0.0}, 0) == "reward 0.500"


def test_what_runs_aside_ends_with_the_first_that_fails():
    ended = []

    async def waits():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waits")

    async def fails():
        raise AgentError("no")

    async def both():
        aside = Background()
        aside.start(waits())
        aside.start(fails())
        await aside.until_one_fails()

    with pytest.raises(AgentError):
        asyncio.run(both())
    assert ended == ["waits"]


NETWORK = {"name": "transformer", "width": 8, "blocks": 1, "context": 32}
RL = {"epochs": 2, "dialogues": 8, "lr": 0.05, "reward": "success", "updates": {"every": 4}}


def sweep(folder, *, latency=0.0, rl=None, **changes):
    folder.mkdir(exist_ok=True)
    planner = {"stage": "rl", "warm_up": False, "network": NETWORK, "rl": {**RL, **(rl or {})}}
    agent = {"name": "tests.planned_agent", "silent": False, "planner": planner}
    given = {
        "domain": {"name": "synthetic", "items": 80, "users": 12, "history": 4},
        "cases": {"sample": 2},
        "models": {"m": {"backend": "latency", "latency_ms": latency}},
        "roles": {"user": "m", "agent": "m"},
        "limits": {"max_turns": 2, "shown_items": 1},
        "grid": {"agent": [agent], "seed": [0]},
        "metrics": ["sr@2"],
        "cache": {"path": str(folder / "cache")},
        "artifacts": {"path": str(folder / "artifacts"), "state_every": 0.01},
        "run": {"executor": "local", "concurrency": 8},
        **changes,
    }
    return write_sweep(folder, **given)


def trained(folder):
    """The artifact of the loop in the store of a sweep's folder."""
    [artifact] = [
        artifact
        for artifact in plan_of(folder / "sweep.yaml").artifacts.values()
        if isinstance(artifact.recipe, LoopRecipe)
    ]
    return ArtifactStore(folder / "artifacts").find(artifact.key)


def rollouts(out):
    """Rollout id -> what it came to; each is done exactly once."""
    rows = raw(out, "rollouts")
    assert set(rows.status) == {"done"} and not rows.rollout_id.duplicated().any()
    return {row.rollout_id: (row.round, row.weights, row.steps) for row in rows.itertuples()}


def test_a_loop_that_is_killed_twice_comes_to_the_same_weights(tmp_path, crsweep, start):
    sweep(tmp_path / "whole")
    crsweep("run", tmp_path / "whole" / "sweep.yaml")
    out = tmp_path / "whole" / "out"
    about, content = trained(tmp_path / "whole")
    played = rollouts(out)
    assert sorted(r for r, _, _ in played.values()) == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert len({weights for _, weights, _ in played.values()}) == 4
    measured = {point.series for point in about.curve}
    assert {"reward", "return", "entropy", "success", "strategy: Credibility"} <= measured
    assert {point.step for point in about.curve} == {1, 2, 3, 4}
    # Metrics see the episodes alone, and those have the trained weights.
    episodes = raw(out, "episodes")
    assert len(episodes) == 2
    assert set(episodes.artifacts.map(lambda found: found["planner"])) == {about.digest}
    users = set(plan_of(tmp_path / "whole" / "sweep.yaml").sources[0].domain.case_ids("train"))
    assert set(raw(out, "rollouts").case_id) <= users
    # Each decision says whose weights it is of.
    calls = raw(out, "calls").merge(raw(out, "rollouts")[["attempt_id", "weights"]])
    decided = calls[calls.step == "decide"]
    weights = decided.weights.tolist()
    assert len(weights) and decided.fingerprint.tolist() == weights
    assert [json.loads(reply)["digest"] for reply in decided.reply] == weights

    path = sweep(tmp_path / "killed", latency=30.0)
    killed = tmp_path / "killed" / "out"
    for parts in (1, 3):
        process = start(path, "--wait-for-lease", "60")
        wait_for(
            lambda parts=parts: len(list((killed / "rollouts").glob("*.parquet"))) >= parts,
            process,
            "rollouts",
        )
        kill(process)
    assert trained(tmp_path / "killed") is None
    crsweep("run", path, "--wait-for-lease", "60")
    assert trained(tmp_path / "killed")[1].digest() == content.digest()
    assert trained(tmp_path / "killed")[0].curve == about.curve
    assert rollouts(killed) == played
    paid = raw(killed, "calls").query("not cached").request_key
    assert not paid.duplicated().any()
    assert outcomes(killed) == outcomes(out)
