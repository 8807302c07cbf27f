"""Evaluates a free condition (`where`) in a separate process that is killed when its time is up.

DuckDB checks for interrupts every 2,048 rows, and its memory limit does not count every value: one
`repeat('x', 4000000000)` takes a minute. A process can be killed at any moment, and the system
limits its memory.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from agents.core.errors import CrsweepError, InternalError, StoreError, UsageError
from analysis.results import Results

MEMORY = "512MB"
_PROCESS_BYTES = 2 * 2**30
_OPENING = 60.0  # seconds that a process may take to start and to open the folder
_ROOT = Path(__file__).parents[2]
_ONE_AT_A_TIME = threading.Semaphore(2)


def matching(
    folder: str, condition: str, *, seconds: float, cancelled: Callable[[], bool]
) -> np.ndarray:
    """Hashes (DuckDB's) of the ids of the attempts in `episodes` that match `condition`.

    `folder` is an absolute path or a URI. Raises UsageError for SQL that is wrong, not allowed,
    slow, or no longer needed (`cancelled`).
    """
    command = [sys.executable, "-c", "from analysis.viewer.conditions import main; main()"]
    with (
        _ONE_AT_A_TIME,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT, bufsize=0
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        pieces: list[bytes] = []
        opened = threading.Event()

        def read(stream: object = process.stdout) -> None:
            while piece := stream.read(1 << 20):  # type: ignore[attr-defined]
                pieces.append(piece)
                opened.set()

        reader = threading.Thread(target=read, daemon=True)
        try:
            reader.start()
            with suppress(BrokenPipeError):  # it has died; its exit code says more
                process.stdin.write(json.dumps({"folder": folder, "condition": condition}).encode())
                process.stdin.close()
            deadline = time.monotonic() + _OPENING
            while reader.is_alive():
                reader.join(0.05)
                if opened.is_set():
                    opened.clear()
                    deadline = time.monotonic() + seconds
                if cancelled():
                    raise UsageError("where: the page was left before the condition was answered")
                if time.monotonic() > deadline:
                    raise UsageError(f"where: the condition took longer than {seconds:g} s")
            code = process.wait()  # it has closed its output: it is ending
        finally:
            process.kill()
            reader.join()
    return _understood(b"".join(pieces), code)


def _understood(answer: bytes, code: int) -> np.ndarray:
    _, _, rest = answer.partition(b"\n")  # what is before it said that the folder is open
    head, _, body = rest.partition(b"\n")
    if head == b"hashes":
        return np.frombuffer(body, np.uint64)
    if head == b"usage":
        raise UsageError(body.decode())
    if head == b"store":
        raise StoreError(body.decode())
    if head == b"memory" or code < 0:  # ended by a signal: abort() where no memory is left
        raise UsageError("where: the condition needs more memory than is allowed")
    raise InternalError(f"the process that answers a condition ended with exit code {code}")


def chosen(results: Results, condition: str) -> np.ndarray:
    """The result of `matching`, computed in this process. `results` must be confined already."""
    # As one whole condition, before it is a part of a larger one.
    results.check_select(f"SELECT 1 FROM episodes WHERE {condition}")
    text = f"SELECT hash(attempt_id) AS attempt FROM episodes WHERE ({condition}\n)"
    results.check_select(text)
    return np.asarray(results.query(text).fetchnumpy()["attempt"])


def main() -> None:
    """Evaluates one condition, given as JSON on standard input."""
    asked = json.loads(sys.stdin.buffer.read())
    kind, body = "memory", b""
    try:
        results = Results.open(asked["folder"])
        results.confine(MEMORY)
        resource.setrlimit(resource.RLIMIT_DATA, (_PROCESS_BYTES, _PROCESS_BYTES))
        _write(b".")  # from here on, the time counts
        found = chosen(results, asked["condition"])
        kind, body = "hashes", np.ascontiguousarray(found, np.uint64).tobytes()
    except StoreError as error:
        kind, body = "store", error.message.encode()
    except CrsweepError as error:
        kind, body = "usage", error.message.encode()
    except MemoryError:
        pass
    _write(f"\n{kind}\n".encode() + body)


def _write(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
