"""What the manifest says of a run, kept up to date while it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.driver.budget import Budget
from runner.invocation import for_a_file
from sweeps import manifest as manifests
from sweeps.manifest import Manifest, RunEntry
from sweeps.storage.folder import Folder
from workers.results.lease import FolderLease

_NOTE_EVERY = 10.0  # seconds between notes of what was paid for


class RunRecord:
    """What the manifest says of a run, kept up to date while it goes on."""

    def __init__(
        self, folder: Folder, manifest: Manifest, lease: FolderLease, budget: Budget, again: str
    ) -> None:
        self.folder, self.manifest, self.lease, self.budget = folder, manifest, lease, budget
        self.engines: Sequence[dict[str, Any]] = ()
        self.unavailable = False
        self.sealed = True
        self.unfinished: list[str] = []
        self.entry = RunEntry(
            driver_epoch=lease.epoch,
            started=time.time(),
            caps=budget.caps,
            prices=dict(budget.prices),
            command=for_a_file(again),
            typed_in=str(Path.cwd()),
        )

    def note_engines(self, engines: Sequence[dict[str, Any]]) -> None:
        self.engines = engines
        self.write()

    def write(self) -> None:
        """Writes the manifest, unless another driver has taken the folder over."""
        if self.lease.lost.is_set():
            return
        self.entry.tokens = {m: [u.input, u.output] for m, u in self.budget.now.items()}
        self.entry.gpu_seconds = round(self.budget.gpu_seconds(), 1)
        noted = {
            "engines": [*self.manifest.engines, *self.engines],
            "runs": [*self.manifest.runs, self.entry],
        }
        manifests.write(self.folder, self.manifest.model_copy(update=noted))

    async def keep_writing(self) -> None:
        """Writes now and then: a driver that is killed could not."""
        while True:
            await asyncio.sleep(_NOTE_EVERY)
            self.write()
