"""Artifacts that are made from others: order, failures, and what is made again."""

import hashlib
import io
import json
import threading
from collections import Counter

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from agents.core.errors import StoreError
from agents.latentcrs import pipeline
from runner.driver.run import run
from runner.driver.scheduler import LeaseQueue
from sweeps.tasks import Task
from tests.runner.processes import kill, wait_for
from tests.runner.reading import raw
from tests.sweep_files import plan_of, write_sweep
from tests.workers.backends.fake_openai import Answer, FakeOpenAI, refusal
from workers.artifacts.store import ArtifactStore
from workers.backends.rules.backend import RulesBackend
from workers.cache import journal

AGENT = {
    "name": "latentcrs",
    "windows_per_user": 1,
    "validation_users": 5,
    "intents": 4,
    "width": 8,
    "negatives": 16,
    "warm_up_epochs": 2,
    "max_rounds": 1,
}
ON = "on synthetic, seed 0"
TITLES = [
    f"item_knn {ON}",
    f"training windows {ON}",
    f"intent anchors {ON}",
    f"first words of target_item by m {ON}",
    f"embeddings of words of latentcrs by m {ON}",
    f"latentcrs {ON}",
]


def sweep(folder, *agents, **changes):
    folder.mkdir(exist_ok=True)
    given = {
        "domain": {"name": "synthetic", "items": 60, "users": 20},
        "models": {"m": {"backend": "rules"}},
        "roles": {"user": "m", "agent": "m"},
        "grid": {"agent": [{**AGENT, **changed} for changed in agents or ({},)]},
        "cases": {"sample": 3},
        "limits": {"max_turns": 2, "shown_items": 5},
        "artifacts": {"path": str(folder.parent / "store")},
        "run": {"executor": "local"},
        **changes,
    }
    return write_sweep(folder, **given)


def encoder_at(server):
    return {"backend": "openai", "base_url": server.url, "model": "e"}


def made(folder):
    store = ArtifactStore(folder / "store")
    return {
        path.name: store.about(path.name) for path in store.folder.iterdir() if "." not in path.name
    }


def test_inputs_are_made_first_and_shared_and_agents_are_given_what_they_ask_for(tmp_path, crsweep):
    path = sweep(tmp_path / "a", metrics=["sr@1", "recall@7"])
    plan = plan_of(path)
    assert [artifact.title for artifact in plan.artifacts.values()] == TITLES
    assert [a.for_agents for a in plan.artifacts.values()] == [True, *[False] * 4, True]
    said = crsweep("run", path).stdout
    assert "6 of 6 artifacts must be made" in said
    ready = [said.index(f"{title}: ready after") for title in TITLES[3:]]
    assert ready == sorted(ready)
    episodes = raw(tmp_path / "a" / "out", "episodes")
    assert set(episodes.status) == {"done"}
    assert all(set(row) == {"recommender", "em"} for row in episodes["artifacts"])
    assert Counter(about.kind for about in made(tmp_path).values()) == {"fit": 4, "model_calls": 2}
    # Another weight of the losses: the training alone is repeated, and no word is asked for.
    again = json.loads(crsweep("plan", sweep(tmp_path / "b", {"kl_weight": 0.5}), "--json").stdout)
    states = {a["title"]: a["state"] for a in again["artifacts"]}
    assert [title for title in TITLES if states[title] != "ready"] == TITLES[5:]
    # What is made from an artifact that fails fails with it.
    with FakeOpenAI(*[Answer(400, refusal("no embeddings today"))] * 9) as server:
        models = {"m": {"backend": "rules"}, "e": encoder_at(server)}
        roles = {"user": "m", "agent": "m", "agent.encoder": "e"}
        path = sweep(tmp_path / "c", roles=roles, models=models)
        found = crsweep("run", path, check=3).stdout
    assert "2 of 6 artifacts must be made" in found
    assert "no embeddings today" in found
    assert f"latentcrs {ON}: cannot be prepared: embeddings of words" in found
    assert "the dialogues of the 1 cell that needs it are skipped" in found
    assert len(made(tmp_path)) == 6
    # The whole ranking decides the target's rank; as much of it is stored as the metrics read.
    turns = raw(tmp_path / "a" / "out", "turns")
    played = turns[turns.turn > 0]
    assert set(played.ranking.map(len)) == {7}
    assert played.ranked.min() > 7
    assert played.target_rank.max() > 7
    for _, turn in played.iterrows():
        [target] = episodes[episodes.attempt_id == turn.attempt_id].targets.iloc[0]
        assert (target in turn.ranking) == (turn.target_rank <= 7)
    shown = crsweep(
        "table", tmp_path / "a" / "out", "--metric", "recall@7", "--metric", "recall@60"
    )
    found = shown.stdout
    assert "1.000" in found
    assert "recall@60 (3 of 3)" in found
    vectors = [k for k, about in made(tmp_path).items() if "embeddings" in about.title]
    calls = pq.read_table(tmp_path / "store" / vectors[0] / "calls.parquet").to_pylist()
    assert {call["step"] for call in calls} == {"embed"}
    assert "This sentence: '" in calls[0]["prompt"]


def test_plan_estimates_the_calls_of_every_artifact(tmp_path, crsweep):
    planned = json.loads(crsweep("plan", sweep(tmp_path / "a"), "--json").stdout)
    calls = {a["title"].split(" of ")[0]: a.get("calls") for a in planned["artifacts"]}
    assert calls["first words"] == 25
    assert calls["embeddings"] == 2  # of at most 16 texts
    assert not (tmp_path / "store").exists()


def tasks(*names):
    return [Task("artifact", name, 0, None) for name in names]


def test_gates_wait_for_others_and_a_stage_for_late_fits():
    ready: set[str] = set()
    gone: set[str] = set()
    first, second, lost = tasks("first", "second", "lost")
    [episode] = tasks("episode")
    queue = LeaseQueue(
        [iter([episode])],
        0,
        gates=[[second, lost, first]],
        late=[["fit"]],
        waits=lambda task: task is not first and "first" not in ready,
        drops=lambda task: task.id in gone,
    )
    assert queue.lease("w", 5) == [first]
    assert queue.lease("w", 5) == []
    assert queue.nothing_to_lease and queue.only_gates and not queue.finished
    queue._leased["w"].clear()
    ready.add("first")
    gone.add("lost")
    queue.passed("first")
    assert not queue.nothing_to_lease
    assert queue.lease("w", 5) == [second]
    queue._leased["w"].clear()
    queue.passed("second")
    assert queue.lease("w", 5) == []
    assert queue.nothing_to_lease and queue.only_gates
    queue.passed("fit")
    assert queue.lease("w", 5) == [episode]
    queue._leased["w"].clear()
    assert queue.lease("w", 5) == []
    assert queue.finished


class Ends:
    """Ends a run in one of its stages, and counts the calls that were answered in all runs."""

    def __init__(self, monkeypatch):
        self.at = ""
        self.answered = Counter()
        self.stored: list[str] = []
        keep, save_state = ArtifactStore.keep, ArtifactStore.save_state
        complete, embed = RulesBackend.complete, RulesBackend.embed

        def keeping(store, about, *rest):
            self.here(f"before {about.title.partition(' on ')[0]}")
            self.stored.append(about.title)
            return keep(store, about, *rest)

        def saving(store, *state):
            save_state(store, *state)
            self.here("in training")

        async def completing(backend, call):
            self.here("in words", call.step.name == "open", self.count("open") == 7)
            reply = await complete(backend, call)
            self.answered[call.step.name, str(call.messages)] += 1
            return reply

        async def embedding(backend, texts):
            self.here("in embeddings", self.count("embed") == 2)
            vectors = await embed(backend, texts)
            self.answered["embed", str(texts)] += 1
            return vectors

        monkeypatch.setattr(RulesBackend, "cacheable", True)  # as if each answer were paid
        monkeypatch.setattr(ArtifactStore, "keep", keeping)
        monkeypatch.setattr(ArtifactStore, "save_state", saving)
        monkeypatch.setattr(RulesBackend, "complete", completing)
        monkeypatch.setattr(RulesBackend, "embed", embedding)

    def count(self, step):
        return sum(number for (name, _), number in self.answered.items() if name == step)

    def here(self, place, *also):
        if self.at == place and all(also):
            self.at = ""
            raise StoreError(f"ended {place}")


def test_a_run_that_ends_in_each_stage_of_a_training_asks_for_nothing_twice(tmp_path, monkeypatch):
    """One run after the other ends one stage later."""
    monkeypatch.setattr(pipeline, "_CALLS_AT_ONCE", 1)
    monkeypatch.setattr(pipeline, "_EMBEDDINGS_AT_ONCE", 1)
    monkeypatch.setattr(pipeline, "_EMBEDDED_AT_ONCE", 5)
    store = {"path": str(tmp_path / "store"), "state_every": 0}
    path = sweep(tmp_path / "a", artifacts=store, cache={"path": str(tmp_path / "cache")})
    ends = Ends(monkeypatch)
    stages = [
        "before item_knn", "before training windows", "before intent anchors", "in words",
        "before first words of target_item by m", "in embeddings",
        "before embeddings of words of latentcrs by m", "in training", "before latentcrs",
    ]  # fmt: skip
    for stage in stages:
        ends.at = stage
        with pytest.raises(StoreError, match=f"ended {stage}"):
            run(path, [], accept_source_change=False, console=Console(file=io.StringIO()))
    result = run(path, [], accept_source_change=False, console=Console(file=io.StringIO()))
    assert result.left == 0
    assert ends.count("open") == 25 + 3  # examples and dialogues
    assert ends.count("embed") > 5
    assert set(ends.answered.values()) == {1}, ends.answered.most_common(3)
    assert sorted(ends.stored) == sorted(TITLES)


class Encoder(FakeOpenAI):
    """Embeds texts; it answers the `first` requests, and others only once it is `open`."""

    def __init__(self, first):
        super().__init__()
        self.first, self.open = first, threading.Event()
        self.requests: list[str] = []
        self.held: list[str] = []
        self._counting = threading.Lock()

    def answer(self, asked):
        texts = asked.body["input"]
        with self._counting:
            self.requests.append(str(texts))
            is_held = len(self.requests) > self.first and not self.open.is_set()
            if is_held:
                self.held.append(str(texts))
        if is_held:
            self.open.wait()
        rows = [list(hashlib.sha256(text.encode()).digest()[:4]) for text in texts]
        data = [{"index": place, "embedding": row} for place, row in enumerate(rows)]
        return Answer(body={"data": data, "usage": {"prompt_tokens": 1}})


def test_after_sigkill_only_the_embeddings_in_flight_are_asked_for_again(tmp_path, crsweep, start):
    """The server answers five calls and never the next ones: what it answered is kept although
    nothing else ever happens, and the killed run's successor asks for the held ones alone."""
    kept = 5
    with Encoder(kept) as server:
        path = sweep(
            tmp_path / "a",
            {"windows_per_user": 3},
            domain={"name": "synthetic", "items": 60, "users": 240},
            models={
                "m": {"backend": "rules"},
                "e": encoder_at(server),
            },
            roles={"user": "m", "agent": "m", "agent.encoder": "e"},
            cache={"path": str(tmp_path / "cache")},
        )
        out = tmp_path / "a" / "out"

        def journalled():
            return sum(1 for file in journal.files(out) for _ in journal.read(file))

        process = start(path)
        wait_for(lambda: journalled() == kept, process, "the answered calls in the journal")
        at_once = pipeline._EMBEDDINGS_AT_ONCE
        wait_for(lambda: len(server.held) == at_once, process, "calls in flight")
        kill(process)
        answered = [texts for texts in server.requests if texts not in server.held]
        assert len(answered) == kept
        server.open.set()
        crsweep("prepare", path)
    counts = Counter(server.requests)
    assert {texts for texts, count in counts.items() if count > 1} == set(server.held)
    assert all(counts[texts] == 1 for texts in answered)
    assert len(counts) == -(-(3 * 240 + 5) // pipeline._EMBEDDED_AT_ONCE)
