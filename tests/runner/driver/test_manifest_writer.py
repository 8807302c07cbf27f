"""The one writer of a manifest."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from runner.driver.budget import Budget
from runner.driver.manifest import make_manifest
from runner.driver.manifest_writer import ManifestWriter
from sweeps import manifest as manifests
from sweeps.schema import Caps
from sweeps.storage.folder import LocalFolder
from tests.sweep_files import plan_of, write_sweep
from workers.core.usage import Usage


@pytest.fixture
def lease(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    return SimpleNamespace(folder=LocalFolder(out), epoch=1, lost=threading.Event())


@pytest.fixture
def written(tmp_path, lease):
    """Writes and reads the manifest again; the first of a folder, or one after another."""

    def of(before=None):
        lease.epoch = 1 if before is None else before.driver_epoch + 1
        plan = plan_of(write_sweep(tmp_path))
        return ManifestWriter(lease, make_manifest(plan, lease.epoch, before, "cases"))

    return of


def read(lease):
    found = manifests.read(lease.folder)
    assert found is not None
    return found


def test_a_run_is_recorded_once_it_begins_with_what_it_has_paid_so_far(written, lease):
    writer, budget = written(), Budget(Caps(), {})
    writer.write()
    assert read(lease).runs == []
    writer.begin_run(budget, "crsweep run sweep.yaml")
    budget.now["strong"] = Usage(3, 4)
    budget.gpu_seconds = lambda: 1.26
    writer.write()
    [entry] = read(lease).runs
    assert (entry.tokens, entry.gpu_seconds, entry.stopped) == ({"strong": [3, 4]}, 1.3, None)
    assert read(lease).ended is None
    budget.now["strong"] = Usage(30, 40)
    writer.note_end([{"label": "strong"}], "caps.tokens is reached", {"memory": "too few sales"})
    writer.end_run(by_itself=False)
    [entry] = read(lease).runs
    assert (entry.tokens, entry.stopped) == ({"strong": [30, 40]}, "caps.tokens is reached")
    assert entry.unprepared == {"memory": "too few sales"}
    assert (read(lease).ended, read(lease).engines) == (None, [{"label": "strong"}])


def test_what_earlier_runs_recorded_stays_as_it_was(written, lease):
    first = written()
    first.begin_run(Budget(Caps(), {}, now={"strong": Usage(1, 1)}), "first")
    first.note_engines([{"label": "old"}])
    first.end_run(by_itself=True)
    before = read(lease)
    assert before.ended is not None
    second = written(before)
    second.begin_run(Budget(Caps(), {}), "second")
    second.note_engines([{"label": "new"}])
    after = read(lease)
    assert after.runs[0] == before.runs[0]
    assert [entry.driver_epoch for entry in after.runs] == [1, 2]
    assert (after.ended, after.engines) == (None, [{"label": "old"}, {"label": "new"}])


def test_nothing_is_written_after_another_driver_has_taken_the_folder(written, lease):
    writer = written()
    writer.write()
    before = read(lease)
    writer.begin_run(Budget(Caps(), {}), "crsweep run sweep.yaml")
    lease.lost.set()
    writer.note_engines([{"label": "strong"}])
    writer.end_run(by_itself=True)
    assert read(lease) == before
