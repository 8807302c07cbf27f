"""Bundles: the episodes last, whole files or none, and what a resume makes of them."""

import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.errors import StoreError
from sweeps.storage import parts
from sweeps.storage.folder import LocalFolder
from sweeps.storage.records import SCHEMAS
from workers.results import bundles
from workers.results.bundles import BundleWriter

EPISODE = {
    "episode_id": "e", "attempt_id": "e.1.0", "cell_id": "c", "source_id": "s", "case_id": "u1",
    "seed": 0, "seed_training": 0, "seed_order": 0, "axes": [("agent", "x")], "status": "done",
    "blame": None, "error_class": None, "error": None, "stop_reason": "accepted", "success": True,
    "success_rule": "user_accepts", "success_turn": 1, "accepted_item": "1", "targets": ["1"],
    "turns": 1, "max_turns": 5, "shown_items": 10, "agent_tokens": 1, "user_tokens": 1,
    "probe_tokens": 0, "critic_tokens": 0, "calls": 3, "transcript_hash": "h",
    "started": 0.0, "ended": 1.0, "artifacts": [("tree", "d1")],
}  # fmt: skip
TURN = {
    "attempt_id": "e.1.0", "turn": 1, "action": "ask", "strategy": None, "shown": [],
    "ranking": None, "ranked": None, "target_rank": None, "candidates": None, "agent_text": "a",
    "user_text": "b",
    "user_decision": "answer", "accepted_item": None, "user_leaves": False, "feedback": "{}",
    "extra": "{}", "user_extra": "{}", "critic_score": None, "critic_extra": None,
}  # fmt: skip


def live(folder, table):
    """Paths of the parts that count."""
    return [folder / name for name in parts.live(LocalFolder(folder), table)]


def episode(number: int, **changes):
    return {**EPISODE, "episode_id": f"e{number}", "attempt_id": f"e{number}.1.0", **changes}


def test_rows_come_back_as_they_went_in_with_bundle_and_epoch(tmp_path):
    bundle = BundleWriter(tmp_path, 3, "w000").write({"turns": [TURN], "episodes": [EPISODE]})
    assert bundle == "000003-w000-000001"
    [path] = live(tmp_path, "episodes")
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMAS["episodes"])
    [row] = table.to_pylist()
    assert row == {**EPISODE, "bundle_id": bundle, "driver_epoch": 3}


@settings(max_examples=25)
@given(words=st.text(max_size=40), ids=st.lists(st.text(max_size=5), max_size=4))
def test_any_words_survive_the_store(tmp_path, words, ids):
    words = words.encode("utf-8", "ignore").decode()
    ids = [i.encode("utf-8", "ignore").decode() for i in ids]
    row = {**TURN, "agent_text": words, "ranking": ids}
    bundles.write_part(
        LocalFolder(tmp_path),
        "turns/one.parquet",
        "turns",
        [row],
        {"bundle_id": "b", "driver_epoch": 1},
    )
    [read] = pq.read_table(tmp_path / "turns" / "one.parquet").to_pylist()
    assert (read["agent_text"], read["ranking"]) == (words, ids)


def test_what_is_done_or_would_fail_again_is_committed(tmp_path):
    writer = BundleWriter(tmp_path, 1, "w000")
    failed = {"status": "failed", "success": False, "success_turn": None}
    writer.write({"episodes": [episode(1), episode(2, **failed, blame="agent")]})
    writer.write({"episodes": [episode(3, **failed, blame="infrastructure")]})
    assert bundles.committed(tmp_path) == {"e1", "e2"}
    assert bundles.committed_by(tmp_path, 1, "w000") == {
        "e1.1.0": "done", "e2.1.0": "failed", "e3.1.0": "failed",
    }  # fmt: skip
    assert bundles.committed_by(tmp_path, 2, "w000") == {}


def test_a_part_that_is_half_written_is_no_part(tmp_path):
    BundleWriter(tmp_path, 1, "w000").write({"episodes": [episode(1)]})
    half = tmp_path / "episodes" / ".000001-w000-000002.parquet.tmp"
    half.write_bytes(b"PAR1 half")
    assert bundles.committed(tmp_path) == {"e1"}
    assert LocalFolder(tmp_path).remove_leftovers(SCHEMAS) == 1
    assert not half.exists()


def test_a_truncated_part_is_named(tmp_path):
    BundleWriter(tmp_path, 1, "w000").write({"episodes": [episode(1)]})
    [path] = live(tmp_path, "episodes")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match=rf"{path.name} is not a whole Parquet file"):
        bundles.committed(tmp_path)


def test_a_part_of_another_schema_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.storage.records.SCHEMA_VERSION", 99)
    BundleWriter(tmp_path, 1, "w000").write({"episodes": [episode(1)]})
    monkeypatch.undo()
    with pytest.raises(StoreError, match="schema version 99; this crsweep reads and writes 5"):
        bundles.committed(tmp_path)


def test_a_compacted_file_replaces_the_parts_that_it_names(tmp_path):
    import json

    import pyarrow as pa

    BundleWriter(tmp_path, 1, "w000").write({"episodes": [episode(1)]})
    [old] = live(tmp_path, "episodes")
    table = pq.read_table(old)
    footer = {**(table.schema.metadata or {}), parts.REPLACES.encode(): json.dumps([old.name])}
    new = old.with_name("compact-000001.parquet")
    pq.write_table(pa.table(table).replace_schema_metadata(footer), new)
    assert live(tmp_path, "episodes") == [new]


def test_a_disk_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "episodes").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cannot write"):
        BundleWriter(tmp_path, 1, "w000").write({"episodes": [episode(1)]})


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from tests.workers.results.test_bundles import TURN, episode
from workers.results.bundles import BundleWriter
writer = BundleWriter(Path(sys.argv[1]), 1, "w000")
for n in range(100000):
    row = {**TURN, "attempt_id": f"e{n}.1.0"}
    writer.write({"turns": [row], "episodes": [episode(n)]})
    print(n, flush=True)
"""


def test_after_sigkill_every_committed_episode_has_its_turns(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(25):
        last = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = bundles.committed(tmp_path)
    assert {f"e{n}" for n in range(last + 1)} <= done
    turns = {r["attempt_id"] for p in live(tmp_path, "turns")
             for r in pq.read_table(p).to_pylist()}  # fmt: skip
    assert {f"{e}.1.0" for e in done} <= turns
