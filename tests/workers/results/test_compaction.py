"""Compaction: the same rows in fewer files, whenever its process dies."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.errors import StoreError
from analysis.results import Results
from sweeps.storage import parts
from sweeps.storage.folder import LocalFolder
from tests.analysis.builder import Built, grid_of
from tests.workers.results.test_bundles import TURN, episode
from workers.results import bundles, compaction
from workers.results.bundles import BundleWriter
from workers.results.compaction import compact, remove_replaced
from workers.results.lease import FolderLease

TABLES = ("calls", "turns", "episodes")


class Lease:
    """The right of a driver without rivals."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch

    def held(self):
        return nullcontext()


def bundle(folder: Path, numbers, epoch: int = 1, writer: str = "w000") -> None:
    rows = [episode(n, driver_epoch=epoch) for n in numbers]
    turns = [{**TURN, "attempt_id": r["attempt_id"], "turn": t} for r in rows for t in (0, 1)]
    BundleWriter(folder, epoch, writer).write({"turns": turns, "episodes": rows})


def rows_of(folder: Path, table: str) -> list[dict]:
    """Every row that counts, in the order of files and of rows in them."""
    names = parts.live(LocalFolder(folder), table)
    return [row for name in names for row in pq.ParquetFile(folder / name).read().to_pylist()]


def all_rows(folder: Path) -> dict[str, list[dict]]:
    return {table: sorted(rows_of(folder, table), key=str) for table in TABLES}


def files(folder: Path) -> dict[str, list[str]]:
    return {table: LocalFolder(folder).names(table) for table in TABLES}


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(compaction, "ATTEMPTS", 20)


def test_rows_stay_as_they_were_and_in_order_in_few_files(tmp_path):
    for number in range(14):
        bundle(tmp_path, range(number * 5, number * 5 + 5), writer=f"w{number:03d}")
    before = [rows_of(tmp_path, table) for table in TABLES]
    assert compact(LocalFolder(tmp_path), Lease()) == 8
    assert [rows_of(tmp_path, table) for table in TABLES] == before
    names = [f"compact-000001-{n:06d}.parquet" for n in (1, 2, 3, 4)]
    assert files(tmp_path) == {"calls": [], "turns": names, "episodes": names}
    assert [pq.read_metadata(tmp_path / "episodes" / n).num_rows for n in names] == [20, 20, 20, 10]
    assert [pq.read_metadata(tmp_path / "episodes" / n).num_row_groups for n in names] == [1] * 4
    assert compact(LocalFolder(tmp_path), Lease(2)) == 0


@settings(max_examples=30)
@given(runs=st.lists(st.lists(st.integers(1, 30), max_size=12), min_size=1, max_size=4))
def test_however_runs_follow_each_other_files_are_few_and_no_row_is_lost(tmp_path_factory, runs):
    folder = tmp_path_factory.mktemp("out")
    total = 0
    for epoch, sizes in enumerate(runs, start=1):
        for index, size in enumerate(sizes):
            bundle(folder, range(total, total + size), epoch, f"w{index:03d}")
            total += size
        compact(LocalFolder(folder), Lease(epoch))
        for table in ("turns", "episodes"):
            assert len(LocalFolder(folder).names(table)) <= -(-total // compaction.ATTEMPTS)
        assert sorted(r["episode_id"] for r in rows_of(folder, "episodes")) == sorted(
            f"e{n}" for n in range(total)
        )


def test_what_a_stray_worker_adds_later_is_one_more_part_and_counts_once(tmp_path):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0", "u1"])
    for case_id in built.case_ids:
        built.episode(built.cells[0], case_id, 0, success_turn=1)
    built.write(tmp_path)
    compact(LocalFolder(tmp_path), Lease(2))
    stray = Built(built.cells, seeds=[0], case_ids=built.case_ids)
    row = stray.episode(built.cells[0], "u0", 0, attempt=1, success_turn=2)
    BundleWriter(tmp_path, 1, "w009").write({"episodes": [row]})
    results = Results.open(tmp_path)
    assert results.query("SELECT count(*) FROM attempts").fetchone() == (3,)
    found = results.query("SELECT attempt_id FROM episodes ORDER BY 1").fetchall()
    assert found == [("a/s-u0-0-0",), ("a/s-u1-0-0",)]


def test_what_a_lost_worker_has_committed_is_found_in_a_compacted_file(tmp_path):
    bundle(tmp_path, range(3), epoch=1)
    bundle(tmp_path, range(3, 5), epoch=2, writer="w001")
    bundle(tmp_path, range(5, 8), epoch=2, writer="w002")
    compact(LocalFolder(tmp_path), Lease(2))
    assert sorted(bundles.committed_by(tmp_path, 2, "w001")) == ["e3.1.0", "e4.1.0"]
    assert bundles.committed(tmp_path) == {f"e{n}" for n in range(8)}


def test_many_row_groups_bound_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "_GROUP_BYTES", 1)
    for number in range(3):
        bundle(tmp_path, [number], writer=f"w{number}")
    before = all_rows(tmp_path)
    compact(LocalFolder(tmp_path), Lease())
    assert all_rows(tmp_path) == before
    [name] = LocalFolder(tmp_path).names("turns")
    assert pq.read_metadata(tmp_path / "turns" / name).num_row_groups == 3


def test_a_driver_that_lost_its_lease_compacts_nothing(tmp_path):
    lease = FolderLease.take(tmp_path)
    for number in range(3):
        bundle(tmp_path, [number], writer=f"w{number}")
    before = files(tmp_path)
    entry = json.loads((tmp_path / "lease.json").read_text())
    (tmp_path / "lease.json").write_text(json.dumps({**entry, "epoch": 9}))
    with pytest.raises(StoreError, match="another driver has taken over"):
        compact(LocalFolder(tmp_path), lease)
    lease.release()
    assert files(tmp_path) == before


def merged_from(folder: Path, name: str, old: list[str]) -> None:
    """A compacted file of the parts `old` of episodes, as another driver makes it."""
    compaction.rewrite(LocalFolder(folder), "episodes", [f"episodes/{n}" for n in old], Lease(7))
    [made] = [n for n in LocalFolder(folder).names("episodes") if n.startswith("compact-000007")]
    (folder / "episodes" / made).rename(folder / "episodes" / name)


def test_of_two_files_with_the_same_rows_the_one_that_has_all_counts(tmp_path):
    for number in range(3):
        bundle(tmp_path, [number], writer=f"w{number}")
    kept = {n: (tmp_path / "episodes" / n).read_bytes() for n in files(tmp_path)["episodes"]}
    merged_from(tmp_path, "compact-000001-000001.parquet", list(kept)[:2])
    for name, content in kept.items():
        (tmp_path / "episodes" / name).write_bytes(content)
    merged_from(tmp_path, "compact-000002-000001.parquet", list(kept))
    assert [r["episode_id"] for r in rows_of(tmp_path, "episodes")] == ["e0", "e1", "e2"]
    for name, content in kept.items():
        (tmp_path / "episodes" / name).write_bytes(content)
    (tmp_path / "episodes" / "compact-000002-000001.parquet").unlink()
    merged_from(tmp_path, "compact-000002-000002.parquet", list(kept)[1:])
    with pytest.raises(StoreError, match=r"compact-.* and compact-.* hold the same rows"):
        rows_of(tmp_path, "episodes")


def test_a_reader_that_listed_the_parts_before_reads_the_same_rows_after(tmp_path):
    built = Built(grid_of("a", backbones=["s"]), case_ids=[f"u{n}" for n in range(10)])
    for case_id in built.case_ids:
        for seed in built.seeds:
            built.episode(built.cells[0], case_id, seed, success_turn=1, turns=[{}])
    results = Results.open(built.write(tmp_path))
    query = "SELECT * FROM turns JOIN episodes USING (attempt_id) ORDER BY attempt_id, turn"
    before = results.query(query).fetchall()
    assert compact(LocalFolder(tmp_path), Lease()) > 0
    assert results.query(query).fetchall() == before


class Halved(io.FileIO):
    """A file whose last write before the death of the process is done by half."""

    def __init__(self, path, count) -> None:
        super().__init__(path, "wb")
        self._count = count

    def write(self, data):
        half = bytes(data)[: len(data) // 2]
        self._count("write", lambda: io.FileIO.write(self, half))
        return super().write(data)


def compact_and_die(folder: Path, kill_at: int, noted: IO[str]) -> None:
    """Compacts, notes every call that changes something, and dies of SIGKILL at the n-th."""
    calls = 0

    def count(name: str, last: Callable[[], object] = lambda: None) -> None:
        nonlocal calls
        calls += 1
        print(name, file=noted, flush=True)
        if calls == kill_at:
            last()
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*given: object, **named: object) -> object:
            count(name)
            return real(*given, **named)

        return call

    real_open = io.open

    def opened(path, mode="r", *rest, **named):
        if mode != "wb":
            return real_open(path, mode, *rest, **named)
        count("open")
        return io.BufferedWriter(Halved(path, count), 1024)

    io.open = opened  # type: ignore[assignment]
    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, counted(name))
    compact(LocalFolder(folder), Lease(2))
    print("whole", file=noted, flush=True)


def child(folder: Path, kill_at: int) -> list[str]:
    """Compacts in a process of its own that dies at its n-th call; what it called."""
    noted = folder.parent / "noted"
    pid = os.fork()
    if pid == 0:
        try:
            with noted.open("w") as file:
                compact_and_die(folder, kill_at, file)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return noted.read_text().split()


def test_killed_at_any_call_readers_see_the_same_rows_and_the_next_run_ends_the_same(tmp_path):
    whole = tmp_path / "whole"
    for number in range(7):
        bundle(whole, range(number * 4, number * 4 + 4), writer=f"w{number:03d}")
    kept = {p.relative_to(whole): p.read_bytes() for p in whole.rglob("*.parquet")}
    before = all_rows(whole)
    calls = child(whole, 0)
    assert calls[-1] == "whole"
    assert set(calls) == {"open", "write", "fsync", "replace", "unlink", "whole"}
    for kill_at in range(1, len(calls)):
        folder = tmp_path / str(kill_at)
        for path, content in kept.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        assert child(folder, kill_at) == calls[:kill_at]
        assert all_rows(folder) == before, calls[:kill_at]
        assert bundles.committed(folder) == {f"e{n}" for n in range(28)}
        LocalFolder(folder).remove_leftovers(TABLES)
        remove_replaced(LocalFolder(folder))
        compact(LocalFolder(folder), Lease(3))
        assert all_rows(folder) == before, calls[:kill_at]
        assert {t: len(n) for t, n in files(folder).items()} == {
            "calls": 0, "turns": 2, "episodes": 2,
        }  # fmt: skip
        assert not list(folder.rglob(".*.tmp"))


def test_a_disk_that_is_full_is_named_and_the_folder_reads_as_before(tmp_path, monkeypatch):
    for number in range(3):
        bundle(tmp_path, [number], writer=f"w{number}")
    before = all_rows(tmp_path), files(tmp_path)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=f"cannot compact {tmp_path}: No space left on device"):
        compact(LocalFolder(tmp_path), Lease())
    assert (all_rows(tmp_path), files(tmp_path)) == before
    assert not list(tmp_path.rglob(".*.tmp"))


def test_nothing_is_deleted_before_what_replaces_it_is_durable(tmp_path, monkeypatch):
    """What a loss of power may take is what was not flushed: the order of the calls says it."""
    for number in range(3):
        bundle(tmp_path, [number], writer=f"w{number}")
    done: list[tuple[str, str]] = []
    real = {name: getattr(os, name) for name in ("fsync", "replace", "unlink")}

    def fsync(handle):
        done.append(("fsync", str(Path(f"/proc/self/fd/{handle}").readlink())))
        real["fsync"](handle)

    def replace(source, target):
        done.append(("replace", str(target)))
        real["replace"](source, target)

    def unlink(path):
        done.append(("unlink", str(path)))
        real["unlink"](path)

    for name, fake in (("fsync", fsync), ("replace", replace), ("unlink", unlink)):
        monkeypatch.setattr(os, name, fake)
    compact(LocalFolder(tmp_path), Lease())
    where = tmp_path / "turns"
    made = "compact-000001-000001.parquet"
    aside = where / f".{made}.tmp"
    assert done[:3] == [
        ("fsync", str(aside)),
        ("replace", str(where / made)),
        ("fsync", str(where)),
    ]
    assert [call for call, _ in done[3:6]] == ["unlink"] * 3


def test_parts_of_the_version_before_are_read_merged_and_lack_what_it_did_not_have(
    tmp_path, monkeypatch
):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0", "u1"])
    for case_id in built.case_ids:
        built.episode(built.cells[0], case_id, 0, success_turn=1, artifacts=[("tree", "d1")])
    built.write(tmp_path, parts=1, schema_version=2, oldest_parts=2)
    [name] = LocalFolder(tmp_path).names("episodes")
    rows = pq.read_table(tmp_path / "episodes" / name)
    older = rows.slice(0, 1).drop_columns(["artifacts"])
    footer = {b"crsweep.schema_version": b"2"}
    pq.write_table(older.replace_schema_metadata(footer), tmp_path / "episodes" / name)
    BundleWriter(tmp_path, 2, "w000").write({"episodes": rows.slice(1, 1).to_pylist()})

    def found():
        query = "SELECT episode_id, artifacts FROM attempts ORDER BY 1"
        return Results.open(tmp_path).query(query).fetchall()

    before = found()
    assert [artifacts for _, artifacts in before] == [None, {"tree": "d1"}]
    assert len(bundles.committed(tmp_path)) == 2
    assert compact(LocalFolder(tmp_path), Lease(2)) == 1
    assert found() == before
