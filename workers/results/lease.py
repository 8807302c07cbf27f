"""One driver per folder: a lease with expiry and fencing.

1. `lease.json` names the driver's host, pid and epoch. Each new driver increases the epoch, and
   everything that its workers write contains it, so rows of a stray worker can be recognised.
2. A heartbeat renews the lease. A driver that finds another's epoch in it has lost it, and stops.
3. A lease is free if it was released, has expired, or its process is gone. (On the same host, the
   last is known at once, so a killed driver can be restarted immediately.)
4. Reading and replacing it is one atomic step (a file lock, or a conditional put on an object
   store), so two drivers cannot both take it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from agents.core.errors import StoreError, UsageError
from sweeps.storage import folder as folders
from sweeps.storage import parts
from sweeps.storage.folder import Folder, folder_at

_FILE = "lease.json"
EXPIRES_AFTER = 60.0  # seconds: six missed heartbeats, more than any pause of a shared disk
_HEARTBEAT = 10.0
_LOOK_EVERY = 1.0  # at a lease that is waited for


class _Held(Exception):
    """A driver that seems to be alive has the lease."""

    def __init__(self, entry: dict[str, Any]) -> None:
        super().__init__()
        self.entry = entry


class FolderLease:
    """The right to write to a sweep folder. Take it with `take`, give it back with `release`."""

    def __init__(self, folder: Folder, epoch: int) -> None:
        self.folder = folder
        self.epoch = epoch
        self.lost = threading.Event()
        """Whether another driver has taken over the folder."""
        self.when_lost: Callable[[], object] | None = None
        """Called once, from the heartbeat's thread, when the loss of the lease is noticed."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    @classmethod
    def take(
        cls,
        where: Folder | Path,
        *,
        wait: float = 0.0,
        waiting: Callable[[Mapping[str, Any]], object] = lambda held: None,
    ) -> FolderLease:
        """Takes the lease of a folder, which is created if necessary. Raises UsageError if another
        driver holds it.

        Waits at most `wait` seconds for a lease to expire that its driver no longer renews (it may
        have died on another host). One that is being renewed is refused at once. `waiting` is
        called once, with the lease that is waited for.
        """
        until, first = time.monotonic() + wait, None
        while True:
            try:
                return cls._take(folder_at(where))
            except _Held as held:
                if first is None:
                    first = held.entry
                    if wait > 0:
                        waiting(first)
                renewed = (held.entry["epoch"], held.entry.get("expires")) != (
                    first["epoch"],
                    first.get("expires"),
                )
                if renewed or time.monotonic() >= until:
                    raise UsageError(
                        f"the output folder {folder_at(where)} is in use by another driver: "
                        f"{holding(held.entry)}"
                    ) from None
                time.sleep(min(_LOOK_EVERY, max(0.0, until - time.monotonic())))

    @classmethod
    def _take(cls, folder: Folder) -> FolderLease:
        epoch = 0

        def change(content: bytes | None) -> bytes:
            nonlocal epoch
            found = _understood(folder, content)
            if found is not None and _is_alive(found):
                raise _Held(found)
            # Parts may exist without a lease, and no epoch may be used twice.
            epoch = (found["epoch"] if found else parts.last_epoch(folder)) + 1
            return _entry(epoch)

        try:
            folder.update(_FILE, change)
        except OSError as error:
            raise UsageError(
                f"the output folder {folder} cannot be written: {error.strerror or error}"
            ) from None
        return cls(folder, epoch)

    def release(self) -> None:
        """Gives the lease back, if it is still held."""
        self._ended.set()
        self._thread.join()

        def change(content: bytes | None) -> bytes | None:
            found = _understood(self.folder, content)
            if found is None or found["epoch"] != self.epoch:
                return None
            return json.dumps({**found, "released": True}).encode()

        # On a full disk it cannot be given back, but it becomes free when this process ends.
        with contextlib.suppress(OSError):
            self.folder.update(_FILE, change)

    @contextmanager
    def held(self) -> Iterator[None]:
        """For operations that only the holder may do. Raises StoreError if the lease was lost."""

        def own(content: bytes | None) -> None:
            found = _understood(self.folder, content)
            if found is None or found["epoch"] != self.epoch:
                raise _taken_over(self.folder)

        with self.folder.guarded(_FILE, own):
            yield

    def _beat(self) -> None:
        def change(content: bytes | None) -> bytes | None:
            found = _understood(self.folder, content)
            if found is None or found["epoch"] != self.epoch:
                self.lost.set()
                return None
            return _entry(self.epoch)

        while not self._ended.wait(_HEARTBEAT):
            # The disk cannot be written: the lease expires unless it recovers.
            with contextlib.suppress(OSError):
                self.folder.update(_FILE, change)
            if self.lost.is_set():
                if self.when_lost is not None:
                    self.when_lost()
                return


def _taken_over(folder: Folder) -> StoreError:
    return StoreError(f"another driver has taken over {folder}; this one stopped")


def check(folder: Folder, epoch: int) -> None:
    """Raises StoreError if a later driver than that of `epoch` has the lease, or if it cannot be
    read.

    For writers without the lease: workers, whose driver may have been paused for long.
    """
    try:
        found = read(folder)
    except OSError as error:
        raise StoreError(f"cannot read {folder}/{_FILE}: {error.strerror or error}") from error
    if found is not None and found["epoch"] > epoch:
        raise _taken_over(folder)


def read(where: Folder | Path) -> dict[str, Any] | None:
    """The current lease of a folder, or None. Raises UsageError if it is malformed."""
    folder = folder_at(where)
    try:
        return _understood(folder, folders.read(folder, _FILE))
    except FileNotFoundError:
        return None


def _understood(folder: Folder, content: bytes | None) -> dict[str, Any] | None:
    if content is None:
        return None
    try:
        found = json.loads(content)
        found["epoch"] = int(found["epoch"])
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{folder}/{_FILE} is not a lease of crsweep; if no driver runs here, delete it"
        ) from None
    return found


def holder(folder: Folder | Path) -> dict[str, Any] | None:
    """The lease if a living driver holds it."""
    found = read(folder)
    return found if found is not None and _is_alive(found) else None


def holding(found: Mapping[str, Any]) -> str:
    """Describes who holds a lease, and until when if it is another host, whose processes cannot be
    seen."""
    words = f"host {found['host']}, pid {found['pid']}"
    if found["host"] == socket.gethostname():
        return words
    end = datetime.fromtimestamp(float(found["expires"])).astimezone()
    return f"{words}, until {end:%H:%M:%S %Z} unless it renews its lease"


def _entry(epoch: int) -> bytes:
    process = psutil.Process()
    entry = {
        "epoch": epoch,
        "host": socket.gethostname(),
        "pid": process.pid,
        "process_started": process.create_time(),
        "expires": time.time() + EXPIRES_AFTER,
        "released": False,
    }
    return json.dumps(entry).encode()


def _is_alive(found: dict[str, Any]) -> bool:
    if found.get("released"):
        return False
    if found.get("host") == socket.gethostname():
        try:
            process = psutil.Process(int(found["pid"]))
            # By now another process may have the same pid; half a second is the clock's resolution.
            same = abs(process.create_time() - float(found["process_started"])) < 0.5
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
    return float(found.get("expires", 0)) > time.time()
