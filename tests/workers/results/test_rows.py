"""From what happened in an attempt to the rows of `calls`."""

import asyncio
import json
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from agents.core.ask import CallLog
from agents.core.calls import Completion
from agents.core.dialogue import AgentTurn, UserTurn
from agents.core.errors import ReplicaLost
from agents.core.seeds import Seeds
from simulators.core.dialogue import Transcript, Turn
from sweeps.episodes import episode_task
from sweeps.storage.records import CALLS
from tests.fakes import CASE, ITEMS, FakeModel, make_ask
from tests.workers.backends.calls import TALK
from workers.results.rows import EpisodeAttempt, call_rows, turn_rows

BY = {"bundle_id": "b", "driver_epoch": 1}


@pytest.fixture
def rows(tmp_path):
    """Rows of the calls that `talk` makes of an Ask, as they are stored."""
    (tmp_path / "talk.md.j2").write_text("Talk.")

    def of(model, talk):
        journal = CallLog()
        with suppress(ReplicaLost):
            asyncio.run(talk(make_ask(model, tmp_path, journal=journal)))
        task = episode_task("e", 0, Seeds(0, 0, 0), "u1")
        cell: Any = None
        attempt = EpisodeAttempt(task, None, "e.1.0", cell, "s", Transcript(), journal, CASE, 0, 1)
        made = [{**row, **BY} for row in call_rows(attempt)]
        assert all(row.keys() == set(CALLS.names) for row in made)
        return pa.Table.from_pylist(made, schema=CALLS).to_pylist()

    return of


def test_thinking_and_fingerprint_are_stored(rows):
    thought = Completion("hi", "stop", 10, 5, 3, thinking="Hm.", fingerprint="f1")
    [row] = rows(FakeModel(lambda call: thought), lambda ask: ask(TALK))
    assert (row["reply"], row["thinking"], row["fingerprint"]) == ("hi", "Hm.", "f1")


def test_a_failed_call_stores_its_retries(rows):
    lost = ReplicaLost("gone")
    lost.retries = 3
    [row] = rows(FakeModel(lambda call: lost), lambda ask: ask(TALK))
    assert (row["retries"], row["error_class"], row["error"]) == (3, "ReplicaLost", "gone")
    assert row["reply"] is row["thinking"] is row["fingerprint"] is row["finish_reason"] is None


def test_an_embedding_is_a_call_without_a_reply(rows):
    [row] = rows(FakeModel(lambda texts: None), lambda ask: ask.embed(["ab", "c"]))
    assert (row["step"], row["finish_reason"], row["valid"]) == ("embed", "stop", True)
    assert json.loads(row["prompt"]) == ["ab", "c"]
    assert (row["input_tokens"], row["output_tokens"], row["retries"]) == (3, 0, 2)
    assert row["fingerprint"] == "f1"
    assert row["reply"] is None


def test_a_failed_embedding_is_a_failed_call(rows):
    [row] = rows(FakeModel(lambda texts: ReplicaLost("gone")), lambda ask: ask.embed(["ab"]))
    assert (row["step"], row["valid"], row["error_class"]) == ("embed", False, "ReplicaLost")
    assert json.loads(row["prompt"]) == ["ab"]


@pytest.mark.parametrize(
    ("depth", "shown", "stored"), [(0, 2, 2), (3, 2, 3), (2, 3, 3), (99, 2, 5)]
)
def test_a_ranking_is_stored_as_deep_as_it_is_read_or_shown(depth, shown, stored):
    limits = SimpleNamespace(shown_items=shown)
    cell: Any = SimpleNamespace(config=SimpleNamespace(limits=limits))
    task = episode_task("e", 0, Seeds(0, 0, 0), "u1")
    others = [item for item in ITEMS if item not in CASE.hidden.targets][:4]
    ranking = (*others, *CASE.hidden.targets)
    turn = Turn(AgentTurn("a", "recommend", (), ranking), UserTurn("no", "refuse"), None)
    played = Transcript(UserTurn("hi", "answer"), [turn])
    attempt = EpisodeAttempt(
        task, None, "e.1.0", cell, "s", played, CallLog(), CASE, 0, 1, depth=depth
    )
    row = turn_rows(attempt)[1]
    assert row["ranking"] == [item.id for item in ranking[:stored]]
    assert (row["ranked"], row["target_rank"]) == (5, 5)
