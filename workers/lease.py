"""One driver a folder: a lease with expiry and fencing.

1. `lease.json` names the driver's host, pid and epoch. Each new driver raises the epoch, and all
   that its workers write carries it, so what a stray worker writes can be told apart.
2. A heartbeat renews the lease. A driver that finds another's epoch in it has lost it, and stops.
3. A lease is free when it was released, when it expired, or when its process is gone (known at
   once on the same host, so that a killed driver can be started again without waiting).
4. Reading and replacing it is one step under a file lock: two drivers cannot both take it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from agents.core.errors import UsageError

_FILE = "lease.json"
EXPIRES_AFTER = 60.0  # seconds: six missed heartbeats, more than any pause of a shared disk
_HEARTBEAT = 10.0


class FolderLease:
    """The right to write a sweep folder. Take it with `take`, give it back with `release`."""

    def __init__(self, folder: Path, epoch: int) -> None:
        self.folder = folder
        self.epoch = epoch
        self.lost = threading.Event()
        """Another driver has taken the folder over."""
        self.when_lost: Callable[[], object] | None = None
        """Called once, from the heartbeat's thread, when the lease is found lost."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    @classmethod
    def take(cls, folder: Path) -> FolderLease:
        """The lease of `folder`, which is made if need be. UsageError if somebody has it."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                found = read(folder)
                if found is not None and _is_alive(found):
                    raise UsageError(
                        f"the output folder {folder} is in use by another driver: "
                        f"host {found['host']}, pid {found['pid']}"
                    )
                epoch = (found["epoch"] if found else 0) + 1
                _write(folder, _entry(epoch))
        except OSError as error:
            raise UsageError(
                f"the output folder {folder} cannot be written: {error.strerror or error}"
            ) from None
        return cls(folder, epoch)

    def release(self) -> None:
        """Gives the lease back, if it is still held."""
        self._ended.set()
        self._thread.join()
        # On a full disk it cannot be given back; it is free all the same once this process ends.
        with contextlib.suppress(OSError), _locked(self.folder):
            found = read(self.folder)
            if found is not None and found["epoch"] == self.epoch:
                _write(self.folder, {**found, "released": True})

    def _beat(self) -> None:
        while not self._ended.wait(_HEARTBEAT):
            try:
                with _locked(self.folder):
                    found = read(self.folder)
                    if found is None or found["epoch"] != self.epoch:
                        self.lost.set()
                        if self.when_lost is not None:
                            self.when_lost()
                        return
                    _write(self.folder, _entry(self.epoch))
            except OSError:
                # A disk that cannot be written now: the lease runs out unless it recovers.
                continue


def read(folder: Path) -> dict[str, Any] | None:
    """The lease of `folder` as it stands, or None. UsageError if it cannot be understood."""
    try:
        found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        found["epoch"] = int(found["epoch"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{folder / _FILE} is not a lease of crsweep") from None
    return found


def holder(folder: Path) -> dict[str, Any] | None:
    """The lease if a living driver holds it."""
    found = read(folder)
    return found if found is not None and _is_alive(found) else None


def _entry(epoch: int) -> dict[str, Any]:
    process = psutil.Process()
    return {
        "epoch": epoch,
        "host": socket.gethostname(),
        "pid": process.pid,
        "process_started": process.create_time(),
        "expires": time.time() + EXPIRES_AFTER,
        "released": False,
    }


def _is_alive(found: dict[str, Any]) -> bool:
    if found.get("released"):
        return False
    if found.get("host") == socket.gethostname():
        try:
            process = psutil.Process(int(found["pid"]))
            # The same number may by now be another process; half a second is the clock's grain.
            same = abs(process.create_time() - float(found["process_started"])) < 0.5
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
    return float(found.get("expires", 0)) > time.time()


def _write(folder: Path, entry: dict[str, Any]) -> None:
    aside = folder / f".{_FILE}.tmp"
    aside.write_text(json.dumps(entry), encoding="utf-8")
    aside.replace(folder / _FILE)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder / ".lease.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # closing gives the lock back
