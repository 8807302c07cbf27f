"""Where the sockets between an engine's processes are, and how they are cleaned up.

vLLM leaves them in the folder for temporary files when it is killed. But a socket needs its name
only until both ends are connected: once the engine serves, all names can be removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

VARIABLE = "VLLM_RPC_BASE_PATH"
"""The folder for vLLM's sockets. Its value at the start of a run determines the parent of ours."""

PREFIX = "crsweep-vllm-"
_RANDOM = 8  # characters that `mkdtemp` adds
_SOCKET = 1 + 36  # a slash and a UUID
_LONGEST = 107  # bytes of a socket's path: `sun_path` of unix(7) without its end
_LEFT_AFTER = 86_400.0  # seconds: no model loads for longer

_starting = 0
_stack = ExitStack()


@contextmanager
def own_sockets() -> Iterator[None]:
    """Makes an engine that starts in the block create its sockets in a folder that is removed at
    the end.

    Engines that start at the same time share it, because vLLM reads it from the environment of the
    process.
    """
    global _starting
    if _starting == 0:
        _stack.enter_context(_folder())
    _starting += 1
    try:
        yield
    finally:
        _starting -= 1
        if _starting == 0:
            _stack.close()


@contextmanager
def _folder() -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    parent = _parent(Path(before or tempfile.gettempdir()))
    _remove_left(parent)
    path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
    os.environ[VARIABLE] = path
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        shutil.rmtree(path, ignore_errors=True)  # an engine removes some itself when it ends


def _parent(given: Path) -> Path:
    """`given`, or `/tmp` if a socket's path would be too long."""
    length = len(os.fsencode(given)) + 1 + len(PREFIX) + _RANDOM + _SOCKET
    return given if length <= _LONGEST else Path("/tmp")


def _remove_left(parent: Path) -> None:
    """Removes the folders of engines that were killed while starting."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            age = time.time() - folder.stat().st_mtime
        except FileNotFoundError:
            continue  # removed by another process in the meantime
        if age > _LEFT_AFTER:
            shutil.rmtree(folder, ignore_errors=True)  # may belong to another user
