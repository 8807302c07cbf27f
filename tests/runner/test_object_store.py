"""Sweeps on an object store, through the command line and a real S3 server."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import uuid
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

import analysis
from agents.core.errors import UsageError
from analysis.results import Results
from sweeps.storage.folder import Folder, folder_at, read, write
from sweeps.storage.records import SCHEMAS
from tests.analysis.builder import Built, grid_of
from tests.conftest import LAST_GUARD_SECONDS, ROOT
from tests.object_store import BUCKET, s3_server
from tests.runner.driver.test_run import AWAKE, half_asleep
from tests.runner.processes import end_of, wait_for
from tests.runner.reading import outcomes, prompts, words
from tests.sweep_files import write_sweep
from workers.cache import journal
from workers.results import lease
from workers.results.lease import FolderLease


@pytest.fixture(scope="module")
def server():
    with s3_server() as env:
        yield env


@pytest.fixture
def at(server, monkeypatch, request):
    """The URI of a folder of this test's own."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/tests/{request.node.name}"


def fetched(uri: str, to: Path) -> Path:
    """A copy of the folder on this machine."""
    folder = folder_at(uri)
    for table in SCHEMAS:
        for name in folder.names(table):
            (to / table).mkdir(parents=True, exist_ok=True)
            (to / table / name).write_bytes(read(folder, f"{table}/{name}"))
    return to


def parts_of(folder: Folder) -> dict[str, int]:
    counts = {table: len(folder.names(table)) for table in SCHEMAS}
    return {table: count for table, count in counts.items() if count}


def test_the_characters_of_a_prefix_mean_themselves(tmp_path, at):
    def stored(name: str, success_turn: int | None) -> str:
        built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0"])
        built.episode(built.cells[0], "u0", 0, success_turn=success_turn)
        source = built.write(tmp_path / str(len(list(tmp_path.iterdir()))), parts=1)
        folder = folder_at(f"{at}/{name}")
        for path in source.rglob("*.*"):
            write(folder, path.relative_to(source).as_posix(), path.read_bytes())
        return f"{at}/{name}"

    for decoy in ("ab", "a"):
        stored(decoy, None)
    for name in ("a[b]", "a?b", "a*", "it's 50% of a%20b, é#+&~"):
        results = Results.open(stored(name, 1))
        assert results.select("select success_turn from attempts")[1] == [("1",)], name


def test_a_sweep_runs_is_read_and_resumed_as_in_a_local_folder(
    tmp_path, crsweep, at, server, ran_once
):
    local = ran_once.out
    path = write_sweep(tmp_path, out=at)
    first = crsweep("run", path)
    assert f"results: {at}" in first.stdout
    copy = fetched(at, tmp_path / "copy")
    for reading in (outcomes, words, prompts):
        assert reading(copy) == reading(local)
    assert parts_of(folder_at(at)) == {"cases": 1, "calls": 1, "turns": 1, "episodes": 1}
    for command, *rest in (
        ("table", "--format", "csv", "--metric", "sr@5", "--metric", "dsr_pooled@5"),
        ("sql", "select cell_id, seed, count(*), sum(turns), (select sum(length(prompt)) "
                "from calls) from episodes group by all order by all", "--format", "csv"),
    ):  # fmt: skip
        there = crsweep(command, at, *rest).stdout
        assert there == crsweep(command, local, *rest).stdout
    assert "32 of 32 episodes done" in crsweep("status", at).stdout
    assert "an object store" in crsweep("doctor", path).stdout
    assert "nothing to do: all 32 episodes are settled" in crsweep("run", path).stdout
    logs = ROOT / "logs" / BUCKET / "tests"
    written = [*(p for p in logs.rglob("*") if p.is_file()), *copy.rglob("*.parquet")]
    texts = [p.read_bytes() for p in written]
    texts += [read(folder_at(at), n) for n in ("manifest.json", "sweep.yaml", "lease.json")]
    assert not [t for t in texts if server["AWS_SECRET_ACCESS_KEY"].encode() in t]


def test_after_sigkill_the_same_command_completes_and_a_second_driver_is_refused(
    tmp_path, crsweep, at, start
):
    run = {"executor": "local", "concurrency": 24}
    path = half_asleep(tmp_path, out=at, cases={"sample": 6}, run=run)
    process = start(path)
    wait_for(lambda: folder_at(at).names("episodes"), process, "a commit")
    refused = crsweep("run", path, check=2)
    assert f"{at} is in use by another driver: host {os.uname().nodename}" in refused.stderr
    assert f"pid {process.pid}" in refused.stderr
    process.kill()
    process.communicate()
    before = outcomes(fetched(at, tmp_path / "before")).keys()
    assert 0 < len(before) <= 24
    resumed = crsweep("run", path, AWAKE)
    assert f"48 episodes, {len(before)} done" in resumed.stdout
    assert len(outcomes(fetched(at, tmp_path / "after"))) == 48


def requests_in(logs: Path) -> Counter[str]:
    """Requests that the model's server was sent, by its own log."""
    found = [path.read_text().splitlines() for path in logs.glob("latency-*.jsonl")]
    # The last line of a process that was killed may be cut off.
    return Counter(json.loads(x)["request"] for y in found for x in y if x.endswith("}"))


def test_after_sigkill_no_completed_call_is_paid_for_twice_from_the_same_working_folder(
    tmp_path, crsweep, at, start
):
    at = f"{at}-{uuid.uuid4().hex}"  # no run before it has left a journal there
    logs = ROOT / "logs" / BUCKET / "tests" / at.rpartition("/")[2]
    asked = partial(requests_in, logs)
    try:
        path = write_sweep(
            tmp_path, out=at, cases={"sample": 6}, roles={"user": "m", "agent": "m"},
            models={"m": {"backend": "latency", "latency_ms": 300}}, cache="off",
            grid={"agent": ["zero_shot"], "seed": [0, 1]},
        )  # fmt: skip
        process = start(path)
        wait_for(lambda: asked().total() >= 20, process, "calls")
        process.kill()
        said, _ = process.communicate()
        assert f"completed calls are in {logs / journal.FOLDER} until the sweep is complete" in said
        kept = {key for file in journal.files(logs) for key, _ in journal.read(file)}
        before = asked()
        resumed = crsweep("run", path, "models.m.latency_ms=0")
        assert f"completed calls are in {logs / journal.FOLDER}" in resumed.stdout
        again = asked().total() - len(asked())
        assert again == len(before) - len(kept) <= 4  # dialogues at once
        assert len(outcomes(fetched(at, tmp_path / "after"))) == 12
        assert not journal.files(logs)
    finally:
        shutil.rmtree(logs)


def test_with_a_journal_elsewhere_another_machine_resumes_without_paying_twice(
    tmp_path, crsweep, at, start
):
    """The working folder of the first machine, and all that is in it, is gone."""
    at = f"{at}-{uuid.uuid4().hex}"
    logs = ROOT / "logs" / BUCKET / "tests" / at.rpartition("/")[2]
    shared = tmp_path / "shared"
    asked = partial(requests_in, logs)
    try:
        path = write_sweep(
            tmp_path, out=at, cases={"sample": 6}, roles={"user": "m", "agent": "m"},
            models={"m": {"backend": "latency", "latency_ms": 300}},
            cache={"mode": "off", "journal": str(shared)},
            grid={"agent": ["zero_shot"], "seed": [0, 1]},
        )  # fmt: skip
        process = start(path)
        wait_for(lambda: asked().total() >= 20, process, "calls")
        process.kill()
        said, _ = process.communicate()
        assert f"completed calls are in {shared}" in said
        [place] = shared.iterdir()
        kept = {key for file in journal.files(place) for key, _ in journal.read(file)}
        before = asked()
        shutil.rmtree(logs)
        crsweep("run", path, "models.m.latency_ms=0")
        again = (before & asked()).total()
        assert again == len(before) - len(kept) <= 4  # dialogues at once
        assert not journal.files(place)
    finally:
        shutil.rmtree(logs)


def test_a_store_that_fails_during_a_run_is_named_with_what_it_said(tmp_path, monkeypatch, start):
    out = f"s3://{BUCKET}/tests/failing"
    model = {"backend": "latency", "latency_ms": 200, "log": False}
    run = {"executor": "local", "concurrency": 8}
    with s3_server() as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        path = write_sweep(
            tmp_path, out=out, models={"strong": model, "weak": model}, cache="off",
            cases={"sample": 40}, run=run,
        )  # fmt: skip
        process = start(path)
        wait_for(lambda: folder_at(out).names("episodes"), process, "a commit")
    said = end_of(process)
    assert process.returncode == 3, said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    # The driver renews its lease meanwhile: what fails first is a bundle's write or that.
    assert f"write {out}" in line or f"read {out}" in line
    assert "tests/failing/" in line.partition(out)[2]  # the object
    assert "Could not connect to server" in line
    assert f"to resume: {sys.executable} -m runner run {path}" in said
    assert "Traceback" not in said


def test_of_many_drivers_at_once_one_gets_the_lease(at):
    taken: list[FolderLease] = []
    refused: list[str] = []
    barrier = threading.Barrier(6)

    def take() -> None:
        barrier.wait()
        try:
            taken.append(FolderLease.take(folder_at(at)))
        except UsageError as error:
            refused.append(error.message)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    assert len(refused) == 5
    assert all("in use by another driver" in message for message in refused)
    taken[0].release()
    after = FolderLease.take(folder_at(at))
    assert after.epoch == 2
    after.release()


def test_a_driver_whose_lease_was_taken_over_learns_it(at, monkeypatch):
    monkeypatch.setattr(lease, "_HEARTBEAT", 0.05)
    folder = folder_at(at)
    taken = FolderLease.take(folder)
    stopped = threading.Event()
    taken.when_lost = stopped.set
    other = {**json.loads(read(folder, "lease.json")), "epoch": 9, "host": "elsewhere"}
    folder.update("lease.json", lambda _: json.dumps(other).encode())
    assert taken.lost.wait(LAST_GUARD_SECONDS)
    assert stopped.wait(LAST_GUARD_SECONDS)
    taken.release()
    assert json.loads(read(folder, "lease.json")) == other


def test_a_change_that_another_came_before_is_made_again(at):
    folder = folder_at(at)
    seen = []

    def change(content: bytes | None) -> bytes:
        seen.append(content)
        if len(seen) == 1:
            write(folder, "counter", b"theirs")
        return (content or b"") + b"+ours"

    folder.update("counter", change)
    assert seen == [None, b"theirs"]
    assert read(folder, "counter") == b"theirs+ours"


def test_what_is_wrong_with_an_object_store_is_one_clear_line(tmp_path, crsweep, at, server):
    for out, found in (
        ("s3://no-such-bucket/x", "the output folder s3://no-such-bucket/x cannot be written"),
        ("s3://onlyabucket", "expected s3://bucket/prefix, found s3://onlyabucket"),
        ("gs://a/b", "expected a local path, file:// or s3://, found gs://"),
    ):
        refused = crsweep("run", write_sweep(tmp_path, out=out), check=2)
        assert found in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert "contains no sweep" in crsweep("table", at, check=2).stderr


def test_frames_are_read_from_an_object_store(tmp_path, at):
    built = Built(grid_of("a", backbones=["s", "w"]), seeds=[0, 1], case_ids=["u0", "u1"])
    for cell in built.cells:
        for case_id in built.case_ids:
            for seed in built.seeds:
                built.episode(cell, case_id, seed, success_turn=1 if "s" in cell.cell_id else None)
    source = built.write(tmp_path / "local", parts=1)
    for path in source.rglob("*.*"):
        write(folder_at(at), path.relative_to(source).as_posix(), path.read_bytes())
    results = analysis.open(at)
    assert results.episodes("success").seed.tolist() == [0, 1, 0, 1]
    assert results.turns().user_text.tolist() == ["u"] * 8
    assert results.table("sr@5")["mean"].tolist() == [1, 0]
    assert results.compare("roles.agent").difference.tolist() == [1]
