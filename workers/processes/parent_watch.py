"""Makes a process end with its parent, so that nothing outlives it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

_LOOK_EVERY = 0.5


def end_with_parent() -> None:
    """Ends this process and all its children soon after its parent ends.

    Ray ends the children of its own workers, but not if the raylet itself is killed: then an actor
    would continue to compute and commit as long as it has work.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY)
        end_now()

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def end_engine_with_parent() -> None:
    """The same, for each process of an engine, where vLLM calls it; does nothing in other
    processes.

    An engine is a child of `multiprocessing`; the process that started it is not.
    """
    if multiprocessing.parent_process() is not None:
        end_with_parent()


def end_now() -> None:
    """Kills all children of this process, including stopped ones, and exits at once."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            child.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue  # it was quicker
    os._exit(1)
