"""What can be wrong with a folder: found, named, and survived."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeps.storage import parts
from sweeps.storage.folder import LocalFolder
from tests.conftest import LAST_GUARD_SECONDS, ROOT
from tests.runner.reading import outcomes, prompts, words
from tests.sweep_files import write_sweep


@pytest.fixture
def ran(ran):
    """A sweep file, its folder after a run, and what came of it."""
    path, out, _ = ran
    return path, out, [read(out) for read in (outcomes, words, prompts)]


def truncate(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-9])


def empty(part: Path) -> None:
    part.write_bytes(b"")


def cut_in_half(part: Path) -> None:
    content = part.read_bytes()
    part.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("table", "harm"),
    [
        ("episodes", truncate),
        ("turns", cut_in_half),
        ("turns", empty),
        ("calls", truncate),
        ("cases", empty),
    ],
)
def test_a_damaged_part_is_named_set_aside_and_run_again(ran, crsweep, table, harm):
    path, out, before = ran
    part = next((out / table).glob("*.parquet"))
    harm(part)
    readers = {
        "episodes": [("table", out), ("status", out), ("plan", path)],
        "turns": [("table", out, "--metric", "dsr_pooled@5"), ("sql", out, "from turns")],
        "calls": [("sql", out, "from calls")],
        "cases": [("table", out)],
    }
    for words_ in readers[table]:
        refused = crsweep(*words_, check=2)
        assert f"{table}/{part.name}" in refused.stderr
        assert refused.stderr.count("\n") == 1
    repaired = crsweep("run", path)
    assert f"{part} is damaged; renamed it to" in repaired.stdout
    again = {"episodes": "what it committed is run again", "cases": "is written again"}
    heard = again.get(table, "32 attempts lost turns or calls; their episodes are run again")
    assert heard in repaired.stdout
    assert part.with_name(part.name + parts.DAMAGED).exists()
    assert ("32 to run" if table != "cases" else "nothing to do") in repaired.stdout
    assert [read(out) for read in (outcomes, words, prompts)] == before
    again = crsweep("run", path)
    assert "nothing to do" in again.stdout
    assert "is damaged" not in again.stdout


def flip(part: Path, column: str, *, first: bool = False) -> None:
    """Turns 4 bytes over in the last page of one column, or the first; footer and length stay."""
    group = pq.read_metadata(part).row_group(0)
    chunks = [group.column(index) for index in range(group.num_columns)]
    (chunk,) = [c for c in chunks if c.path_in_schema == column]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    begin = start if first else start + chunk.total_compressed_size - 8
    content = bytearray(part.read_bytes())
    for position in range(begin, begin + 4):
        content[position] ^= 0xFF
    part.write_bytes(content)


@pytest.mark.parametrize(
    ("table", "column", "left"),
    [
        ("episodes", "episode_id", 32),
        ("episodes", "status", 32),
        ("turns", "attempt_id", 32),
        ("calls", "attempt_id", 32),
        ("cases", "case_id", 0),
    ],
)
def test_flipped_bytes_where_a_run_reads_are_set_aside_and_run_again(
    ran, crsweep, table, column, left
):
    path, out, before = ran
    part = next((out / table).glob("*.parquet"))
    flip(part, column)
    repaired = crsweep("run", path)
    assert f"{part} is damaged; " in repaired.stdout
    assert part.with_name(part.name + parts.DAMAGED).exists()
    assert (f"{left} to run" if left else "nothing to do") in repaired.stdout
    assert [read(out) for read in (outcomes, words, prompts)] == before
    again = crsweep("run", path)
    assert "nothing to do" in again.stdout
    assert "is damaged" not in again.stdout


@pytest.mark.parametrize(
    ("table", "column"), [("turns", "user_text"), ("calls", "prompt"), ("episodes", "axes.key")]
)
def test_flipped_bytes_are_found_when_parts_are_merged_and_their_episodes_run_again(
    ran, crsweep, table, column
):
    path, out, before = ran
    part = next((out / table).glob("*.parquet"))
    path_in_file = "axes.key_value.key" if column == "axes.key" else column
    flip(part, path_in_file)
    grown = ("run", path, "cases.sample=5")
    stopped = crsweep(*grown, check=3)
    assert f"{part} is damaged; " in stopped.stdout
    assert part.with_name(part.name + parts.DAMAGED).exists()
    assert "32 of 40 episodes" in stopped.stdout + stopped.stderr
    assert "8 done, 32 to run" in crsweep(*grown).stdout
    assert before[0].items() <= outcomes(out).items()
    assert len(outcomes(out)) == 40
    assert "nothing to do" in crsweep(*grown).stdout


def test_flipped_bytes_where_only_readers_look_are_named_with_the_way_out(ran, crsweep):
    path, out, before = ran
    part = next((out / "turns").glob("*.parquet"))
    flip(part, "user_text", first=True)
    refused = crsweep("sql", out, "select count(distinct user_text) from turns", check=2)
    assert f"{part} is damaged" in refused.stderr
    assert f"rename it to {part.name}{parts.DAMAGED}" in refused.stderr
    assert refused.stderr.count("\n") == 1
    part.rename(part.with_name(part.name + parts.DAMAGED))
    assert "32 to run" in crsweep("run", path).stdout
    assert [read(out) for read in (outcomes, words, prompts)] == before


@pytest.mark.parametrize("table", ["turns", "calls"])
def test_what_lost_its_turns_or_calls_with_a_part_that_is_gone_is_run_again(ran, crsweep, table):
    path, out, before = ran
    next((out / table).glob("*.parquet")).unlink()
    repaired = crsweep("run", path)
    assert "32 attempts lost turns or calls; their episodes are run again" in repaired.stdout
    assert "32 episodes, 32 to run" in repaired.stdout
    assert [read(out) for read in (outcomes, words, prompts)] == before
    again = crsweep("run", path).stdout
    assert "nothing to do" in again
    assert "attempts lost" not in again


def test_only_what_a_damaged_part_held_is_run_again(tmp_path, crsweep):
    path, out = write_sweep(tmp_path, cases={"sample": 10}), tmp_path / "out"
    crsweep("run", path, "run.concurrency=8")
    before = [read(out) for read in (outcomes, words)]
    part = next((out / "turns").glob("*.parquet"))
    rows = pq.read_table(part)
    attempts = sorted(set(rows["attempt_id"].to_pylist()))
    halves = [attempts[:30], attempts[30:]]
    part.unlink()
    for index, half in enumerate(halves):
        mask = pa.array([a in set(half) for a in rows["attempt_id"].to_pylist()])
        pq.write_table(rows.filter(mask), out / "turns" / f"000001-w00{index}-000001.parquet")
    truncate(out / "turns" / "000001-w000-000001.parquet")
    repaired = crsweep("run", path)
    assert "30 attempts lost turns or calls" in repaired.stdout
    assert "80 episodes, 50 done, 30 to run" in repaired.stdout
    assert outcomes(out) == before[0]
    assert words(out) == before[1]


def test_a_foreign_file_is_left_alone_and_a_foreign_part_is_named(ran, crsweep):
    path, out, before = ran
    (out / "episodes" / "notes.txt").write_text("mine")
    assert "nothing to do" in crsweep("run", path).stdout
    pq.write_table(pa.table({"a": [1]}), out / "episodes" / "mine.parquet")
    for words_ in (("run", path), ("plan", path), ("table", out)):
        refused = crsweep(*words_, check=2)
        assert "episodes/mine.parquet has schema version none" in refused.stderr
        assert refused.stderr.count("\n") == 1
    (out / "episodes" / "mine.parquet").unlink()
    assert "nothing to do" in crsweep("run", path).stdout
    assert outcomes(out) == before[0]


def test_a_manifest_that_is_damaged_is_named_and_written_again_once_deleted(ran, crsweep):
    path, out, before = ran
    damaged = ("", ("run", path)), ('{"schema_version": 2, "na', ("table", out))
    for content, words_ in (*damaged, ("[]", ("status", out))):
        (out / "manifest.json").write_text(content)
        refused = crsweep(*words_, check=2)
        assert f"{out}/manifest.json is not a manifest of crsweep" in refused.stderr
        assert "delete it" in refused.stderr
        assert refused.stderr.count("\n") == 1
    (out / "manifest.json").unlink()
    assert "contains no sweep" in crsweep("table", out, check=2).stderr
    again = crsweep("run", path)
    assert "manifest.json is missing and is written again" in again.stdout
    assert "nothing to do" in again.stdout
    assert outcomes(out) == before[0]
    assert "32 of 32" in crsweep("status", out).stdout


def test_a_driver_that_died_before_its_manifest_leaves_a_folder_that_runs(ran, crsweep):
    path, out, before = ran
    for left in (["sweep.yaml"], ["sweep.yaml", "cases"], []):
        for entry in sorted(out.rglob("*"), reverse=True):
            kept = entry.relative_to(out).parts[0] in {*left, "lease.json"}
            if not kept:
                entry.rmdir() if entry.is_dir() else entry.unlink()
        crsweep("run", path)
        assert outcomes(out) == before[0]


def test_a_lost_or_damaged_lease_never_brings_an_epoch_twice(ran, crsweep):
    path, out, before = ran
    (out / "lease.json").write_text('{"epo')
    refused = crsweep("run", path, check=2)
    assert "lease.json is not a lease of crsweep; if no driver runs here, delete it" in (
        refused.stderr
    )
    (out / "lease.json").unlink()
    crsweep("run", path, "cases.sample=6")
    assert json.loads((out / "lease.json").read_text())["epoch"] == 2
    assert before[0].items() <= outcomes(out).items()
    assert len(outcomes(out)) == 48


# A file system of 1 MiB in a mount namespace of its own: nothing outside it sees it.
SMALL = (
    "mount -t tmpfs -o size={size} tmpfs {out} && cd {root} && {command}; "
    "code=$?; {after}; exit $code"
)


def in_namespace(out: Path, size: str, command: str, after: str) -> subprocess.CompletedProcess:
    out.mkdir(exist_ok=True)
    script = SMALL.format(size=size, out=out, root=ROOT, command=command, after=after)
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True, text=True, timeout=LAST_GUARD_SECONDS, check=False,
    )  # fmt: skip


def test_a_full_disk_ends_the_run_loses_nothing_and_once_there_is_room_it_completes(
    tmp_path, crsweep
):
    out, kept = tmp_path / "out", tmp_path / "kept"
    path = write_sweep(tmp_path, cases={"sample": 60})
    full = in_namespace(
        out, "400k", f"{sys.executable} -m runner run {path}", f"cp -r {out} {kept}"
    )
    assert full.returncode == 3, full.stdout + full.stderr
    assert "error: cannot write " in full.stderr
    assert "No space left on device" in full.stderr
    assert "to resume: " in full.stderr
    assert "Traceback" not in full.stderr
    saved = outcomes(kept)
    assert 0 < len(saved) < 480
    out.rmdir()
    kept.rename(out)
    resumed = crsweep("run", path)
    assert f"480 episodes, {len(saved)} done" in resumed.stdout
    after = outcomes(out)
    assert len(after) == 480
    assert saved.items() <= after.items()


# Two commands in one process.
BOTH = """
import sys
from runner.cli.main import main
print(main(["table", sys.argv[1]]), main(["run", sys.argv[2]]))
"""


def test_a_read_only_folder_is_named_and_can_be_read(ran, crsweep):
    path, out, _ = ran
    script = (
        f"mount --bind {out} {out} && mount -o remount,ro,bind {out} && cd {ROOT} && "
        f"{sys.executable} -c '{BOTH}' {out} {path}"
    )
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True, text=True, timeout=LAST_GUARD_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 of 8" in done.stdout
    assert done.stdout.endswith("0 2\n")
    assert done.stderr == (
        f"error: the output folder {out} cannot be written: Read-only file system\n"
    )


STRAY = """
import asyncio, pickle, sys, time
from workers.executors.local import LocalWorker
job, refs = pickle.load(open(sys.argv[1], "rb"))
# Until the new driver knows what it is going to run: all of it.
while "manifest.json" not in job.folder.names():
    time.sleep(0.01)
async def main():
    worker = LocalWorker(job, "w007", 4)
    while refs:
        await worker.add([refs.pop(0) for _ in range(min(4, len(refs)))])
        await worker.report(0.5, True)
    await worker.stop()
asyncio.run(main())
"""


def test_a_stray_worker_of_a_dead_driver_changes_nothing(tmp_path, crsweep, ran_once):
    """It runs the episodes of the new driver once more, in the epoch of the old one."""
    import pickle

    from runner.driver.loading import load_plan
    from workers.job import job_of

    path, out = write_sweep(tmp_path), tmp_path / "out"
    plan = load_plan(path, [])
    job = job_of(plan, probe=False, executor="local", epoch=1, run_id="small-1")
    # Epoch 1 is the dead driver's: it left its lease and a worker.
    out.mkdir()
    dead = {"epoch": 1, "host": os.uname().nodename, "pid": 2**22 - 1, "process_started": 0.0,
            "released": False, "expires": time.time() + 60}  # fmt: skip
    (out / "lease.json").write_text(json.dumps(dead))
    handed = tmp_path / "job"
    handed.write_bytes(pickle.dumps((job, list(plan.episode_tasks()))))
    command = [sys.executable, "-c", STRAY, str(handed)]
    stray = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    crsweep("run", path)
    _, said = stray.communicate(timeout=LAST_GUARD_SECONDS)
    assert stray.returncode == 1
    assert "StoreError: another driver has taken over" in said
    query = (
        "select count(*), count(distinct episode_id), (select count(*) from attempts) from episodes"
    )
    counted = crsweep("sql", out, query, "--format", "csv")
    assert counted.stdout.splitlines()[1] == "32,32,32"
    everything = ("table", "--format", "csv", "--metric", "sr@5", "--metric", "dsr_pooled@5")
    assert crsweep(everything[0], out, *everything[1:]).stdout == (
        crsweep(everything[0], ran_once.out, *everything[1:]).stdout
    )
    assert "nothing to do" in crsweep("run", path).stdout
    names = LocalFolder(out).names("episodes")
    assert len(names) == 1, names


def test_a_compacted_part_of_episodes_that_is_cut_off_is_repaired_too(ran, crsweep):
    path, out, before = ran
    [part] = (out / "episodes").glob("*.parquet")
    compacted = part.rename(part.with_name("compact-000001-000001.parquet"))
    truncate(compacted)
    repaired = crsweep("run", path)
    assert f"{compacted} is damaged; renamed it to" in repaired.stdout
    assert [read(out) for read in (outcomes, words, prompts)] == before


@pytest.mark.parametrize("key", [b"crsweep.schema_version", parts.REPLACES.encode()])
def test_a_footer_that_says_nonsense_is_one_clear_line(ran, crsweep, key):
    path, out, _ = ran
    [part] = (out / "episodes").glob("*.parquet")
    part = part.rename(part.with_name("compact-000001-000001.parquet"))
    table = pq.read_table(part)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, key: b"\xff["}), part)
    refused = crsweep("table", out, check=2)
    assert f"episodes/{part.name}" in refused.stderr
    assert refused.stderr.count("\n") == 1
    again = crsweep("run", path, check=None)
    if key == parts.REPLACES.encode():
        assert f"{part} is damaged; renamed it to" in again.stdout
    else:
        assert again.returncode == 2
        assert "move it elsewhere" in again.stderr
