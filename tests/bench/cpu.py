"""CPU time of this process and its descendants, sampled so that any time window can be queried."""

from __future__ import annotations

import threading
import time

import numpy as np
import psutil

_EVERY = 0.25


class CpuClock:
    """A context manager. `between` returns the CPU seconds of a window, `total` all of them."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], tuple[str, float]] = {}
        self._times: list[float] = []
        self._sums: list[dict[str, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> CpuClock:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._sample()

    @property
    def total(self) -> float:
        return sum(self._sums[-1].values()) - sum(self._sums[0].values())

    def all(self) -> dict[str, float]:
        """CPU seconds by kind of process, over the whole time."""
        return self.between(self._times[0], self._times[-1])

    def between(self, start: float, end: float) -> dict[str, float]:
        """CPU seconds by kind of process, between two wall-clock times."""
        kinds = {kind for sums in self._sums for kind in sums}
        return {
            kind: float(
                np.interp(end, self._times, [s.get(kind, 0.0) for s in self._sums])
                - np.interp(start, self._times, [s.get(kind, 0.0) for s in self._sums])
            )
            for kind in kinds
        }

    def _run(self) -> None:
        while not self._end.wait(_EVERY):
            self._sample()

    def _sample(self) -> None:
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            try:
                times, started = process.cpu_times(), process.create_time()
                command = " ".join(process.cmdline()[:3])
                kind = "this process" if process == me else _kind(process.name(), command)
            except psutil.Error:
                continue  # it has ended; its last sample stays
            self._seen[process.pid, started] = (kind, times.user + times.system)
        sums: dict[str, float] = {}
        for kind, seconds in self._seen.values():
            sums[kind] = sums.get(kind, 0.0) + seconds
        self._times.append(time.time())
        self._sums.append(sums)


def _kind(name: str, command: str) -> str:
    for words, kind in (
        ("EngineCore", "engine"),
        ("VLLM::", "engine"),
        ("ModelReplica", "replica"),
        ("EpisodeWorker", "workers"),
        ("CacheActor", "cache"),
        ("LatencyServer", "test model"),
        ("raylet", "ray"),
        ("gcs_server", "ray"),
        ("ray::", "ray"),
        ("dashboard", "ray"),
    ):
        if words in command or words in name:
            return kind
    return "other"
