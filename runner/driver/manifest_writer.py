"""The only writer of a folder's manifest while a driver holds the folder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.core.invocation import for_a_file
from runner.driver.budget import Budget
from sweeps import manifest as manifests
from sweeps.manifest import ConcurrencyEntry, Manifest, RunEntry
from workers.results.lease import FolderLease

_WRITE_EVERY = 10.0  # seconds between updates of what was paid for


class ManifestWriter:
    """Owns the manifest of a folder: the plan, and the current run once it has begun.

    After another driver has taken over the folder, nothing more is written.
    """

    def __init__(self, lease: FolderLease, manifest: Manifest) -> None:
        self._lease, self._manifest = lease, manifest
        self._run: RunEntry | None = None
        self._budget: Budget | None = None
        self.concurrency: Callable[[], ConcurrencyEntry | None] = lambda: None
        """The changes of the concurrency so far."""
        self._engines: Sequence[dict[str, Any]] = ()

    def begin_run(self, budget: Budget, command: str) -> None:
        """Adds an entry for this run, with what `budget` says it paid for.

        `command` is the command that was typed, if any.
        """
        self._budget = budget
        self._run = RunEntry(
            driver_epoch=self._lease.epoch,
            started=time.time(),
            caps=budget.caps,
            prices=dict(budget.prices),
            command=for_a_file(command),
            typed_in=str(Path.cwd()),
        )

    def note_engines(self, engines: Sequence[dict[str, Any]]) -> None:
        """Records what the engines of this run have served so far."""
        self._engines = engines
        self.write()

    def note_end(
        self,
        engines: Sequence[dict[str, Any]],
        stopped: str | None,
        unprepared: Mapping[str, str],
    ) -> None:
        """Records what the engines served in total, why the run stopped early, if so, and why
        artifacts (by title) could not be made."""
        assert self._run is not None
        self._engines = engines
        update = {"stopped": stopped, "unprepared": dict(unprepared)}
        self._run = self._run.model_copy(update=update)

    def end_run(self, *, by_itself: bool) -> None:
        """Writes the final state of the run; its end time only if it ended `by_itself`."""
        if by_itself:
            self._manifest = self._manifest.model_copy(update={"ended": time.time()})
        self.write()

    def write(self) -> None:
        """Writes the manifest as it is now."""
        if self._lease.lost.is_set():
            return
        update: dict[str, Any] = {}
        if self._run is not None and self._budget is not None:
            paid = {
                "tokens": {m: [used.input, used.output] for m, used in self._budget.now.items()},
                "gpu_seconds": round(self._budget.gpu_seconds(), 1),
                "concurrency": self.concurrency(),
            }
            update["engines"] = [*self._manifest.engines, *self._engines]
            update["runs"] = [*self._manifest.runs, self._run.model_copy(update=paid)]
        manifests.write(self._lease.folder, self._manifest.model_copy(update=update))

    async def keep_writing(self) -> None:
        """Writes at intervals, because a driver that is killed cannot write at the end."""
        while True:
            await asyncio.sleep(_WRITE_EVERY)
            self.write()
