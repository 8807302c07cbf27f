"""One driver a folder."""

import json
import os
import subprocess
import sys
import time

import pytest

from agents.core.errors import UsageError
from tests.conftest import LAST_GUARD_SECONDS
from workers.results import lease
from workers.results.lease import FolderLease

HOLD = "import sys; from pathlib import Path; from workers.results.lease import FolderLease; " \
    "FolderLease.take(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"  # fmt: skip


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lease of tmp_path/out."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_driver_is_refused_with_host_and_pid_of_the_first(tmp_path, holder):
    with pytest.raises(UsageError, match=rf"in use by another driver: host .+, pid {holder.pid}"):
        FolderLease.take(tmp_path / "out")


def test_a_killed_driver_can_be_followed_at_once_and_the_epoch_rises(tmp_path, holder):
    holder.kill()
    holder.wait()
    taken = FolderLease.take(tmp_path / "out")
    assert taken.epoch == 2
    taken.release()
    again = FolderLease.take(tmp_path / "out")
    assert again.epoch == 3
    again.release()


def test_a_lease_of_another_host_holds_until_it_expires(tmp_path):
    entry = {"epoch": 4, "host": "elsewhere", "pid": 1, "process_started": 0.0, "released": False}
    end = time.time() + LAST_GUARD_SECONDS
    (tmp_path / "lease.json").write_text(json.dumps({**entry, "expires": end}))
    until = time.strftime("%H:%M:%S", time.localtime(end))
    with pytest.raises(UsageError, match=f"host elsewhere, pid 1, until {until} .* unless it ren"):
        FolderLease.take(tmp_path)
    (tmp_path / "lease.json").write_text(json.dumps({**entry, "expires": time.time() - 1}))
    taken = FolderLease.take(tmp_path)
    assert taken.epoch == 5
    taken.release()


def test_a_reused_pid_is_not_taken_for_the_dead_driver(tmp_path):
    entry = {"epoch": 1, "host": lease.socket.gethostname(), "pid": os.getpid(), "released": False}
    stale = {**entry, "process_started": 1.0, "expires": time.time() + LAST_GUARD_SECONDS}
    (tmp_path / "lease.json").write_text(json.dumps(stale))
    FolderLease.take(tmp_path).release()


def test_a_driver_that_was_replaced_learns_it_and_does_not_release_the_others_lease(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(lease, "_HEARTBEAT", 0.05)
    taken = FolderLease.take(tmp_path)
    other = {**json.loads((tmp_path / "lease.json").read_text()), "epoch": 9, "host": "elsewhere"}
    (tmp_path / "lease.json").write_text(json.dumps(other))
    assert taken.lost.wait(LAST_GUARD_SECONDS)
    taken.release()
    assert json.loads((tmp_path / "lease.json").read_text())["released"] is False


def test_a_file_that_is_no_lease_is_refused_in_words(tmp_path):
    (tmp_path / "lease.json").write_text("[1]")
    with pytest.raises(UsageError, match="not a lease"):
        FolderLease.take(tmp_path)


def write_lease(folder, **changes):
    entry = {"epoch": 4, "host": "elsewhere", "pid": 1, "process_started": 0.0, "released": False}
    end = time.time() + LAST_GUARD_SECONDS
    (folder / "lease.json").write_text(json.dumps({**entry, "expires": end, **changes}))


@pytest.fixture
def looks(monkeypatch):
    """What happens while a lease is waited for: one of these at each look; time passes with it."""
    steps, clock = [], [time.time()]

    def sleep(seconds):
        clock[0] += seconds
        if steps:
            steps.pop(0)()

    monkeypatch.setattr(lease.time, "sleep", sleep)
    monkeypatch.setattr(lease.time, "monotonic", lambda: clock[0])
    return steps


def test_an_expiring_lease_is_waited_for(tmp_path, looks):
    write_lease(tmp_path)
    looks += [lambda: None, lambda: write_lease(tmp_path, expires=time.time() - 1)]
    waited = []
    # The one that has expired by now may differ from the first: it was not renewed.
    taken = FolderLease.take(tmp_path, wait=60, waiting=waited.append)
    assert taken.epoch == 5
    assert [held["pid"] for held in waited] == [1]
    taken.release()


def test_a_lease_that_is_renewed_meanwhile_is_refused_at_once(tmp_path, looks):
    write_lease(tmp_path)
    later = time.time() + 2 * LAST_GUARD_SECONDS
    looks += [lambda: None, lambda: write_lease(tmp_path, expires=later)]
    looks += [lambda: pytest.fail("it waits for a driver that lives")] * 3
    with pytest.raises(UsageError, match="in use by another driver: host elsewhere, pid 1"):
        FolderLease.take(tmp_path, wait=60)


def test_waiting_for_a_lease_ends(tmp_path, looks):
    write_lease(tmp_path)
    looks += [lambda: None] * 59 + [lambda: None, lambda: pytest.fail("60 s are over")]
    with pytest.raises(UsageError, match="in use by another driver"):
        FolderLease.take(tmp_path, wait=60)
