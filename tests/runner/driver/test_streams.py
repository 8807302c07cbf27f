"""Streams: equal under any executor, after a kill, and under any hash seed; batches are faster."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from agents.core.seeds import Seeds
from analysis.results import Results
from analysis.statistics.scores import read_scores
from analysis.tables.table import metrics_of
from runner.driver.streams import Streams
from sweeps.storage.folder import folder_at
from sweeps.streams import chain_of
from tests.analysis.viewer.reading import Browser
from tests.runner.processes import kill, run_for_several, wait_for
from tests.runner.reading import outcomes, raw
from tests.sweep_files import plan_of, write_sweep
from workers.results.bundles import read_columns

AGENT = "tests.remembering_agent"
CASES = 16


def sweep(folder, *, cases=CASES, latency=0.0, agent=None, **changes):
    folder.mkdir(exist_ok=True)
    given = {
        "domain": {"name": "synthetic", "items": 80, "users": 60, "history": 4},
        "cases": {"sample": cases},
        "models": {"m": {"backend": "latency", "latency_ms": latency}},
        "roles": {"user": "m", "agent": "m"},
        "limits": {"max_turns": 2, "shown_items": 1},
        "grid": {"agent": [{"name": AGENT, **(agent or {})}], "seeds.sampling": [0]},
        "metrics": ["sr@2"],
        "cache": "off",
        "run": {"executor": "local", "concurrency": 32},
        **changes,
    }
    return write_sweep(folder, **given)


def memories(out):
    """Case -> (digest of the memory, cases that were remembered), of done episodes."""
    episodes, turns = raw(out, "episodes"), raw(out, "turns")
    first = turns[turns.turn == 1].set_index("attempt_id").extra
    return {
        case: (artifacts["memory"], json.loads(first[attempt])["known"])
        for case, artifacts, attempt, status in zip(
            episodes.case_id, episodes.artifacts, episodes.attempt_id, episodes.status, strict=True
        )
        if status == "done"
    }


def order_of(path, *overrides):
    [chain] = plan_of(path, *overrides).chains()
    return [[link.case_id for link in batch] for batch in chain.batches]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fork_server):
    """A stream that was run at once: its sweep file, and its folder. Not to be changed."""
    folder = tmp_path_factory.mktemp("streams") / "whole"
    path = sweep(folder)
    run_for_several(fork_server, path)
    return path, folder / "out"


def test_the_memory_grows_by_a_dialogue_in_the_order_of_the_seed(whole):
    path, out = whole
    found = memories(out)
    order = [case for [case] in order_of(path)]
    assert len(found) == CASES
    for place, case in enumerate(order):
        assert found[case][1] == order[:place]
    assert len({digest for digest, _ in found.values()}) == CASES
    other = order_of(path, "seeds.order=1")
    assert sorted(other) == sorted([case] for case in order) and other != order_of(path)


@pytest.mark.ray
def test_a_stream_is_the_same_on_ray_and_under_another_hash_seed(tmp_path, crsweep, whole):
    run = {"executor": "ray", "episode_workers": 2, "concurrency": 8}
    crsweep("run", sweep(tmp_path / "ray", run=run), PYTHONHASHSEED="77")
    assert outcomes(tmp_path / "ray" / "out") == outcomes(whole[1])
    assert memories(tmp_path / "ray" / "out") == memories(whole[1])


def test_a_stream_is_the_same_after_a_kill(tmp_path, crsweep, start, whole):
    _, out = whole
    killed = sweep(tmp_path / "killed", latency=5.0)
    process = start(killed)

    def begun():
        return len(list((tmp_path / "killed" / "out" / "episodes").glob("*.parquet"))) > 4

    wait_for(begun, process, "a few episodes")
    kill(process)
    assert 0 < len(outcomes(tmp_path / "killed" / "out")) < CASES
    crsweep("run", killed, "--wait-for-lease", "60")
    assert outcomes(tmp_path / "killed" / "out") == outcomes(out)
    assert memories(tmp_path / "killed" / "out") == memories(out)


def test_a_batch_is_played_at_once_and_remembers_whole_batches(tmp_path, crsweep):
    # The agent waits for the rest of its batch: the run would never end if they took turns.
    path = sweep(tmp_path / "a", cases=30, agent={"memory_batch": 10, "together": 10})
    crsweep("run", path)
    order = order_of(path)
    assert [len(each) for each in order] == [10, 10, 10]
    found = memories(tmp_path / "a" / "out")
    before = []
    for cases in order:
        assert all(found[case][1] == before for case in cases)
        before = before + cases


def test_stored_dialogues_of_a_chain_are_read_in_one_pass(tmp_path, crsweep, monkeypatch):
    path, out = sweep(tmp_path / "a", cases=12), tmp_path / "a" / "out"
    crsweep("run", path)
    plan = plan_of(path)
    [chain] = plan.chains()
    done = {link.episode_id for batch in chain.batches for link in batch}
    last = chain.batches[-1][-1].episode_id
    read = []

    def counted(folder, name, columns):
        read.append(name.partition("/")[0])
        return read_columns(folder, name, columns)

    monkeypatch.setattr("workers.results.lessons.read_columns", counted)
    streams = Streams(plan, folder_at(str(out)), 2, done - {last})
    [task] = streams.begin({0})
    assert task.id == last
    assert len(task.spec.memory.entries) == 11
    assert read.count("turns") == len(list((out / "turns").glob("*.parquet")))


def test_a_dialogue_that_the_agent_fails_leaves_nothing_and_the_chain_continues(tmp_path, crsweep):
    path = sweep(tmp_path / "a", cases=6)
    third = order_of(path)[2][0]
    path = sweep(tmp_path / "a", cases=6, agent={"fails": third})
    crsweep("run", path)
    found = memories(tmp_path / "a" / "out")
    assert len(found) == 5 and third not in found
    last = order_of(path)[-1][0]
    assert len(found[last][1]) == 4
    assert "nothing to do" in crsweep("run", path).stdout


def test_infrastructure_that_fails_stops_the_chain_and_the_next_run_continues_it(tmp_path, crsweep):
    retries = {"transient": 0, "episode": 0}

    def stopped_at(rate):
        """A sweep whose calls fail at this rate, and how many of its 8 dialogues are done."""
        model = {"backend": "latency", "latency_ms": 0, "error_rate": rate}
        path = sweep(tmp_path / str(rate), cases=8, models={"m": model}, retries=retries)
        crsweep("run", path, check=None)
        episodes = raw(path.parent / "out", "episodes")
        return path, episodes, int((episodes.status == "done").sum())

    # Which calls fail depends on the prompts: the first rate that stops the chain on its way.
    tried = (stopped_at(rate) for rate in (0.03, 0.01, 0.1, 0.003, 0.3))
    path, episodes, count = next(each for each in tried if 0 < each[2] < 8)
    assert set(episodes[episodes.status == "failed"].blame) == {"infrastructure"}
    done = memories(path.parent / "out")
    order = [case for [case] in order_of(path)]
    assert set(done) == set(order[:count])
    crsweep("run", path, "models.m.error_rate=0")
    assert set(memories(path.parent / "out")) == set(order)


def test_agents_with_and_without_a_memory_are_compared_seed_by_seed(tmp_path, crsweep):
    agents = [{"name": AGENT}, {"name": AGENT, "remembers": False}]
    grid = {"agent": agents, "seed": [0, 1]}
    judge = {
        "name": "pairwise", "pairs": "dialogue", "axis": "agent",
        "baseline": AGENT, "against": [f"{AGENT}(remembers=false)"],
    }  # fmt: skip
    roles = {"user": "m", "agent": "m", "judge": "m"}
    path = sweep(
        tmp_path / "a", cases=4, grid=grid, seeds={"order": "seed"}, judges=[judge], roles=roles
    )
    crsweep("run", path)
    judged = raw(tmp_path / "a" / "out", "judgements")
    assert len(judged.groupby(["episode_id", "other_episode_id"])) == 4 * 2
    results = Results.open(tmp_path / "a" / "out")
    [metric] = metrics_of(results, ["sr@2"])
    scores = read_scores(results, metric)
    assert scores.values.shape == (2, 4, 2)
    assert np.isfinite(scores.values).all()
    orders = results.query("SELECT DISTINCT cell, seed, seed_order FROM episodes ORDER BY ALL")
    assert orders.fetchall() == [(0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 1, 0)]
    [(one, case)] = results.query(
        "SELECT attempt_id, case_id FROM episodes WHERE cell = 0 AND seed = 1 LIMIT 1"
    ).fetchall()
    other = results.query(
        "SELECT attempt_id FROM episodes WHERE cell = 1 AND seed = 1 AND case_id = ?", [case]
    ).fetchall()
    page = Browser(tmp_path / "a" / "out").get("/dialogue", attempt=one)
    assert page.options["b"] == [attempt for (attempt,) in other]


def test_an_order_without_a_memory_is_refused(tmp_path, crsweep):
    path = sweep(tmp_path / "a", agent={"remembers": False})
    said = crsweep("plan", path, "seeds.order=1", check=2).stderr
    assert "no agent of this sweep has a memory across dialogues" in said


def test_a_larger_sample_is_another_chain_but_begins_the_same_where_its_order_does():
    small = chain_of(0, "cell", ["a", "b", "c"], Seeds(0, 0, 0), 1)
    again = chain_of(0, "cell", ["c", "a", "b"], Seeds(0, 0, 0), 1)
    assert small == again
    other = chain_of(0, "cell", ["a", "b", "c"], Seeds(0, 0, 1), 1)
    ids = {link.episode_id for batch in small.batches for link in batch}
    assert ids.isdisjoint(link.episode_id for batch in other.batches for link in batch)
    pairs = chain_of(0, "cell", ["a", "b", "c"], Seeds(0, 0, 0), 2)
    assert [len(batch) for batch in pairs.batches] == [2, 1]


def test_an_offline_memory_is_collected_from_training_users_once(tmp_path, crsweep):
    store: dict[str, Any] = {"artifacts": {"path": str(tmp_path / "store")}}
    path = sweep(tmp_path / "a", cases=3, agent={"collects": 6}, **store)
    planned = crsweep("plan", path).stdout
    assert "rollouts:" in planned
    assert "about 8 dialogues with training users, " in planned
    [collected] = json.loads(crsweep("plan", path, "--json").stdout)["artifacts"]
    crsweep("doctor", path)
    crsweep("run", path)
    assert collected["left_entries"] == collected["rehearsed"] == 4
    assert collected["dialogues"] == 8  # whole batches
    assert collected["calls"] > 8
    [made] = (tmp_path / "store").glob("*/data.json")
    entries = json.loads(made.read_text())["entries"]
    assert len(entries) == 6
    found = memories(tmp_path / "a" / "out")
    assert {tuple(known) for _, known in found.values()} == {tuple(e["case"] for e in entries)}
    assert len({digest for digest, _ in found.values()}) == 1
    assert len(raw(tmp_path / "a" / "out", "episodes")) == 3  # rollouts are not episodes of it
    again = crsweep("run", sweep(tmp_path / "b", cases=3, agent={"collects": 6}, **store)).stdout
    assert "ready after" not in again
    assert outcomes(tmp_path / "b" / "out") == outcomes(tmp_path / "a" / "out")
    many = sweep(tmp_path / "c", cases=3, agent={"collects": 999}, **store)
    assert "training users left 60 entries, expected 999" in crsweep("run", many, check=3).stdout
